"""MinHash in Spark, datasketch, rensa and here: the near-duplicates among 20,000 sets.

Sets of some 50 words of a vocabulary of 50,000, in groups of about five that share most of theirs;
8 tables, Jaccard distance below 0.5. Spark and lshjoin transform, then join a frame with itself by
``approxSimilarityJoin``, and find the same pairs; datasketch and rensa fill their LSH index of 8
bands of one value each, are asked for the candidates of every set, and these are compared. What is
not installed, and Spark without Java, is left out.
Neither the start of the JVM nor the making of the frames is counted; each has a small job first.
Writes bench-results/NAME.json and .md.
"""

import argparse
from collections.abc import Callable
from functools import partial
from os import environ
from shutil import which
from statistics import median
from time import perf_counter
from typing import Any

import lshjoin
import numpy as np
import polars as pl
from lshjoin._lshjoin import isa
from pyspark.ml.feature import MinHashLSH as SparkLSH
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession

from benches import record
from benches.systems import spark_session
from benches.systems.protocol import THREADS

WORDS, OF_SET, OF_GROUP = 50_000, 50, 5
OURS, BAR = 5, 100
THRESHOLD, TABLES = 0.5, 8
PARAMS = {"inputCol": "features", "outputCol": "hashes", "seed": 12345, "numHashTables": TABLES}
Sets = list[list[int]]
Pairs = dict[tuple[int, int], float]


