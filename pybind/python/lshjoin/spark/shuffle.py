"""The shuffle: rows to blocks, each of which one task joins on its own.

A *part* is a coarse bucket of the data: rows of the two sides that are compared lie in one. A part
with too many rows for a task is salted: its left rows are cut by a hash of their content into
``across`` slices and its right rows into ``down``, and each pair of slices is a *block* of the join
matrix. So a left row goes to ``down`` blocks and a right row to ``across``. Where a row goes
depends on the plan and on its content alone: a task that Spark runs again sends the same rows to
the same blocks.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StructType

from lshjoin.spark.rows import BLOCKS, HASH, Batches, quoted, unnested

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

Ints = NDArray[np.int64]

_BLOCKS_TYPE = ArrayType(
    StructType().add("key", "long").add("block", "long").add("right", "boolean")
)


@dataclass(frozen=True)
class Cluster:
    """What a plan has to know of the cluster."""

    slots: int  #: tasks that run at a time
    most_partitions: int  #: ``spark.sql.shuffle.partitions``
    hashes: NDArray[np.int32]  #: Spark's hash, which tells a row's partition, of 0, 1, 2, …

    @classmethod
    def of(cls, spark: SparkSession) -> Cluster:
        """Asks for it by a small job: on Spark Connect there is no other way."""
        said = str(spark.conf.get("spark.sql.shuffle.partitions"))
        most = int(said) if said.isdigit() else 200  # Databricks knows "auto"
        numbers = spark.range(16 * max(most, 256))
        rows = numbers.select(F.hash("id"), F.spark_partition_id()).collect()
        hashes = np.array([row[0] for row in rows], np.int32)
        return cls(1 + max(row[1] for row in rows), most, hashes)

    def keys(self, partitions: int) -> list[int]:
        """For each partition a number that Spark's hash puts there."""
        _, first = np.unique(self.hashes % partitions, return_index=True)
        return [int(number) for number in first]


@dataclass(frozen=True)
class Routes:
    """The parts that rows go to: pairs of a row, rising, and a part."""

    rows: int
    row: Ints
    part: Ints  #: the first of each row is that in which it is at home

    @classmethod
    def of(cls, parts: Ints) -> Routes:
        """Of the parts (rows, n) of rows."""
        return cls(len(parts), np.repeat(np.arange(len(parts)), parts.shape[1]), parts.ravel())

    def repeated(self, times: Ints) -> tuple[Ints, Ints, Ints]:
        """Row, part, and which time it is, as often as ``times`` says of each part."""
        counts = times[self.part]
        nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(self.row, counts), np.repeat(self.part, counts), nth


