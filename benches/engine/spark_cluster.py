"""lshjoin.spark and Spark's own on one cluster of two worker processes, one core each, in one run.

join: approxSimilarityJoin of 10,000 x 384 with itself, 4 tables, about 5 % of the pairs in one
bucket of a table, hashing included. nearest: the 10 nearest for each of 2,000 rows among 2,000
others, beside nearestByJoin, which came with Spark 4.2. Everything from the data frames, which are
cached, to the collected ids and distances is timed; each side has had a small job before; lshjoin
runs before and after Spark, and then by ids alone. million: the ids of the 10 nearest others of
each of 1,000,000 x 128 rows, out of a Parquet file and into one, beside the engine alone on as many
cores. growth: joins of fewer rows, in many parts, by the seconds that cores were at work, which
what else the machine does hardly changes, beside what plan_knn_join said of them. planned: what it
says of 100,000,000 embeddings, of which it has a sample; nothing of that is joined. parts: to how
many parts a row goes. large: up to 3,000,000 x 96 where an executor has 3 GB, as million is joined.
Writes bench-results/spark_cluster.json and .md, case by case.
"""

import argparse
import math
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import lshjoin
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lshjoin import engine
from lshjoin.spark import BucketedRandomProjectionLSH, plan_knn_join
from pyspark.ml.feature import BucketedRandomProjectionLSH as SparkLSH
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benches import record
from benches.data.descriptors import descriptor_batches, descriptors
from benches.data.embeddings import embeddings
from benches.data.rows import Rows
from benches.report.spark_cluster import growth_table, large_table, planned_table
from benches.systems import spark_session
from benches.systems.meter import peak_bytes, timed

WORKERS = 2
PARAMS = {
    "inputCol": "features",
    "outputCol": "hashes",
    "seed": 12345,
    "numHashTables": 4,
    "bucketLength": 0.01,
}
THRESHOLD, K, RECALL = 0.9, 10, 0.9
GROWTH = 50_000, 100_000, 200_000
LARGE, LARGE_DIMENSIONS = (500_000, 1_000_000, 3_000_000), 96
# Of an executor's 3 GB a third is its heap; the rest is for Python, and has a block five times.
LARGE_HEAP, LARGE_BLOCK = 1024, "256m"
PLANNED_ROWS, PLANNED_CORES = 100_000_000, 512
PLANNED_BLOCKS, PLANNED_RECALLS = ("512m", "2g"), (0.8, 0.9, 0.95)
IDS = ("datasetA.id AS a", "datasetB.id AS b", "distCol")


def start(memory: int) -> SparkSession:
    return spark_session.start(
        f"local-cluster[{WORKERS},1,{memory}]",
        driver_memory="4g",
        executor_memory=f"{memory}m",
        sql_shuffle_partitions="8",
    )


def collected(joined: DataFrame) -> dict[tuple[int, int], float]:
    a, b, distances = (column.to_pylist() for column in joined.toArrow().columns)
    return dict(zip(zip(a, b, strict=True), distances, strict=True))


def join(estimator: type, rows: DataFrame, *, ids: bool = False) -> dict[tuple[int, int], float]:
    model = estimator(**PARAMS).fit(rows)
    if ids:
        return collected(model.approxSimilarityJoin(rows, rows, THRESHOLD, idCol="id"))
    if estimator is BucketedRandomProjectionLSH:  # which hashes the rows where it joins them
        return collected(model.approxSimilarityJoin(rows, rows, THRESHOLD).selectExpr(*IDS))
    # Spark uses the hashes of both sides twice: cached, as its guide has it.
    hashed = model.transform(rows).cache()
    hashed.count()
    joined = model.approxSimilarityJoin(hashed, hashed, THRESHOLD)
    pairs = collected(joined.selectExpr(*IDS))
    hashed.unpersist()
    return pairs


def nearest_join(
    rows: DataFrame, others: DataFrame, *, ids: bool = False
) -> dict[tuple[int, int], float]:
    model = BucketedRandomProjectionLSH(**PARAMS).fit(rows)
    if ids:
        return collected(model.approxNearestNeighborsJoin(rows, others, K, idCol="id"))
    return collected(model.approxNearestNeighborsJoin(rows, others, K).selectExpr(*IDS))


def sparks_nearest(rows: DataFrame, others: DataFrame) -> dict[tuple[int, int], float]:
    return collected(spark_session.nearest_by_join(rows, others, K))


