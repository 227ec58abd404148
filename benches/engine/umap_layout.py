"""UMAP of embeddings, with neighbours of `knn_join` and with its own: seconds of each part.

UMAP's own are of pynndescent, which compiles itself in the first call: each way runs once on few
rows before. Writes bench-results/umap_layout.json and .md.
"""

import argparse
import warnings
from time import perf_counter
from typing import Any

import numpy as np
import umap
from lshjoin import knn_join
from lshjoin._lshjoin import isa
from umap.umap_ import nearest_neighbors

from benches import record
from benches.data.embeddings import embeddings
from benches.data.rows import Rows
from benches.report.umap_layout import umap_table
from benches.systems.protocol import THREADS

NEIGHBORS = 15
RECALL = 0.9
SAMPLE = 1_000


def ours(rows: Rows) -> tuple[Any, float]:
    start = perf_counter()
    found = knn_join(
        rows, k=NEIGHBORS - 1, metric="cosine", recall=RECALL, num_threads=THREADS
    ).to_umap()
    return found, perf_counter() - start


def own(rows: Rows) -> tuple[Any, float]:
    start = perf_counter()
    found = nearest_neighbors(
        rows, NEIGHBORS, "cosine", {}, False, np.random.RandomState(0), n_jobs=THREADS
    )
    return found, perf_counter() - start


def lay_out(rows: Rows, found: Any) -> float:
    start = perf_counter()
    umap.UMAP(
        n_neighbors=NEIGHBORS, metric="cosine", precomputed_knn=found, init="pca", n_jobs=THREADS
    ).fit(rows)
    return perf_counter() - start


def recall(rows: Rows, indices: Any) -> float:
    """Of some rows' neighbours without the row itself, which is the first."""
    some = np.random.default_rng(0).choice(len(rows), SAMPLE, replace=False)
    true = knn_join(rows[some], rows, k=NEIGHBORS, metric="cosine", recall=1.0).indices
    shared = [
        len({*near} & {*found} - {row}) / (NEIGHBORS - 1)
        for row, near, found in zip(some, true, indices[some], strict=True)
    ]
    return float(np.mean(shared))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--data-seed", type=int, default=0)
    chosen = options.parse_args()
    warnings.simplefilter("ignore")  # of UMAP: that it can't transform new rows

    data, rows = embeddings(chosen.rows, chosen.data_seed)
    ways = {}
    for name, way in {"lshjoin": ours, "UMAP's own": own}.items():
        few = rows[:5_000]
        lay_out(few, way(few)[0])
        found, seconds = way(rows)
        layout = lay_out(rows, found)
        ways[name] = {
            "neighbor_seconds": seconds,
            "layout_seconds": layout,
            "share": seconds / (seconds + layout),
            "recall": recall(rows, found[0]),
        }
        print(name, ways[name], flush=True)
    result = {
        "machine": record.machine(),
        "versions": record.versions("lshjoin", "umap-learn", "pynndescent", "numpy"),
        "isa": isa(),
        "threads": THREADS,
        "data": data,
        "rows": chosen.rows,
        "dimensions": rows.shape[1],
        "data_seed": chosen.data_seed,
        "ways": ways,
    }
    record.write("umap_layout", result, report(result))


def report(result: dict[str, Any]) -> str:
    lines = [
        "# UMAP",
        "",
        f"{result['rows']:,} x {result['dimensions']} float32, {result['data']}, seed "
        f"{result['data_seed']}; cosine, {NEIGHBORS} neighbours, a start by PCA, all else as UMAP "
        "has it. Each way once, after a run on few rows, which compiles UMAP.",
        "",
        record.circumstances(result),
        "",
        *umap_table(result),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