@dataclass(frozen=True)
class Blocks:
    """The blocks of all parts, numbered part by part, and where each is joined."""

    across: Ints  #: (parts,) slices of the left side
    down: Ints  #: (parts,) slices of the right side
    keys: Ints  #: (blocks,) numbers that Spark's hash puts into the block's partition
    partitions: int

    @classmethod
    def balanced(
        cls, across: Ints, down: Ints, work: NDArray[np.float64], cluster: Cluster
    ) -> Blocks:
        """Blocks spread evenly over the partitions, by the ``work`` (parts,) that each part is."""
        sizes = across * down
        each = np.repeat(work / sizes, sizes)
        keys = cluster.keys(min(len(each), cluster.most_partitions))
        # The largest first, each to the partition that has least to do.
        loads = [(0.0, partition) for partition in range(len(keys))]
        chosen = np.empty(len(each), np.int64)
        for block in np.argsort(-each, kind="stable"):
            load, partition = loads[0]
            heapq.heapreplace(loads, (load + each[block], partition))
            chosen[block] = keys[partition]
        return cls(across, down, chosen, len(keys))

    @property
    def first(self) -> Ints:
        """The first block of each part."""
        sizes = self.across * self.down
        return np.cumsum(sizes) - sizes

    def part_of(self, block: int) -> int:
        """The part that a block is of."""
        return int(np.searchsorted(self.first, block, side="right")) - 1

    def is_diagonal(self, block: int) -> bool:
        """Whether both sides of a block of :meth:`of_both` are one slice."""
        part = self.part_of(block)
        return block - int(self.first[part]) in range(0, self.down[part] ** 2, self.down[part] + 1)

    def of_left(self, routes: Routes, hashes: Ints) -> pa.ListArray:
        """The blocks of left rows, which have these ``hashes``."""
        row, part, nth = routes.repeated(self.down)
        return self._column(routes.rows, row, part, hashes[row] % self.across[part], nth, False)

    def of_right(self, routes: Routes, hashes: Ints) -> pa.ListArray:
        """The blocks of right rows."""
        row, part, nth = routes.repeated(self.across)
        return self._column(routes.rows, row, part, nth, hashes[row] % self.down[part], True)

    def of_both(self, routes: Routes, hashes: Ints) -> pa.ListArray:
        """The blocks of rows that are joined with each other, ``across`` and ``down`` being equal.

        Slices i < j share one block, in which the rows of i are left and those of j right.
        """
        row, part, nth = routes.repeated(self.down)
        own = hashes[row] % self.across[part]
        return self._column(
            routes.rows, row, part, np.minimum(own, nth), np.maximum(own, nth), own > nth
        )

    def of_itself(self, routes: Routes) -> pa.ListArray:
        """The blocks of rows that are both sides, where each part is one block.

        They are left rows of the part in which they are at home, and right rows of others.
        """
        away = np.append(-1, routes.row)[:-1] == routes.row
        none = np.zeros_like(routes.row)
        return self._column(routes.rows, routes.row, routes.part, none, none, away)

    def _column(
        self,
        rows: int,
        row: Ints,
        part: Ints,
        left: Ints,
        right: Ints,
        is_right: NDArray[np.bool_] | bool,
    ) -> pa.ListArray:
        block = self.first[part] + left * self.down[part] + right
        fields = [self.keys[block], block, np.broadcast_to(is_right, len(block))]
        offsets = np.searchsorted(row, np.arange(rows + 1)).astype(np.int32)
        return pa.ListArray.from_arrays(
            pa.array(offsets),
            pa.StructArray.from_arrays(
                [pa.array(each) for each in fields], ["key", "block", "right"]
            ),
        )


def routed_schema(schema: StructType) -> StructType:
    """Of a data frame whose rows know their hash and their blocks."""
    return StructType([*schema.fields]).add(HASH, "long").add(BLOCKS, _BLOCKS_TYPE)


def exchanged(left: DataFrame, right: DataFrame | None, blocks: Blocks) -> DataFrame:
    """One shuffle of routed rows: each partition holds its blocks one after the other.

    Columns ``block``, and ``left`` and ``right``, one of which is null. Within a block by the hash
    of the content, so that the order is the same when Spark does it again. Without a right side the
    left one's rows say on which side of a block they are.
    """
    row, at = F.col("row"), F.col("at")
    placed = _placed(left)
    if right is None:
        sides = _sides(placed, F.when(~at.right, row), F.when(at.right, row))
    else:
        placed_right = _placed(right)
        none = {
            side: F.lit(None).cast(side.schema["row"].dataType) for side in (placed, placed_right)
        }
        sides = _sides(placed, row, none[placed_right]).union(
            _sides(placed_right, none[placed], row)
        )
    return (
        sides.repartition(blocks.partitions, "key")
        .sortWithinPartitions("block", HASH)
        .select("block", "left", "right")
    )


def _placed(routed: DataFrame) -> DataFrame:
    columns = [quoted(name) for name in routed.columns if name not in (HASH, BLOCKS)]
    return routed.select(F.explode(BLOCKS).alias("at"), HASH, F.struct(*columns).alias("row"))


def _sides(placed: DataFrame, left: Column, right: Column) -> DataFrame:
    return placed.select("at.key", "at.block", HASH, left.alias("left"), right.alias("right"))


def by_block(batches: Batches) -> Iterator[tuple[int, pa.Table, pa.Table]]:
    """The blocks of a partition of :func:`exchanged`: number, left rows, right rows."""
    current, held = -1, list[pa.RecordBatch]()
    for batch in batches:
        blocks = batch.column(0).to_numpy()
        starts = np.flatnonzero(np.diff(blocks, prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(blocks)], strict=True):
            if blocks[start] != current and held:
                yield current, _side(held, "left"), _side(held, "right")
                held = []
            current = int(blocks[start])
            held.append(batch.slice(start, end - start))
    if held:
        yield current, _side(held, "left"), _side(held, "right")


def _side(batches: list[pa.RecordBatch], side: str) -> pa.Table:
    rows = [batch.column(side).drop_null() for batch in batches]
    schema = pa.schema(list(rows[0].type))
    return pa.Table.from_batches(map(unnested, rows), schema).combine_chunks()