def compared(
    ours: Callable[[], Any], theirs: Callable[[], Any], by_ids: Callable[[], Any]
) -> dict[str, Any]:
    times = [timed(ours)[0]]
    spark_seconds, expected = timed(theirs)
    for _ in range(2):
        seconds, actual = timed(ours)
        times.append(seconds)
    of_ids = [timed(by_ids) for _ in range(3)]
    assert all(found == actual for _, found in of_ids)
    common = actual.keys() & expected.keys()
    return {
        "lshjoin_seconds": times,
        "spark_seconds": spark_seconds,
        "ratio": spark_seconds / median(times),
        "ids_seconds": [seconds for seconds, _ in of_ids],
        "pairs": len(expected),
        "pairs_in_common": len(common),
        "largest_difference_of_distance": max(abs(actual[p] - expected[p]) for p in common),
    }


def join_case() -> dict[str, Any]:
    session = start(3072)
    data, rows = embeddings(10_000, seed=0)
    small, both = (spark_session.frame(session, some, WORKERS) for some in (rows[:500], rows))
    for estimator in (SparkLSH, BucketedRandomProjectionLSH):
        join(estimator, small)
    join(BucketedRandomProjectionLSH, small, ids=True)
    ours = partial(join, BucketedRandomProjectionLSH, both)
    result = compared(ours, partial(join, SparkLSH, both), partial(ours, ids=True))
    return {"data": f"{data}, 10,000 x 384, self-join"} | result


def nearest_case() -> dict[str, Any]:
    session = start(3072)
    data, rows = embeddings(4_000, seed=0)
    small, a, b = (
        spark_session.frame(session, some, WORKERS, vectors=False)
        for some in (rows[:100], rows[:2_000], rows[2_000:])
    )
    for work in (nearest_join, sparks_nearest):
        work(small, small)
    nearest_join(small, small, ids=True)
    ours = partial(nearest_join, a, b)
    result = compared(ours, partial(sparks_nearest, a, b), partial(ours, ids=True))
    return {"data": f"{data}, 2,000 x 2,000 x 384, k = {K}"} | result


def million_case(count: int) -> dict[str, Any]:
    rows = descriptors(count, seed=0)
    seconds, alone = timed(
        lambda: lshjoin.knn_join(items=rows, k=K, recall=RECALL, num_threads=WORKERS)
    )
    truth = Truth.of(rows)
    alone_recall = float((alone.distances[truth.sample] <= truth.radius).mean())
    del alone

    with tempfile.TemporaryDirectory() as directory:
        write_parquet(rows, Path(f"{directory}/rows"))
        session = start(3072)
        # Fewer rows take the way of a million.
        session.conf.set("spark.lshjoin.broadcastBytes", "0")
        spark_seconds = joined_by_ids(session, directory)
        shuffled = shuffled_bytes(session)
        recall = truth.recall(session, directory)
        session.stop()
    return {
        "data": f"SIFT-like descriptors, {count:,} x 128 float32, self-join, k = {K}",
        "recall_asked": RECALL,
        "lshjoin_seconds": spark_seconds,
        "lshjoin_recall": recall,
        "shuffle_bytes": shuffled,
        "engine_alone_seconds": seconds,
        "engine_alone_recall": alone_recall,
        "ratio": spark_seconds / seconds,
    }


def large_case(counts: tuple[int, ...]) -> dict[str, Any]:
    """A session for each number of rows: what its processes had at most is that join's."""
    sizes = []
    for count in counts:
        rows = next(descriptor_batches(count, 0, count, LARGE_DIMENSIONS))
        truth = Truth.of(rows)
        with tempfile.TemporaryDirectory() as directory:
            write_parquet(rows, Path(f"{directory}/rows"))
            del rows
            session = start(LARGE_HEAP)
            session.conf.set("spark.lshjoin.blockBytes", LARGE_BLOCK)
            seconds = joined_by_ids(session, directory)
            sizes.append(
                {
                    "rows": count,
                    "seconds": seconds,
                    "shuffle_bytes": shuffled_bytes(session),
                    "jvm_bytes": most_memory("CoarseGrainedExecutorBackend"),
                    "python_bytes": most_memory("pyspark.daemon"),
                    "recall": truth.recall(session, directory),
                }
            )
            session.stop()
    first, last = sizes[0], sizes[-1]
    return {
        "data": f"SIFT-like descriptors x {LARGE_DIMENSIONS} float32, self-join, k = {K}, "
        f"recall {RECALL}",
        "heap_bytes": LARGE_HEAP << 20,
        "block_bytes": LARGE_BLOCK,
        "sizes": sizes,
        "exponent": math.log(last["seconds"] / first["seconds"])
        / math.log(last["rows"] / first["rows"]),
    }


def joined_by_ids(session: SparkSession, directory: str) -> float:
    """Seconds from the rows in a directory to the ids of their neighbours there."""
    items = session.read.parquet(f"{directory}/rows")
    model = BucketedRandomProjectionLSH(**PARAMS).fit(items)
    seconds, _ = timed(
        lambda: model.approxNearestNeighborsJoin(
            items, items, K + 1, recall=RECALL, idCol="id"
        ).write.parquet(f"{directory}/found")
    )
    return seconds


