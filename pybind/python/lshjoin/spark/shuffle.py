"""The shuffle: rows to cells, each of which one task joins on its own.

A *part* is a coarse bucket of the data: rows of the two sides that are to meet lie in one. A part
with too many rows for a task is salted: its left rows are cut by a hash of their content into
``across`` slices and its right rows into ``down``, and each pair of slices is a cell. So a left row
goes to ``down`` cells and a right row to ``across``. Where a row goes depends on the plan and on
its content alone: a task that Spark runs again sends the same rows to the same cells.
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

from lshjoin.spark.rows import CELLS, HASH, Batches, quoted

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

Ints = NDArray[np.int64]

_CELLS_TYPE = ArrayType(
    StructType().add("seat", "long").add("cell", "long").add("right", "boolean")
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

    def seats(self, partitions: int) -> list[int]:
        """For each partition a number that Spark's hash puts there."""
        _, first = np.unique(self.hashes % partitions, return_index=True)
        return [int(number) for number in first]


@dataclass(frozen=True)
class Cells:
    """The cells of all parts, numbered part by part, and where each is joined."""

    across: Ints  #: (parts,) slices of the left side
    down: Ints  #: (parts,) slices of the right side
    seats: Ints  #: (cells,) numbers that Spark's hash puts into the cell's partition
    partitions: int

    @classmethod
    def seated(cls, across: Ints, down: Ints, work: NDArray[np.float64], cluster: Cluster) -> Cells:
        """Cells spread evenly over the partitions; ``work`` (parts,) is what each part means."""
        sizes = across * down
        each = np.repeat(work / sizes, sizes)
        seats = cluster.seats(min(len(each), cluster.most_partitions))
        # The largest first, each to the partition that has least to do.
        loads = [(0.0, partition) for partition in range(len(seats))]
        chosen = np.empty(len(each), np.int64)
        for cell in np.argsort(-each, kind="stable"):
            load, partition = loads[0]
            heapq.heapreplace(loads, (load + each[cell], partition))
            chosen[cell] = seats[partition]
        return cls(across, down, chosen, len(seats))

    @property
    def first(self) -> Ints:
        """The first cell of each part."""
        sizes = self.across * self.down
        return np.cumsum(sizes) - sizes

    def part_of(self, cell: int) -> int:
        """The part that a cell is of."""
        return int(np.searchsorted(self.first, cell, side="right")) - 1

    def is_diagonal(self, cell: int) -> bool:
        """Whether a slice meets itself in a cell of :meth:`of_both`."""
        part = self.part_of(cell)
        return cell - int(self.first[part]) in range(0, self.down[part] ** 2, self.down[part] + 1)

    def of_left(self, parts: Ints, hashes: Ints) -> pa.ListArray:
        """The cells of left rows, which lie in ``parts`` (rows, n) and have these ``hashes``."""
        row, part, nth = _repeated(parts, self.down)
        return self._column(len(parts), row, part, hashes[row] % self.across[part], nth, False)

    def of_right(self, parts: Ints, hashes: Ints) -> pa.ListArray:
        """The cells of right rows."""
        row, part, nth = _repeated(parts, self.across)
        return self._column(len(parts), row, part, nth, hashes[row] % self.down[part], True)

    def of_both(self, parts: Ints, hashes: Ints) -> pa.ListArray:
        """The cells of rows that meet each other, ``across`` and ``down`` being equal.

        Slices i < j meet in one cell, in which the rows of i are left and those of j right.
        """
        row, part, nth = _repeated(parts, self.down)
        own = hashes[row] % self.across[part]
        return self._column(
            len(parts), row, part, np.minimum(own, nth), np.maximum(own, nth), own > nth
        )

    def _column(
        self,
        rows: int,
        row: Ints,
        part: Ints,
        left: Ints,
        right: Ints,
        is_right: NDArray[np.bool_] | bool,
    ) -> pa.ListArray:
        cell = self.first[part] + left * self.down[part] + right
        fields = [self.seats[cell], cell, np.broadcast_to(is_right, len(cell))]
        offsets = np.searchsorted(row, np.arange(rows + 1)).astype(np.int32)
        return pa.ListArray.from_arrays(
            pa.array(offsets),
            pa.StructArray.from_arrays(
                [pa.array(each) for each in fields], ["seat", "cell", "right"]
            ),
        )


def _repeated(parts: Ints, times: Ints) -> tuple[Ints, Ints, Ints]:
    """For each row and part of it, as often as the part says: row, part, and which time it is."""
    part = parts.ravel()
    counts = times[part]
    row = np.repeat(np.arange(len(parts)), parts.shape[1])
    nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(row, counts), np.repeat(part, counts), nth


def routed_schema(schema: StructType) -> StructType:
    """Of a data frame whose rows know their hash and their cells."""
    return StructType([*schema.fields]).add(HASH, "long").add(CELLS, _CELLS_TYPE)


def exchanged(left: DataFrame, right: DataFrame | None, cells: Cells) -> DataFrame:
    """One shuffle of routed rows: each partition holds its cells one after the other.

    Columns ``cell``, and ``left`` and ``right``, one of which is null. Within a cell by the hash of
    the content, so that the order is the same when Spark does it again. Without a right side the
    left one's rows say on which side of a cell they are.
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
        sides.repartition(cells.partitions, "seat")
        .sortWithinPartitions("cell", HASH)
        .select("cell", "left", "right")
    )


def _placed(routed: DataFrame) -> DataFrame:
    columns = [quoted(name) for name in routed.columns if name not in (HASH, CELLS)]
    return routed.select(F.explode(CELLS).alias("at"), HASH, F.struct(*columns).alias("row"))


def _sides(placed: DataFrame, left: Column, right: Column) -> DataFrame:
    return placed.select("at.seat", "at.cell", HASH, left.alias("left"), right.alias("right"))


def by_cell(batches: Batches) -> Iterator[tuple[int, pa.Table, pa.Table]]:
    """The cells of a partition of :func:`exchanged`: number, left rows, right rows."""
    current, held = -1, list[pa.RecordBatch]()
    for batch in batches:
        cells = batch.column(0).to_numpy()
        starts = np.flatnonzero(np.diff(cells, prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(cells)], strict=True):
            if cells[start] != current and held:
                yield current, _side(held, "left"), _side(held, "right")
                held = []
            current = int(cells[start])
            held.append(batch.slice(start, end - start))
    if held:
        yield current, _side(held, "left"), _side(held, "right")


def _side(batches: list[pa.RecordBatch], side: str) -> pa.Table:
    rows = [batch.column(side).drop_null() for batch in batches]
    schema = pa.schema(list(rows[0].type))
    tables = pa.Table.from_batches([pa.RecordBatch.from_struct_array(row) for row in rows], schema)
    return tables.combine_chunks()
