"""Spark and lshjoin in one run: transform, then approxSimilarityJoin of a frame with itself.

10,000 sentence embeddings, 4 tables, a bucket length at which about 5 % of all pairs share a bucket
in a table. Neither the start of the JVM nor the making of the frames is counted. Spark runs as it
comes (200 shuffle partitions) and with 8, which suit this size better; lshjoin runs before, between
and after. Writes bench-results/spark_join.json and .md.
"""

import argparse
from statistics import median
from time import perf_counter
from typing import Any

import lshjoin
import numpy as np
import polars as pl
import pyarrow as pa
import record
from embeddings import embeddings
from lshjoin._lshjoin import isa
from numpy.typing import NDArray
from pyspark.ml.feature import BucketedRandomProjectionLSH as SparkLSH
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, SparkSession

THREADS = 2
THRESHOLD = 0.9
PARAMS = {
    "inputCol": "features",
    "outputCol": "hashes",
    "seed": 12345,
    "numHashTables": 4,
    "bucketLength": 0.01,
}
Pairs = dict[tuple[int, int], float]


def start_spark() -> SparkSession:
    session = (
        SparkSession.builder.master(f"local[{THREADS}]")
        .config("spark.driver.memory", "8g")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )
    spark_job(spark_frame(session, embeddings(500, seed=1)[1]))  # warms the JVM up
    return session


def spark_frame(session: SparkSession, rows: NDArray[np.float32]) -> DataFrame:
    lists = pa.array(rows.astype(np.float64).tolist(), pa.list_(pa.float64()))
    table = session.createDataFrame(pa.table({"id": np.arange(len(rows)), "features": lists}))
    vectors = table.select("id", array_to_vector("features").alias("features"))
    cached = vectors.repartition(THREADS).cache()
    cached.count()
    return cached


def spark_job(frame: DataFrame) -> tuple[float, Pairs]:
    start = perf_counter()
    model = SparkLSH(**PARAMS).fit(frame)
    hashed = model.transform(frame).cache()
    hashed.count()
    joined = model.approxSimilarityJoin(hashed, hashed, THRESHOLD)
    found = joined.selectExpr("datasetA.id AS a", "datasetB.id AS b", "distCol").toArrow()
    seconds = perf_counter() - start
    hashed.unpersist()
    a, b, distances = (column.to_pylist() for column in found.columns)
    return seconds, dict(zip(zip(a, b, strict=True), distances, strict=True))


def our_job(frame: pl.DataFrame) -> tuple[float, Pairs]:
    start = perf_counter()
    model = lshjoin.BucketedRandomProjectionLSH(**PARAMS).fit(frame, num_threads=THREADS)
    hashed = model.transform(frame, num_threads=THREADS)
    joined = model.approxSimilarityJoin(hashed, hashed, THRESHOLD, num_threads=THREADS)
    seconds = perf_counter() - start
    a, b = (joined[side].struct.field("id") for side in ("datasetA", "datasetB"))
    return seconds, dict(zip(zip(a, b, strict=True), joined["distCol"], strict=True))


def shared_buckets(frame: pl.DataFrame) -> float:
    """The share of all pairs that a table puts in one bucket, mean over the tables."""
    hashed = lshjoin.BucketedRandomProjectionLSH(**PARAMS).fit(frame).transform(frame)
    tables = np.array(hashed["hashes"].to_list())[:, :, 0].T
    pairs = [(np.unique(table, return_counts=True)[1] ** 2).sum() for table in tables]
    return float(np.mean(pairs)) / len(frame) ** 2


def agreement(ours: Pairs, spark: Pairs) -> dict[str, float]:
    """Float32 sums may decide otherwise than Spark's doubles, but only next to a boundary."""
    common = ours.keys() & spark.keys()
    return {
        "pairs": len(spark),
        "only_in_spark": len(spark) - len(common),
        "only_in_lshjoin": len(ours) - len(common),
        "largest_difference_of_distance": max(abs(ours[pair] - spark[pair]) for pair in common),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=10_000)
    options.add_argument("--data-seed", type=int, default=0)
    chosen = options.parse_args()

    data, rows = embeddings(chosen.rows, chosen.data_seed)
    session = start_spark()
    theirs = spark_frame(session, rows)
    ours = pl.DataFrame({"id": np.arange(len(rows)), "features": rows})

    our_job(ours[:500])  # each side has had a small job to warm up
    our_times, spark_times, agreed = [our_job(ours)[0]], {}, {}
    for partitions in (session.conf.get("spark.sql.shuffle.partitions"), "8"):
        session.conf.set("spark.sql.shuffle.partitions", partitions)
        spark_times[partitions], spark_pairs = spark_job(theirs)
        seconds, our_pairs = our_job(ours)
        our_times.append(seconds)
        agreed = agreement(our_pairs, spark_pairs)
    session.stop()

    result = {
        "machine": record.machine(),
        "versions": record.versions("lshjoin", "pyspark", "numpy", "polars"),
        "isa": isa(),
        "threads": THREADS,
        "data": data,
        "rows": chosen.rows,
        "dimensions": rows.shape[1],
        "data_seed": chosen.data_seed,
        "parameters": PARAMS | {"threshold": THRESHOLD},
        "pairs_in_one_bucket_of_a_table": shared_buckets(ours),
        "agreement": agreed,
        "lshjoin_seconds": our_times,
        "spark_seconds_by_shuffle_partitions": spark_times,
        "ratio_by_shuffle_partitions": {n: t / median(our_times) for n, t in spark_times.items()},
    }
    text = report(result)
    record.write("spark_join", result, text)
    print(text)


def report(result: dict[str, Any]) -> str:
    machine, parameters, agreed = (
        result["machine"],
        result["parameters"],
        result["agreement"],
    )
    seconds = median(result["lshjoin_seconds"])
    lines = [
        "# transform and self-approxSimilarityJoin: Spark and lshjoin",
        "",
        f"{result['rows']} x {result['dimensions']} float32, {result['data']}, seed "
        f"{result['data_seed']}; {parameters['numHashTables']} tables, bucket length "
        f"{parameters['bucketLength']} ({result['pairs_in_one_bucket_of_a_table']:.1%} of all "
        f"pairs in one bucket of a table), threshold {parameters['threshold']}, hash seed "
        f"{parameters['seed']}.",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {result['threads']} threads each, "
        f"instruction set {result['isa']}, {machine['system']}; "
        + ", ".join(f"{name} {number}" for name, number in result["versions"].items())
        + ".",
        "",
        "| | seconds | times as long |",
        "|---|---:|---:|",
        f"| lshjoin, median of {len(result['lshjoin_seconds'])} | {seconds:.3f} | 1 |",
    ]
    for partitions, took in result["spark_seconds_by_shuffle_partitions"].items():
        ratio = result["ratio_by_shuffle_partitions"][partitions]
        lines.append(f"| Spark, {partitions} shuffle partitions | {took:.1f} | {ratio:.0f} |")
    lines += [
        "",
        f"Pairs: {agreed['pairs']}; only in Spark {agreed['only_in_spark']}, only in lshjoin "
        f"{agreed['only_in_lshjoin']}; distances differ by at most "
        f"{agreed['largest_difference_of_distance']:.1e} (float32 here, doubles there).",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
