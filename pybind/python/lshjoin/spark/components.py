"""Connected components of a graph, by operations on data frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark.sql import Window
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


def connected_components(edges: DataFrame) -> DataFrame:
    """The component of each node that has an edge, which is called after its least node.

    By alternating large stars and small stars (Kiveris, Lattanzi, Mirrokni, Rastogi and
    Vassilvitskii 2014, "Connected Components in MapReduce and Beyond"): both tie the neighbours of
    a node to the least of them, the one those that are larger than the node, the other those that
    are smaller, and itself. Components stay what they are; when nothing changes any more, each is a
    star around its least node. That takes a number of rounds about the logarithm of that of the
    nodes, however long the paths are. After each the edges are checkpointed.

    Args:
        edges: columns ``a`` and ``b`` of one type that has an order, without nulls; in any
            direction, as often as they like.

    Returns:
        Columns ``node`` and ``component``, of all nodes but the least of each component.
    """
    stars = _checkpointed(edges.where("a != b"))
    before: Any = None
    while True:
        stars = _checkpointed(_small_stars(_large_stars(stars)))
        now = _told_apart(stars)
        if now == before:
            return stars.withColumnsRenamed({"a": "node", "b": "component"})
        before = now


def _large_stars(edges: DataFrame) -> DataFrame:
    """Of each node the larger neighbours, tied to the least of the node and its neighbours."""
    neighbors = _pairs(edges, ("a", "b"), ("b", "a"))
    least = F.least("a", _least_neighbor())
    return (
        neighbors.withColumn("least", least)
        .where("b > a")
        .select(F.col("b").alias("a"), F.col("least").alias("b"))
    )


def _small_stars(edges: DataFrame) -> DataFrame:
    """Of each node the smaller neighbours and the node, tied to the least; ``a`` is the larger."""
    stars = edges.withColumn("least", _least_neighbor())
    return _pairs(stars, ("a", "least"), ("b", "least")).where("a != b").distinct()


def _least_neighbor() -> Column:
    return F.min("b").over(Window.partitionBy("a"))


def _pairs(rows: DataFrame, *pairs: tuple[str, str]) -> DataFrame:
    """Edges of pairs of columns: one reading of the rows for all."""
    structs = [F.struct(F.col(a).alias("a"), F.col(b).alias("b")) for a, b in pairs]
    return rows.select(F.explode(F.array(*structs)).alias("pair")).select("pair.*")


def _told_apart(edges: DataFrame) -> Any:
    """What two sets of edges are equal in but by a chance of 1 in 2**64, in no order."""
    return edges.select(F.count("a"), F.bit_xor(F.xxhash64("a", "b"))).first()


def _checkpointed(rows: DataFrame) -> DataFrame:
    """Computed once, and without what it was computed from, which else grew with each round.

    In the directory for checkpoints, where Spark has one: else in the executors, and the loss of
    one ends the job.
    """
    spark = rows.sparkSession
    directory = spark.conf.get("spark.checkpoint.dir", None)
    if directory is None and hasattr(spark, "sparkContext"):
        directory = spark.sparkContext.getCheckpointDir()
    return rows.localCheckpoint() if directory is None else rows.checkpoint()