@dataclass(frozen=True)
class Truth:
    """Some of the rows, and how far their K nearest others are at most."""

    sample: Rows
    radius: Rows  #: (rows, 1)

    @classmethod
    def of(cls, rows: Rows) -> "Truth":
        sample = np.random.default_rng(0).choice(len(rows), 1_000, replace=False)
        # A row is its own nearest: one more is asked for where it is among the answers.
        exact, _ = lshjoin.knn_join(rows[sample], rows, K + 1, recall=1.0, num_threads=WORKERS)
        return cls(sample, exact[:, -1:] * (1 + 1e-6))

    def recall(self, session: SparkSession, directory: str) -> float:
        """Of what :func:`joined_by_ids` found."""
        found = session.read.parquet(f"{directory}/found")
        some = found.where(F.col("idA").isin(self.sample.tolist())).toArrow()
        a, b, distances = (column.to_numpy() for column in some.columns)
        limits = dict(zip(self.sample.tolist(), self.radius[:, 0], strict=True))
        others = a != b
        near = sum(distances[others] <= np.array([limits[row] for row in a[others]]))
        return float(near) / (K * len(self.sample))


def growth_case() -> dict[str, Any]:
    """Blocks of some 30,000 rows, of which a cluster would have as many a core."""
    session = start(3072)
    session.conf.set("spark.lshjoin.broadcastBytes", "0")
    session.conf.set("spark.lshjoin.blockBytes", "16m")
    sizes = []
    with tempfile.TemporaryDirectory() as directory:
        for count in (20_000, *GROWTH):  # the first compiles what all use
            path = f"{directory}/{count}"
            write_parquet(descriptors(count, seed=0), Path(path))
            rows = session.read.parquet(path)
            plan = plan_knn_join(rows, rows, K + 1, idCol="id", recall=RECALL, cores=1)
            model = BucketedRandomProjectionLSH(**PARAMS).fit(rows)
            core_seconds, shuffled = at_work(), shuffled_bytes(session)
            seconds, _ = timed(
                lambda model=model, rows=rows, path=path: model.approxNearestNeighborsJoin(
                    rows, rows, K + 1, recall=RECALL, idCol="id"
                ).write.parquet(f"{path}-found")
            )
            sizes.append(
                {
                    "rows": count,
                    "seconds": seconds,
                    "core_seconds": at_work() - core_seconds,
                    "shuffle_bytes": shuffled_bytes(session) - shuffled,
                    "predicted_core_seconds": plan.seconds,
                    "predicted_bytes": plan.vector_bytes + plan.neighbor_bytes,
                    "parts": plan.parts,
                    "probes": plan.probes,
                }
            )
    return {
        "data": f"SIFT-like descriptors x 128 float32, self-join, k = {K}, recall {RECALL}",
        "block_bytes": "16m",
        "sizes": sizes[1:],
    }


def planned_case() -> dict[str, Any]:
    """Of small jobs alone; what a cluster would have to do."""
    session = spark_session.start("local[2]", driver_memory="4g", sql_shuffle_partitions="2048")
    data, rows = embeddings(20_000, seed=0)
    table = spark_session.frame(session, rows, WORKERS, vectors=False)
    plans = []
    for block_bytes in PLANNED_BLOCKS:
        session.conf.set("spark.lshjoin.blockBytes", block_bytes)
        for recall in PLANNED_RECALLS:
            plan = plan_knn_join(
                table,
                table,
                K + 1,
                idCol="id",
                recall=recall,
                scale=PLANNED_ROWS / len(rows),
                cores=PLANNED_CORES,
            )
            plans.append({"blockBytes": block_bytes, "recall": recall, **asdict(plan)})
    return {
        "data": f"{data}, 20,000 x 384 float32 for {PLANNED_ROWS:,}, self-join, k = {K}",
        "plans": plans,
    }


def shuffled_bytes(session: SparkSession) -> int:
    executors = session.sparkContext._jsc.sc().statusStore().executorList(False)
    return sum(executors.apply(at).totalShuffleWrite() for at in range(executors.size()))


def at_work() -> float:
    """Seconds of cores that this process and those that descend from it have had."""
    # Its own, and of children that ended.
    ticks = sum(sum(map(int, fields[11:15])) for fields in family().values())
    return ticks / os.sysconf("SC_CLK_TCK")


def most_memory(name: str) -> int:
    """Bytes that the largest process had at most, of those with such a command."""
    return max(
        peak_bytes(pid) for pid in family() if name in Path(f"/proc/{pid}/cmdline").read_text()
    )


