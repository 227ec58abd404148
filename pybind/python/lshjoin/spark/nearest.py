"""Nearest neighbours: of one key, and of every row.

Where the items fit into every task, each task joins its queries with them. Larger items are cut
into parts, one around each centroid of a coarse quantiser (Lu, Shen, Chen and Ooi 2012 cut both
sides of a k-NN join so): an item goes to the part of its nearest centroid, a query to those of its
m nearest, its probes, and a sample tells the m that the recall needs. When that would send queries
to as many places, all of B is one part, salted into slices that every query goes to. Only vectors
and hashes of them travel; Spark merges what the parts found and fetches the rows, of which it then
reads only the columns that somebody asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Window
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, StructField

from lshjoin import engine
from lshjoin.arrays.knn import knn_join
from lshjoin.arrays.neighbors import Neighbors
from lshjoin.base.plan import JoinPlan
from lshjoin.spark.hashing import Functions, Hasher, VectorHasher
from lshjoin.spark.rows import (
    BLOCKS,
    HASH,
    HIGH,
    LOW,
    Batches,
    Size,
    block_bytes,
    broadcast_bytes,
    collect,
    content_hash,
    gathered,
    map_in_arrow,
    naming_rows,
    pair_schema,
    paired,
    plain_columns,
    quoted,
    sample,
    size,
    threads,
    with_column,
    with_field,
)
from lshjoin.spark.shuffle import (
    Blocks,
    Cluster,
    Ints,
    by_block,
    exchanged,
    routed_schema,
)
from lshjoin.spark.vectors import check_finite

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame
    from pyspark.sql.types import StructType

    from lshjoin._lshjoin import Matrix

# Rows of a side that a plan is made from, and those of them whose neighbours tell the recall.
_SAMPLE_ROWS, _TRIED_ROWS = 20_000, 2_000
# Items that every task may compare with all its queries.
_FEW_ITEMS = 200_000
# Centroids to a slice's worth of items, since parts are of uneven sizes; and at most.
_CENTROIDS_A_SLICE, _MOST_CENTROIDS = 2, 2_000

_FOUND_ROWS = 1 << 16
# Plain columns: Spark sorts by the first of them without looking into rows, unlike by structs.
_LEFT, _RIGHT = ("left_high", "left_low"), ("right_high", "right_low")
_FOUND = ", ".join(
    [*(f"{name} bigint" for name in (*_LEFT, *_RIGHT)), "copy int", "distance double"]
)


def nearest_to_key(
    hasher: Hasher[Functions], dataset: DataFrame, key: Any, k: int, dist_col: str
) -> DataFrame:
    """The rows nearest to one key, of those that share a bucket with it."""
    hasher.functions.check_key(key, dataset, hasher.features)

    def search(batches: Batches) -> Batches:
        for rows in gathered(batches, hasher.functions.row_bytes):
            query, items = hasher.functions.query_and_rows(
                hasher.functions.query(key), hasher.read(rows)
            )
            with naming_rows(rows, hasher.features, "items"):
                distances, found = hasher.functions.native.nearest_neighbors(
                    query, items, min(k, len(items)), num_threads=threads()
                )
            some = found[0] >= 0
            nearest = hasher.hashed(rows.take(found[0][some]))
            column = pa.array(distances[0][some].astype(np.float64))
            yield from with_column(nearest, dist_col, column).to_batches()

    field = StructField(dist_col, DoubleType(), nullable=False)
    schema = with_field(hasher.hashed_schema(dataset.schema), field)
    return map_in_arrow(dataset, search, schema).orderBy(quoted(dist_col)).limit(k)


def nearest_join(
    hasher: VectorHasher,
    left: DataFrame,
    right: DataFrame,
    k: int,
    recall: float,
    dist_col: str,
) -> DataFrame:
    """For every left row its nearest right rows."""
    schema = pair_schema(left.schema, right.schema, dist_col)
    items = size(right, hasher.row_bytes(right))
    if items.bytes <= broadcast_bytes(right) and items.rows <= _FEW_ITEMS:
        return _broadcast(hasher, left, right, k, schema)
    queries = items if right is left else size(left, hasher.row_bytes(left))
    plan = _plan(hasher, left, right, queries, items, recall)
    found = _found(hasher, left, right, k, plan)
    if plan.replicas > 1:
        order = Window.partitionBy(*_LEFT).orderBy("distance", *_RIGHT, "copy")
        found = found.withColumn("rank", F.row_number().over(order)).where(F.col("rank") <= k)
    return _fetched(hasher.features, found, left, right, dist_col)


def _broadcast(
    hasher: VectorHasher, left: DataFrame, right: DataFrame, k: int, schema: StructType
) -> DataFrame:
    rows = collect(right)

    def join(batches: Batches) -> Batches:
        if rows is None:
            return
        items = hasher.read(rows)
        for queries in gathered(batches, hasher.functions.row_bytes):
            distances, indices = _nearest(hasher, queries, rows, items, k, plan=JoinPlan.exact())
            found = indices >= 0
            yield from paired(
                queries, np.nonzero(found)[0], rows, indices[found], distances[found], schema.names
            )

    return map_in_arrow(left, join, schema)


def _nearest(
    hasher: VectorHasher,
    left: pa.Table,
    right: pa.Table,
    items: Matrix,
    k: int,
    recall: float | None = None,
    plan: JoinPlan | None = None,
) -> Neighbors:
    with (
        naming_rows(left, hasher.features, "queries"),
        naming_rows(right, hasher.features, "items"),
    ):
        return knn_join(
            hasher.read(left),
            items,
            min(k, max(len(items), 1)),
            recall=recall,
            plan=plan,
            num_threads=threads(),
            progress=False,
        )


@dataclass(frozen=True)
class Plan:
    """Where queries and items are compared."""

    centroids: NDArray[np.float32] | None  #: (parts, dim); None where there is one part
    probes: int  #: parts that a query goes to, those of its nearest centroids
    recall: float  #: inside a block
    blocks: Blocks

    @property
    def replicas(self) -> int:
        """Blocks that a query goes to, at most."""
        return self.probes * int(self.blocks.down.max())

    def parts_of(self, vectors: Matrix, probes: int) -> Ints:
        """The nearest parts (rows, probes) of vectors."""
        if self.centroids is None:
            return np.zeros((len(vectors), 1), np.int64)
        return _nearest_centroids(vectors, self.centroids, probes)


def _plan(
    hasher: VectorHasher,
    left: DataFrame,
    right: DataFrame,
    queries: Size,
    items: Size,
    recall: float,
) -> Plan:
    cluster = Cluster.of(left.sparkSession)
    capacity = max(block_bytes(left) // max(hasher.row_bytes(left), hasher.row_bytes(right)), 1)
    slices = math.ceil(items.rows / capacity)
    if slices > 1 and recall < 1 and queries.rows > 0:
        # What the parts miss and what a search inside them misses add up to what may be missed.
        share = math.sqrt(recall)
        sampled, tried = _sampled(hasher, right, items), _sampled(hasher, left, queries)
        count = min(_CENTROIDS_A_SLICE * slices, _MOST_CENTROIDS, len(sampled))
        centroids = engine.kmeans(sampled, count, seed=0, num_threads=threads())
        assigned = _nearest_centroids(sampled, centroids, 1)
        probes = _probes_for(share, tried[:_TRIED_ROWS], sampled, assigned, centroids)
        item_rows = _estimate(assigned, count, items)
        query_parts = _nearest_centroids(tried, centroids, probes)
        query_rows = _estimate(query_parts, count, queries) * probes
        down = np.ceil(item_rows / capacity).astype(np.int64).clip(1)
        replicas = (query_rows * down).sum() / queries.rows
        if replicas < slices:
            across = _across(query_rows, capacity, down, cluster)
            work = query_rows * down + item_rows * across
            return Plan(centroids, probes, share, Blocks.balanced(across, down, work, cluster))
    down = np.array([slices])
    across = _across(np.array([queries.rows]), capacity, down, cluster)
    return Plan(None, 1, recall, Blocks.balanced(across, down, np.ones(1), cluster))


def _across(query_rows: NDArray[np.float64], capacity: int, down: Ints, cluster: Cluster) -> Ints:
    """Slices of the queries: as many as fit, and enough for every slot to have a block."""
    across = np.ceil(query_rows / capacity).astype(np.int64).clip(1)
    return across * math.ceil(cluster.slots / (across * down).sum())


def _sampled(hasher: VectorHasher, dataset: DataFrame, measured: Size) -> Matrix:
    some = collect(sample(dataset.select(quoted(hasher.features)), measured, _SAMPLE_ROWS))
    if some is None:
        return np.empty((0, hasher.functions.dim))
    return hasher.read(some)


def _nearest_centroids(rows: Matrix, centroids: NDArray[np.float32], probes: int) -> Ints:
    found = knn_join(
        rows,
        centroids.astype(rows.dtype),
        probes,
        plan=JoinPlan.exact(),
        num_threads=threads(),
        progress=False,
    )
    return found.indices


def _probes_for(
    share: float, queries: Matrix, items: Matrix, assigned: Ints, centroids: NDArray[np.float32]
) -> int:
    """How many nearest centroids of a query lead to such a share of the nearest items.

    A sample's neighbours are farther than those among all rows, and so the more often elsewhere:
    the number errs towards too many. Items equal to the query, itself it may be, tell nothing.
    """
    distances, nearest = knn_join(
        queries, items, 2, plan=JoinPlan.exact(), num_threads=threads(), progress=False
    )
    told = (distances > 0) & (nearest >= 0)
    order = _nearest_centroids(queries, centroids, len(centroids))
    ranks = np.argsort(order, axis=1)  # of each centroid
    found = np.take_along_axis(ranks, assigned[nearest, 0], axis=1)[told]
    if len(found) == 0:
        return 1
    return 1 + int(np.quantile(found, share, method="higher"))


def _estimate(parts: Ints, count: int, measured: Size) -> NDArray[np.float64]:
    """Rows of each part, by those of a sample, each in as many parts as it has columns."""
    found = np.bincount(parts.ravel(), minlength=count).astype(np.float64)
    return found * (measured.rows / max(parts.size, 1))


def _found(
    hasher: VectorHasher, left: DataFrame, right: DataFrame, k: int, plan: Plan
) -> DataFrame:
    """The neighbours that each block finds: hashes of vectors, which copy of it, distances."""
    routed_left = _routed(hasher, left, plan, plan.probes, plan.blocks.of_left)
    routed_right = _routed(hasher, right, plan, 1, plan.blocks.of_right)

    def join(batches: Batches) -> Batches:
        for _, queries, items in by_block(batches):
            if len(queries) == 0 or len(items) == 0:
                continue
            queries = queries.filter(pa.array(_copies(queries) == 1))
            distances, indices = _nearest(
                hasher, queries, items, hasher.read(items), k, recall=plan.recall
            )
            found = indices >= 0
            rows, others = np.nonzero(found)[0], indices[found]
            yield from pa.table(
                _ids(queries, rows, _LEFT)
                | _ids(items, others, _RIGHT)
                | {
                    "copy": _copies(items)[others],
                    "distance": distances[found].astype(np.float64),
                }
            ).to_batches(_FOUND_ROWS)

    return exchanged(routed_left, routed_right, plan.blocks).mapInArrow(join, _FOUND)


def _routed(
    hasher: VectorHasher,
    dataset: DataFrame,
    plan: Plan,
    probes: int,
    blocks_of: Callable[[Ints, Ints], pa.ListArray],
) -> DataFrame:
    """Vectors, their two hashes, and the blocks that they go to."""

    def route(batches: Batches) -> Batches:
        for batch in batches:
            rows = pa.Table.from_batches([batch])
            named = rows.drop_columns([HIGH, LOW, HASH])
            vectors = hasher.read(named)
            with naming_rows(named, hasher.features):
                check_finite(vectors)
            blocks = blocks_of(plan.parts_of(vectors, probes), rows.column(HASH).to_numpy())
            yield from rows.select(columns).append_column(BLOCKS, blocks).to_batches()

    columns = [hasher.features, HIGH, LOW, HASH]
    # One plain column goes as far as to here, for errors to name.
    named = [name for name in plain_columns(dataset.schema) if name != hasher.features][:1]
    high, low = _hashes(hasher.features)
    vectors = dataset.select(
        quoted(hasher.features),
        *map(quoted, named),
        high.alias(HIGH),
        low.alias(LOW),
        high.alias(HASH),
    )
    schema = vectors.select(quoted(hasher.features), HIGH, LOW).schema
    return map_in_arrow(vectors, route, routed_schema(schema))


def _hashes(features: str) -> tuple[Column, Column]:
    """128 bits of a vector: rows that agree in them are equal, and at equal distances.

    So they tell which row is meant, unlike a number that Spark gives, even when a row is made anew.
    """
    return F.xxhash64(quoted(features)), F.xxhash64(F.lit(1), quoted(features))


def _ids(table: pa.Table, rows: Ints, names: tuple[str, str]) -> dict[str, Ints]:
    """The hashes of these rows, as columns of such names."""
    hashes = zip(names, (HIGH, LOW), strict=True)
    return {name: table.column(column).to_numpy()[rows] for name, column in hashes}


def _copies(table: pa.Table) -> NDArray[np.int32]:
    """Which row with its hashes each row of a block is, from 1: those are next to each other."""
    high, low = (table.column(name).to_numpy() for name in (HIGH, LOW))
    new = np.ones(len(table), np.bool_)
    new[1:] = (np.diff(high) != 0) | (np.diff(low) != 0)
    places = np.arange(len(table))
    return (places - np.maximum.accumulate(np.where(new, places, 0)) + 1).astype(np.int32)


def _fetched(
    features: str, found: DataFrame, left: DataFrame, right: DataFrame, dist_col: str
) -> DataFrame:
    """The rows that were found to be neighbours."""
    high, low = _hashes(features)
    # Rows with one vector are at one distance: which of them is meant does not matter, as long as
    # it is the same one when Spark does it again.
    order = Window.partitionBy(*_RIGHT).orderBy(HASH)
    # Renamed, so that the structs are made last and columns that nobody asks for are not read.
    queries = left.select(high.alias(_LEFT[0]), low.alias(_LEFT[1]), *_renamed(left, "a"))
    hashed = content_hash(right, features).alias(HASH)
    items = right.select(high.alias(_RIGHT[0]), low.alias(_RIGHT[1]), hashed, *_renamed(right, "b"))
    items = items.withColumn("copy", F.row_number().over(order))
    return (
        found.join(queries, list(_LEFT))
        .join(items, [*_RIGHT, "copy"])
        .select(
            _struct(left, "a").alias("datasetA"),
            _struct(right, "b").alias("datasetB"),
            F.col("distance").alias(dist_col),
        )
    )


def _renamed(dataset: DataFrame, prefix: str) -> list[Column]:
    return [
        F.col(quoted(name)).alias(f"{prefix}{place}") for place, name in enumerate(dataset.columns)
    ]


def _struct(dataset: DataFrame, prefix: str) -> Column:
    columns = enumerate(dataset.columns)
    return F.struct(*[F.col(f"{prefix}{place}").alias(name) for place, name in columns])
