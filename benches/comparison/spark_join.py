"""Spark and lshjoin in one run: transform, then approxSimilarityJoin of a frame with itself.

Sentence embeddings, 2,000 to 20,000 of them; 4 tables, a bucket length at which about 5 % of all
pairs share a bucket in a table. Neither the start of the JVM nor the making of the frames is
counted. Spark runs with 8 shuffle partitions, which suit these sizes best, and up to 10,000 rows as
it comes, with 200; lshjoin runs before, between and after. Spark gives ids and distances, which is
all that its plan then carries; lshjoin gives whole rows. Writes bench-results/NAME.json and .md.
"""

import argparse
from os import environ
from shutil import which
from statistics import median
from time import perf_counter
from typing import Any

import lshjoin
import numpy as np
import polars as pl
from lshjoin._lshjoin import isa
from pyspark.ml.feature import BucketedRandomProjectionLSH as SparkLSH
from pyspark.sql import DataFrame, SparkSession

from benches import record
from benches.data.embeddings import embeddings
from benches.report.tables import spark_table
from benches.systems import spark_session
from benches.systems.protocol import THREADS

OURS_A_TURN = 3
USUAL_PARTITIONS_UP_TO = 10_000
THRESHOLD = 0.9
PARAMS = {
    "inputCol": "features",
    "outputCol": "hashes",
    "seed": 12345,
    "numHashTables": 4,
    "bucketLength": 0.01,
}
Pairs = dict[tuple[int, int], float]


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


def compared(session: SparkSession, rows: int, data_seed: int) -> dict[str, Any]:
    data, vectors = embeddings(rows, data_seed)
    theirs = spark_session.frame(session, vectors, THREADS)
    ours = pl.DataFrame({"id": np.arange(rows), "features": vectors})
    our_job(ours[:500])  # each side has had a small job to warm up

    our_times, spark_times, agreed = [our_job(ours)[0] for _ in range(OURS_A_TURN)], {}, {}
    for partitions in ("8", "200") if rows <= USUAL_PARTITIONS_UP_TO else ("8",):
        session.conf.set("spark.sql.shuffle.partitions", partitions)
        spark_times[partitions], spark_pairs = spark_job(theirs)
        for _ in range(OURS_A_TURN):
            seconds, our_pairs = our_job(ours)
            our_times.append(seconds)
        agreed = agreement(our_pairs, spark_pairs)
    theirs.unpersist()
    return {
        "data": data,
        "rows": rows,
        "dimensions": vectors.shape[1],
        "pairs_in_one_bucket_of_a_table": shared_buckets(ours),
        "agreement": agreed,
        "lshjoin_seconds": our_times,
        "spark_seconds_by_shuffle_partitions": spark_times,
        "ratio": min(spark_times.values()) / median(our_times),
        "ratio_by_shuffle_partitions": {n: t / median(our_times) for n, t in spark_times.items()},
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, nargs="+", default=[2_000, 5_000, 10_000, 20_000])
    options.add_argument("--data-seed", type=int, default=0)
    options.add_argument("--name", default="spark_join", help="of the results")
    chosen = options.parse_args()
    if not (which("java") or "JAVA_HOME" in environ):
        print("Spark is left out: it needs Java 17")
        return

    session = spark_session.start(f"local[{THREADS}]", driver_memory="8g")
    warm = spark_session.frame(session, embeddings(2_000, seed=1)[1], THREADS)
    for _ in range(2):  # the JVM compiles what it has run often enough
        spark_job(warm)
    sizes = [compared(session, rows, chosen.data_seed) for rows in chosen.rows]
    session.stop()

    result = {
        "date": record.now(),
        "machine": record.machine(),
        "versions": record.versions("lshjoin", "pyspark", "numpy", "polars"),
        "isa": isa(),
        "threads": THREADS,
        "data_seed": chosen.data_seed,
        "parameters": PARAMS | {"threshold": THRESHOLD},
        "bar": {"rows": 10_000, "ratio": 300},
        "sizes": sizes,
    }
    text = report(result)
    record.write(chosen.name, result, text)
    print(text)


def report(result: dict[str, Any]) -> str:
    parameters, sizes = result["parameters"], result["sizes"]
    shares = [size["pairs_in_one_bucket_of_a_table"] for size in sizes]
    agreed = [size["agreement"] for size in sizes]
    farthest = max(one["largest_difference_of_distance"] for one in agreed)
    lines = [
        "# transform and self-approxSimilarityJoin: Spark and lshjoin",
        "",
        f"{sizes[0]['data']}, {sizes[0]['dimensions']} float32, seed {result['data_seed']}; "
        f"{parameters['numHashTables']} tables, bucket length {parameters['bucketLength']} "
        f"({min(shares):.1%} to {max(shares):.1%} of all pairs in one bucket of a table), "
        f"threshold {parameters['threshold']}, hash seed {parameters['seed']}. Of Spark ids and "
        "distances are collected, of lshjoin whole rows. The last column is by Spark's shorter "
        "time.",
        "",
        f"{result['date']}; {record.circumstances(result)}",
        "",
        *spark_table(result),
        "",
        f"Of {sum(a['pairs'] for a in agreed):,} pairs {sum(a['only_in_spark'] for a in agreed)} "
        f"are only in Spark's, {sum(a['only_in_lshjoin'] for a in agreed)} only in lshjoin's; "
        f"distances differ by at most {farthest:.1e} (float32 here, doubles there).",
    ]
    bar = result["bar"]
    lines += [
        f"At {size['rows']:,} rows lshjoin is {size['ratio']:.0f} times as fast; the bar is "
        f"{bar['ratio']}."
        for size in sizes
        if size["rows"] == bar["rows"]
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
