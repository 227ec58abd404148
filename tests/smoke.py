"""A little of everything that is compiled: does it work here, with the package alone installed?

No test of pytest, which the environments of wheels do not have: tests/wheels.py runs it in each.
"""

import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import lshjoin
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

rng = np.random.default_rng(0)
vectors = rng.standard_normal((3_000, 24), dtype=np.float32)
true = ((vectors[:50, None] - vectors) ** 2).sum(axis=2)
np.fill_diagonal(true, np.inf)
nearest = true.argsort(axis=1)[:, :5]

# NumPy, exactly and for a recall; a plan gives the same on every machine.
assert (lshjoin.knn_join(vectors, k=5, recall=1.0).indices[:50] == nearest).all()
plan = lshjoin.JoinPlan.ivf(lists=20, probes=10)
assert (lshjoin.knn_join(vectors, k=5, plan=plan).indices[:50] == nearest).mean() > 0.5
lims, _, _ = lshjoin.radius_join(vectors[:50], vectors, radius=5.0)
assert lims[-1] == (true < 25).sum() + 50

# Data frames.
frame = pa.table({"id": range(3_000), "vector": list(vectors)})
assert lshjoin.join(frame, on="vector", k=1).num_rows == 3_000
lsh = lshjoin.BucketedRandomProjectionLSH(inputCol="vector", outputCol="hashes", bucketLength=2.0)
assert lsh.fit(frame).transform(frame).num_rows == 3_000

# Files, the command and an index on disk.
with tempfile.TemporaryDirectory() as directory:
    items, out = Path(directory, "items.npy"), Path(directory, "pairs.parquet")
    np.save(items, vectors)
    command = [sys.executable, "-m", "lshjoin", "knn", items, "-k", "5", "--out", out]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert pq.read_metadata(out).num_rows == 15_000
    lshjoin.Index.build(vectors).save(Path(directory, "index"))
    index = lshjoin.Index.load(Path(directory, "index"))
    assert (index.knn(vectors[:50], k=1).indices[:, 0] == range(50)).all()
    del index  # Windows deletes no file that is mapped

print(f"lshjoin {lshjoin.__version__} on Python {platform.python_version()}, {platform.platform()},"
      f" {lshjoin.cpu_features()[-1]}")  # fmt: skip
