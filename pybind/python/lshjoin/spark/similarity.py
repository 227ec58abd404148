"""All pairs nearer than a threshold that share a bucket: Spark's ``approxSimilarityJoin``.

Two small sides are joined on the driver when the ids of pairs are asked for (``local.py``). A small
side goes to every task, which joins it with the rows of the other one that it has. Two large sides
are shuffled by table and bucket: a part is a range of one table's bucket ids, so that a row travels
once for each table, times the slices of a bucket that is too large for a task. Rows that share
buckets in several tables are compared in several parts and count in that of the first such table:
no pair is found twice, so that none has to be looked for among the results.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lshjoin.errors import RowError
from lshjoin.spark.hashing import Functions, Hasher
from lshjoin.spark.local import MOST_COMPARED, local_relation, may_be_local
from lshjoin.spark.pairs import Pairs
from lshjoin.spark.rows import (
    BLOCKS,
    HASH,
    Batches,
    Size,
    are_distinct,
    block_bytes,
    broadcast_bytes,
    collect,
    content_hash,
    gathered,
    map_in_arrow,
    measured,
    naming_rows,
    sample,
    threads,
)
from lshjoin.spark.shuffle import (
    Blocks,
    Cluster,
    Ints,
    Routes,
    by_block,
    exchanged,
    routed_schema,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

    from lshjoin._lshjoin import Floats

# Rows of a side that a plan is made from.
_SAMPLE_ROWS = 20_000
# What the ids of several functions are mixed by: 2**64 over the golden ratio, rounded to odd.
_MIXED_BY = np.int64(0x9E3779B97F4A7C15 - 2**64)
# What a row costs on its way, in pairs that are compared in the same time.
_ROW_IN_PAIRS = 1_000.0
# Blocks that a slot gets at least, so that the tasks end at about the same time.
_BLOCKS_A_SLOT = 4
# Fewer rows are not worth a block of their own.
_FEWEST_ROWS = 1_000


def similarity_join(
    hasher: Hasher[Functions], left: DataFrame, right: DataFrame, threshold: float, pairs: Pairs
) -> DataFrame:
    """The pairs that Spark gives."""
    schema = pairs.schema(*map(hasher.hashed_schema, (left.schema, right.schema)))
    # Spark calls it a self-join when it is one data frame; then the pairs are found once.
    # (Of names sameSemantics takes no notice.)
    itself = right is left or (left.schema == right.schema and left.sameSemantics(right))
    few = broadcast_bytes(left)
    sides = [_Side.of(side, hasher, few) for side in ([left] if itself else [left, right])]
    if min(side.size.bytes for side in sides) <= few:
        found = _local(hasher, sides, threshold, pairs, schema)
        return _broadcast(hasher, sides, threshold, pairs, schema) if found is None else found
    distinct, sizes = [side.distinct() for side in sides], [side.size for side in sides]
    left, right, sizes = distinct[0], distinct[-1], [sizes[0], sizes[-1]]
    return _shuffled(hasher, left, None if itself else right, sizes, threshold, pairs, schema)


@dataclass(frozen=True)
class _Side:
    """A side, and what a first look at it says."""

    dataset: DataFrame
    hashed: DataFrame  #: with the hash of what is in a row
    size: Size
    rows: pa.Table | None  #: those of ``hashed``, unless they are too many or none

    @classmethod
    def of(cls, dataset: DataFrame, hasher: Hasher[Functions], few: int) -> _Side:
        hashed = dataset.withColumn(HASH, content_hash(dataset, hasher.features))
        found = measured(hashed, hasher.row_bytes(dataset), few)
        return cls(dataset, hashed, found.size, found.rows)

    def distinct(self) -> DataFrame:
        """One row of those that are equal in all columns, since Spark's join gives no pair twice.

        Looked for by their hashes, as it is seldom that there are any: Spark would move the rows.
        """
        if self.rows is None:
            differ = are_distinct(self.hashed.select(HASH), self.size.rows)
        else:
            differ = _differ(self.rows)
        return self.dataset if differ else self.dataset.distinct()

    @cached_property
    def collected(self) -> tuple[DataFrame, pa.Table | None]:
        """The same, and its rows; of jobs once, whichever way the join then goes."""
        rows = collect(self.hashed) if self.rows is None else self.rows
        if rows is None or _differ(rows):
            return self.dataset, None if rows is None else rows.drop_columns([HASH])
        distinct = self.dataset.distinct()
        return distinct, collect(distinct)


def _differ(rows: pa.Table) -> bool:
    return len(rows.column(HASH).unique()) == len(rows)


def _broadcast(
    hasher: Hasher[Functions],
    sides: list[_Side],
    threshold: float,
    pairs: Pairs,
    schema: StructType,
) -> DataFrame:
    """The smaller side goes to every task."""
    small_is_left = sides[0].size.bytes < sides[-1].size.bytes
    small, collected = sides[0 if small_is_left else -1].collected
    large = small if len(sides) == 1 else sides[int(small_is_left)].distinct()
    small_rows = None if collected is None else hasher.hashed(collected)

    def join(batches: Batches) -> Batches:
        if small_rows is None:
            return
        for some in gathered(batches, hasher.functions.row_bytes):
            rows = hasher.hashed(some)
            both = (small_rows, rows) if small_is_left else (rows, small_rows)
            a, b, distances = _join(hasher, *both, threshold)
            yield from pairs.batches(both[0], a, both[1], b, distances)

    return map_in_arrow(large, join, schema)


def _local(
    hasher: Hasher[Functions],
    sides: list[_Side],
    threshold: float,
    pairs: Pairs,
    schema: StructType,
) -> DataFrame | None:
    """Both sides on the driver; None where that is too much for it, or a row is refused."""
    session = sides[0].dataset.sparkSession
    if not may_be_local(session, schema) or any(side.rows is None for side in sides):
        return None
    rows = [side.collected[1] for side in sides]
    left, right = rows[0], rows[-1]
    if left is None or right is None:
        return None

    def join() -> Batches:
        a, b, distances = _join(hasher, left, right, threshold)
        yield from pairs.batches(left, a, right, b, distances)

    with suppress(RowError):
        if _compared(hasher, left, right) <= MOST_COMPARED:
            return local_relation(session, join, schema)
    return None


def _compared(hasher: Hasher[Functions], left: pa.Table, right: pa.Table) -> int:
    """The pairs that share a bucket, as often as they do."""
    pairs = 0
    of_left, of_right = (_buckets(hasher.ids(side)) for side in (left, right))
    for table in range(of_left.shape[1]):
        buckets, counts = np.unique(of_left[:, table], return_counts=True)
        others, of_others = np.unique(of_right[:, table], return_counts=True)
        _, at, at_others = np.intersect1d(buckets, others, True, return_indices=True)
        pairs += int(counts[at] @ of_others[at_others])
    return pairs


def _shuffled(
    hasher: Hasher[Functions],
    left: DataFrame,
    right: DataFrame | None,
    sizes: list[Size],
    threshold: float,
    pairs: Pairs,
    schema: StructType,
) -> DataFrame:
    """Both sides go to blocks by table and bucket; the left one alone in a self-join."""
    sampled = [_sample(hasher, left, sizes[0])]
    if right is not None:
        sampled.append(_sample(hasher, right, sizes[1]))
    cluster = Cluster.of(left.sparkSession)
    ranges, blocks = _plan(sampled, sizes, block_bytes(left), cluster)
    itself = right is None
    routed_left = _routed(hasher, left, ranges, blocks.of_both if itself else blocks.of_left)
    routed_right = None if right is None else _routed(hasher, right, ranges, blocks.of_right)

    def join(batches: Batches) -> Batches:
        for block, lefts, rights in by_block(batches):
            if itself and blocks.is_diagonal(block):
                rights = lefts
            table = ranges.table_of(blocks.part_of(block))
            a, b, distances = _join(hasher.of_table(table), lefts, rights, threshold)
            new = ~_agree_before(hasher, table, lefts, a, rights, b)
            a, b, distances = a[new], b[new], distances[new]
            yield from pairs.batches(lefts, a, rights, b, distances)
            if itself and rights is not lefts:
                yield from pairs.batches(rights, b, lefts, a, distances)

    return exchanged(routed_left, routed_right, blocks).mapInArrow(join, schema)


def _join(
    hasher: Hasher[Functions], left: pa.Table, right: pa.Table, threshold: float
) -> tuple[Ints, Ints, Floats]:
    """Row numbers of both sides, and distances; each pair both ways when right is left."""
    sides = hasher.read(left), None
    if right is not left:
        sides = hasher.functions.alike(sides[0], hasher.read(right))
    with (
        naming_rows(left, hasher.features, "the left side"),
        naming_rows(right, hasher.features, "the right side"),
    ):
        return hasher.functions.native.similarity_join(*sides, threshold, num_threads=threads())


def _agree_before(
    hasher: Hasher[Functions], table: int, left: pa.Table, a: Ints, right: pa.Table, b: Ints
) -> NDArray[np.bool_]:
    """Which pairs share a bucket in a table before this one."""
    left_ids = hasher.ids(left)
    right_ids = left_ids if right is left else hasher.ids(right)
    agree = np.zeros(len(a), np.bool_)
    for earlier in range(table):
        agree |= (left_ids[a, earlier] == right_ids[b, earlier]).all(axis=1)
    return agree


def _routed(
    hasher: Hasher[Functions],
    dataset: DataFrame,
    ranges: Ranges,
    blocks_of: Callable[[Routes, Ints], pa.ListArray],
) -> DataFrame:
    def route(batches: Batches) -> Batches:
        for batch in batches:
            table = pa.Table.from_batches([batch])
            hashes, rows = table.column(HASH), table.drop_columns([HASH])
            ids = hasher.ids(rows)
            rows = hasher.hashed(rows, ids).append_column(HASH, hashes)
            parts = ranges.parts(_buckets(ids))
            rows = rows.append_column(BLOCKS, blocks_of(Routes.of(parts), hashes.to_numpy()))
            yield from rows.to_batches()

    hashed = dataset.withColumn(HASH, content_hash(dataset, hasher.features))
    schema = routed_schema(hasher.hashed_schema(dataset.schema))
    return map_in_arrow(hashed, route, schema)


def _buckets(ids: NDArray[np.int32]) -> Ints:
    """One number for each row's bucket in each table (rows, tables): of one function its id.

    Of several a hash, by which two buckets may get one number: then they are in one part.
    """
    buckets = np.zeros(ids.shape[:2], np.int64)
    for function in range(ids.shape[2]):
        buckets *= _MIXED_BY
        buckets += ids[:, :, function]
    return buckets


@dataclass(frozen=True)
class Ranges:
    """The buckets of each table cut into ranges, which are the parts."""

    edges: tuple[Ints, ...]  #: for each table the first bucket of each range

    @property
    def first(self) -> Ints:
        """The first part of each table."""
        counts = np.array([len(edges) for edges in self.edges])
        return np.cumsum(counts) - counts

    def parts(self, buckets: Ints) -> Ints:
        """The parts (rows, tables) of buckets; those below all edges are of the first."""
        parts = np.empty(buckets.shape, np.int64)
        for table, (first, edges) in enumerate(zip(self.first, self.edges, strict=True)):
            places = np.searchsorted(edges, buckets[:, table], side="right") - 1
            parts[:, table] = first + np.maximum(places, 0)
        return parts

    def table_of(self, part: int) -> int:
        """The table that a part is of."""
        return int(np.searchsorted(self.first, part, side="right")) - 1


def _sample(hasher: Hasher[Functions], dataset: DataFrame, measured: Size) -> Ints:
    """The buckets (rows, tables) of some of the rows."""

    def hash_rows(batches: Batches) -> Batches:
        for batch in batches:
            buckets = _buckets(hasher.ids(pa.Table.from_batches([batch])))
            column = pa.array(list(buckets), pa.list_(pa.int64()))
            yield pa.RecordBatch.from_pydict({"buckets": column})

    some = sample(dataset, measured, _SAMPLE_ROWS)
    found = map_in_arrow(some, hash_rows, "buckets array<long>").collect()
    return np.array([row.buckets for row in found], np.int64)


def _plan(
    sampled: list[Ints],
    sizes: list[Size],
    block_bytes: int,
    cluster: Cluster,
) -> tuple[Ranges, Blocks]:
    """Ranges of as many rows as a block may have; a single bucket of more rows is salted."""
    tables, rows = sampled[0].shape[1], sum(each.rows for each in sizes)
    row_bytes = sum(each.bytes for each in sizes) / rows
    capacity = min(block_bytes / row_bytes, tables * rows / (_BLOCKS_A_SLOT * cluster.slots))
    capacity = max(capacity, _FEWEST_ROWS)
    edges, grids, work = [], [], []
    for table in range(tables):
        buckets = np.unique(np.concatenate([each[:, table] for each in sampled]))
        counts = np.zeros((len(buckets), 2))
        for side in range(2):  # of a self-join both are the same
            some = sampled[side % len(sampled)][:, table]
            places, found = np.unique(np.searchsorted(buckets, some), return_counts=True)
            counts[places, side] = found * (sizes[side].rows / len(some))
        starts = _starts(counts.sum(axis=1), capacity)
        edges.append(buckets[starts])
        for part in np.split(counts, starts[1:]):
            both = part.sum(axis=0)
            too_many = both.sum() > capacity
            grid = np.ceil(2 * both / capacity) if too_many else np.ones(2)
            grids.append(grid.astype(np.int64).clip(1))
            work.append((part[:, 0] * part[:, 1]).sum() + _ROW_IN_PAIRS * both @ grid[::-1])
    across, down = np.stack(grids, axis=1)
    return Ranges(tuple(edges)), Blocks.balanced(across, down, np.array(work), cluster)


def _starts(rows: NDArray[np.float64], capacity: float) -> list[int]:
    """Where to cut buckets of so many rows so that no range has more than the capacity."""
    starts, held = [0], 0.0
    for bucket, more in enumerate(rows):
        if held and held + more > capacity:
            starts.append(bucket)
            held = 0.0
        held += more
    return starts
