"""UMAP of 100,000 rows, with the neighbours found by lshjoin.

    python examples/umap_100k.py [ROWS]

UMAP begins with the nearest neighbours of all rows. Here `knn_join` finds them, and UMAP lays them
out. In a good layout, rows that were together are together: that is counted at the end.
"""

import sys
from time import perf_counter

import numpy as np
import umap
from lshjoin import knn_join

rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
rng = np.random.default_rng(0)

# 20 groups in 64 dimensions.
centers = rng.standard_normal((20, 64), dtype=np.float32)
groups = rng.integers(0, 20, rows)
vectors = centers[groups] + 0.8 * rng.standard_normal((rows, 64), dtype=np.float32)

start = perf_counter()
found = knn_join(vectors, k=14, recall=0.9)
print(f"neighbours of {rows:,} rows in {perf_counter() - start:.1f} s")
print(f"recall {found.report.recall}")

# UMAP counts a row itself as the first of its neighbours: 14 and one. With `random_state` it would
# run on one thread.
start = perf_counter()
reducer = umap.UMAP(n_neighbors=15, precomputed_knn=found.to_umap(), init="pca")
layout = reducer.fit_transform(vectors)
print(f"laid out in {perf_counter() - start:.1f} s")

near = knn_join(layout, k=10).indices
together = (groups[near] == groups[:, None]).mean()
print(f"of the 10 nearest rows in the layout {together:.1%} are of the same group")