def family() -> dict[int, list[str]]:
    """This process and those that descend from it: what the system says of each."""
    stats: dict[int, list[str]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended: its parent has its time
            stats[int(status.parent.name)] = status.read_text().rsplit(") ", 1)[1].split()

    def is_ours(pid: int) -> bool:
        while pid in stats and pid != os.getpid():
            pid = int(stats[pid][1])
        return pid == os.getpid()

    return {pid: fields for pid, fields in stats.items() if is_ours(pid)}


def parts_case() -> dict[str, Any]:
    """How many parts a row of a self-join goes to; planned on the driver, without a cluster."""
    data, rows = embeddings(20_000, seed=0)
    visited = {}
    for count in (16, 64, 512):
        visited[count] = {}
        for recall in (0.8, 0.9, 0.95):
            router = engine.ListRouter.learn(
                None,
                rows,
                count,
                metric="euclidean",
                k=1,
                recall=math.sqrt(recall),
                probing="items",
            )
            went, _ = router.probes(rows, "items")
            visited[count][recall] = round(len(went) / len(rows), 1)
    return {"data": f"{data}, a sample of 20,000 x 384", "visited": visited}


def write_parquet(rows: Rows, directory: Path) -> None:
    directory.mkdir()
    for part, some in enumerate(np.array_split(np.arange(len(rows)), 8)):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(rows[some].ravel()), rows.shape[1])
        table = pa.table({"id": some, "features": lists.cast(pa.list_(pa.float32()))})
        pq.write_table(table, directory / f"part-{part}.parquet")


CASES = {
    "join": join_case,
    "nearest": nearest_case,
    "million": partial(million_case, 1_000_000),
    "growth": growth_case,
    "planned": planned_case,
    "parts": parts_case,
    "large": partial(large_case, LARGE),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options.add_argument("--remark", default="", help="what else the machine did meanwhile")
    options.add_argument("--rows", type=int, help="try million and large with fewer: only printed")
    chosen = options.parse_args()
    if chosen.rows:
        tried = {
            "million": million_case(chosen.rows),
            "large": large_case((chosen.rows // 6, chosen.rows)),
        }
        print(report({name: about() | case for name, case in tried.items()}))
        return
    result = record.read("spark_cluster")
    for name in chosen.cases:
        case = about(chosen.remark) | CASES[name]()
        if session := SparkSession.getActiveSession():
            session.stop()
        result = {**result, name: case}
        record.write("spark_cluster", result, report(result))
    print(report(result))


def about(remark: str = "") -> dict[str, Any]:
    return {
        "machine": record.machine(),
        "versions": record.versions("lshjoin", "pyspark", "numpy", "pyarrow"),
        "isa": engine.isa(),
        "remark": remark,
    }


def report(result: dict[str, Any]) -> str:
    lines = [
        "# lshjoin.spark on two worker processes of one core each",
        "",
        "| | Spark, s | lshjoin.spark, s | ratio | by ids, s | ratio |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    names = {"join": "approxSimilarityJoin", "nearest": "k-NN join, beside nearestByJoin"}
    for name, title in names.items():
        if case := result.get(name):
            by_ids = median(case.get("ids_seconds", [math.nan]))  # older results have none
            lines.append(
                f"| {title}: {case['data']} | {case['spark_seconds']:.1f} "
                f"| {median(case['lshjoin_seconds']):.2f} | {case['ratio']:.0f} "
                f"| {by_ids:.2f} | {case['spark_seconds'] / by_ids:.0f} |"
            )
    for name in names:
        if case := result.get(name):
            lines += [
                "",
                f"{name}: {case['pairs']} pairs, {case['pairs_in_common']} of them in both; "
                f"distances differ by at most {case['largest_difference_of_distance']:.1e}.",
            ]
    if case := result.get("million"):
        lines += [
            "",
            f"{case['data']}, recall asked {case['recall_asked']}: "
            f"{case['lshjoin_seconds']:.0f} s, recall {case['lshjoin_recall']:.3f}, "
            f"{case['shuffle_bytes'] / 1e9:.2f} GB shuffled; the engine alone, {WORKERS} threads: "
            f"{case['engine_alone_seconds']:.0f} s, recall {case['engine_alone_recall']:.3f}; "
            f"{case['ratio']:.1f} times as long.",
        ]
    if case := result.get("growth"):
        lines += [
            "",
            f"{case['data']}, by their ids, in blocks of {case['block_bytes']}:",
            "",
            *growth_table(case),
        ]
    if case := result.get("large"):
        lines += [
            "",
            f"{case['data']}, by their ids, in executors with a heap of "
            f"{case['heap_bytes'] >> 20} MB, in blocks of {case['block_bytes']}; "
            f"time grows with the power {case['exponent']:.2f} of the rows:",
            "",
            *large_table(case),
        ]
    if case := result.get("planned"):
        lines += ["", f"Foretold of {case['data']}:", "", *planned_table(case)]
    for name in CASES:
        if case := result.get(name):
            lines += ["", f"{name}: {record.circumstances(case)} {case['remark']}".rstrip()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