def near_duplicates(rows: int, seed: int) -> Sets:
    rng = np.random.default_rng(seed)
    groups = rng.integers(WORDS, size=(rows // OF_GROUP, OF_SET))
    words = groups[rng.integers(len(groups), size=rows)]
    changed = rng.random(words.shape) < rng.uniform(0, 0.3, size=(rows, 1))
    words = np.where(changed, rng.integers(WORDS, size=words.shape), words)
    return [np.unique(row).tolist() for row in words]


def spark_frame(session: SparkSession, sets: Sets) -> DataFrame:
    rows = [(at, Vectors.sparse(WORDS, row, [1.0] * len(row))) for at, row in enumerate(sets)]
    frame = session.createDataFrame(rows, ["id", "features"]).repartition(THREADS).cache()
    frame.count()
    return frame


def spark_job(frame: DataFrame) -> Pairs:
    model = SparkLSH(**PARAMS).fit(frame)
    hashed = model.transform(frame).cache()
    joined = model.approxSimilarityJoin(hashed, hashed, THRESHOLD)
    found = joined.selectExpr("datasetA.id AS a", "datasetB.id AS b", "distCol").toArrow()
    hashed.unpersist()
    a, b, distances = (column.to_pylist() for column in found.columns)
    return dict(zip(zip(a, b, strict=True), distances, strict=True))


def our_job(frame: pl.DataFrame) -> pl.DataFrame:
    model = lshjoin.MinHashLSH(**PARAMS).fit(frame, num_threads=THREADS)
    hashed = model.transform(frame, num_threads=THREADS)
    return model.approxSimilarityJoin(hashed, hashed, THRESHOLD, num_threads=THREADS)


def spark_measured(few: Sets, sets: Sets) -> tuple[float, Pairs]:
    session = spark_session.start(
        f"local[{THREADS}]", driver_memory="4g", sql_shuffle_partitions="8"
    )
    for _ in range(2):  # the JVM compiles what it has run often enough
        spark_job(spark_frame(session, few))
    measured = timed(spark_job, spark_frame(session, sets))
    session.stop()
    return measured


def pairs_of(joined: pl.DataFrame) -> Pairs:
    a, b = (joined[side].struct.field("id") for side in ("datasetA", "datasetB"))
    return dict(zip(zip(a, b, strict=True), joined["distCol"], strict=True))


def datasketch_candidates(sets: Sets) -> list[list[int]]:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=TABLES, params=(TABLES, 1))
    hashes = MinHash.bulk(
        [[word.to_bytes(4, "little") for word in row] for row in sets], num_perm=TABLES
    )
    for at, hashed in enumerate(hashes):
        index.insert(at, hashed)
    return [index.query(hashed) for hashed in hashes]


def rensa_candidates(sets: Sets) -> list[list[int]]:
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(THRESHOLD, TABLES, TABLES)
    words = [[str(word) for word in row] for row in sets]
    hashes = RMinHash.from_token_sets(words, TABLES, PARAMS["seed"])
    index.insert_many(hashes)
    return index.query_all(hashes)


OTHERS = {"datasketch": datasketch_candidates, "rensa": rensa_candidates}


def near(candidates: Callable[[Sets], list[list[int]]], sets: Sets) -> Pairs:
    """Those of the candidates that are near enough."""
    each, pairs = [set(row) for row in sets], {}
    for at, others in enumerate(candidates(sets)):
        for other in others:
            distance = 1 - len(each[at] & each[other]) / len(each[at] | each[other])
            if distance < THRESHOLD:
                pairs[at, other] = distance
    return pairs


def timed(job: Callable[[Any], Any], of: Any) -> tuple[float, Any]:
    start = perf_counter()
    found = job(of)
    return perf_counter() - start, found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=20_000)
    options.add_argument("--name", default="minhash_join", help="of the results")
    chosen = options.parse_args()
    few, sets = near_duplicates(1_000, seed=1), near_duplicates(chosen.rows, seed=0)
    ours = pl.DataFrame({"id": range(len(sets)), "features": sets})
    our_job(ours[:500])
    our_times = [timed(our_job, ours)[0] for _ in range(OURS)]
    others: dict[str, Any] = {}
    if which("java") or "JAVA_HOME" in environ:
        spark_seconds, spark_pairs = spark_measured(few, sets)
        others["Spark"] = {"seconds": spark_seconds, "pairs": len(spark_pairs)}
    else:
        print("Spark is left out: it needs Java 17")
    for name, candidates in OTHERS.items():
        try:
            near(candidates, few)
            seconds, pairs = timed(partial(near, candidates), sets)
            others[name] = {"seconds": seconds, "pairs": len(pairs)}
        except ImportError:
            print(f"{name} is left out: it is not installed")
    seconds, joined = timed(our_job, ours)
    our_times.append(seconds)
    our_pairs = pairs_of(joined)
    result = {
        "date": record.now(),
        "machine": record.machine(),
        "versions": record.versions("lshjoin", "pyspark", *OTHERS, "numpy", "polars"),
        "isa": isa(),
        "threads": THREADS,
        "rows": chosen.rows,
        "parameters": PARAMS | {"threshold": THRESHOLD},
        "pairs": len(our_pairs),
        "lshjoin_seconds": our_times,
        "others": others,
    }
    if "Spark" in others:
        result |= {
            "equal_to_spark": our_pairs == spark_pairs,
            "ratio": spark_seconds / median(our_times),
            "bar": BAR,
        }
    text = report(result)
    record.write(chosen.name, result, text)
    print(text)


def report(result: dict[str, Any]) -> str:
    lines = [
        "# MinHash: transform and self-approxSimilarityJoin",
        "",
        f"{result['rows']:,} sets of about {OF_SET} of {WORDS:,} words, "
        f"{PARAMS['numHashTables']} tables, Jaccard distance below {THRESHOLD}, seed "
        f"{PARAMS['seed']}.",
        "",
        f"{result['date']}; {record.circumstances(result)}",
        "",
        "| | seconds | pairs |",
        "|---|---|---|",
        f"| lshjoin | {median(result['lshjoin_seconds']):.3f} | {result['pairs']:,} |",
        *(
            f"| {name} | {other['seconds']:.2f} | {other['pairs']:,} |"
            for name, other in result["others"].items()
        ),
        "",
    ]
    if "ratio" in result:
        equal = "the same" if result["equal_to_spark"] else "NOT THE SAME"
        lines += [
            f"Pairs and distances of lshjoin and Spark are {equal}. lshjoin is "
            f"{result['ratio']:.0f} times as fast as Spark; the bar is {result['bar']}.",
            "",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
