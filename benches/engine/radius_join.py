"""Radius joins of all embeddings with themselves: seconds, pairs and memory.

First the candidates of a model of Spark's shape, 4 tables with a bucket length at which about 5 %
of all pairs share a bucket in a table: from arrays in memory to arrays of pairs, fitting included.
Then all pairs, exactly, streamed into a Parquet file in /tmp or where TMPDIR says. Writes
bench-results/radius_join.json and .md.
"""

import argparse
import resource
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import lshjoin
import numpy as np
import pyarrow.parquet as pq
from lshjoin._lshjoin import Model, isa

from benches import record
from benches.data.embeddings import embeddings
from benches.data.rows import Rows
from benches.systems.protocol import THREADS

THRESHOLD = 0.9
BAR_SECONDS = 5
PARAMS = {
    "family": "euclidean",
    "num_hash_functions": 1,
    "num_hash_tables": 4,
    "bucket_length": 0.01,
    "seed": 12345,
}


def shared_buckets(rows: Rows) -> float:
    """The share of all pairs that a table puts in one bucket, mean over the tables."""
    tables = Model.fit(rows, **PARAMS).hash(rows)[:, :, 0].T
    pairs = [(np.unique(table, return_counts=True)[1] ** 2).sum() for table in tables]
    return float(np.mean(pairs)) / len(rows) ** 2


def model_job(rows: Rows) -> tuple[float, int]:
    start = perf_counter()
    model = Model.fit(rows, **PARAMS, num_threads=THREADS)
    pairs = model.similarity_join(rows, None, THRESHOLD, num_threads=THREADS)
    return perf_counter() - start, len(pairs[0])


def stream_job(rows: Rows) -> tuple[float, int, int]:
    """Seconds, pairs and bytes written."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "pairs.parquet"
        start = perf_counter()
        reader = lshjoin.radius_join_batches(items=rows, radius=THRESHOLD, num_threads=THREADS)
        with pq.ParquetWriter(path, reader.schema) as file:
            for batch in reader:
                file.write_batch(batch)
        seconds = perf_counter() - start
        return seconds, pq.read_metadata(path).num_rows, path.stat().st_size


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=117_659)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--data-seed", type=int, default=0)
    chosen = options.parse_args()

    data, rows = embeddings(chosen.rows, chosen.data_seed)
    model_runs = [model_job(rows) for _ in range(chosen.repeats)]
    streams = [stream_job(rows) for _ in range(chosen.repeats)]
    result = {
        "machine": record.machine(),
        "versions": record.versions("lshjoin", "numpy", "pyarrow"),
        "isa": isa(),
        "threads": THREADS,
        "data": data,
        "rows": chosen.rows,
        "dimensions": rows.shape[1],
        "data_seed": chosen.data_seed,
        "parameters": PARAMS | {"threshold": THRESHOLD},
        "pairs_in_one_bucket_of_a_table": shared_buckets(rows),
        "model_seconds": [run[0] for run in model_runs],
        "model_pairs": model_runs[0][1],
        "bar_seconds": BAR_SECONDS,
        "stream_seconds": [run[0] for run in streams],
        "stream_pairs": streams[0][1],
        "stream_bytes": streams[0][2],
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
    }
    text = report(result)
    record.write("radius_join", result, text)
    print(text)


def report(result: dict[str, Any]) -> str:
    parameters = result["parameters"]
    lines = [
        "# Radius joins",
        "",
        f"{result['rows']} x {result['dimensions']} float32, {result['data']}, seed "
        f"{result['data_seed']}, with themselves; pairs nearer than {parameters['threshold']}, "
        f"both ways. The model has {parameters['num_hash_tables']} tables and bucket length "
        f"{parameters['bucket_length']}: {result['pairs_in_one_bucket_of_a_table']:.1%} of all "
        f"pairs in one bucket of a table; hash seed {parameters['seed']}.",
        "",
        record.circumstances(result),
        "",
        f"| median of {len(result['model_seconds'])} | seconds | pairs |",
        "|---|---:|---:|",
        f"| a model's candidates | {median(result['model_seconds']):.2f} "
        f"| {result['model_pairs']:,} |",
        f"| all pairs, into a Parquet file | {median(result['stream_seconds']):.2f} "
        f"| {result['stream_pairs']:,} |",
        "",
        f"The bar for the model's is {result['bar_seconds']} s; its pairs are with each row and "
        f"itself. Peak memory {result['peak_bytes'] / 1e6:.0f} MB in all.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
