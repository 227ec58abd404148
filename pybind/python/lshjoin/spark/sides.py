"""A side of a join of vectors: which column they are in, what travels, and where to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, StructField

from lshjoin.spark.rows import (
    BLOCKS,
    GROUP,
    HASH,
    HIGH,
    LOW,
    Batches,
    Measured,
    Size,
    are_distinct,
    broadcast_bytes,
    collect,
    few_rows,
    map_in_arrow,
    measured,
    naming_rows,
    plain_columns,
    quoted,
    sample,
    size,
    with_column,
    with_field,
)
from lshjoin.spark.shuffle import Ints, routed_schema
from lshjoin.spark.vectors import (
    check_finite,
    dimension,
    matrix,
    packed,
    unpacked,
    value_bytes,
)

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from lshjoin._lshjoin import Matrix


@dataclass(frozen=True)
class Vectors:
    """The column that holds the vectors."""

    name: str
    dim: int

    @property
    def bytes(self) -> int:
        """Of a vector as the engine has it, at most."""
        return 8 * self.dim

    def read(self, table: pa.Table) -> Matrix:
        """The vectors of the rows."""
        with naming_rows(table, self.name):
            return matrix(table.column(self.name), self.name, self.dim)


@dataclass(frozen=True)
class PackedVectors(Vectors):
    """The same on its way: packed, of so many bytes a value before."""

    value_bytes: int

    def read(self, table: pa.Table) -> Matrix:
        """The vectors of the rows."""
        return unpacked(table.column(self.name), self.dim, self.value_bytes)


@dataclass(frozen=True)
class Sample:
    """Some rows of a side."""

    vectors: Matrix
    keys: pa.Table  #: the columns of keys that were asked for

    def __len__(self) -> int:
        """How many rows."""
        return len(self.vectors)

    def take(self, rows: Ints) -> Sample:
        """Some of them."""
        return Sample(self.vectors[rows], self.keys.take(pa.array(rows)))


@dataclass(frozen=True)
class RowKey:
    """What a row is known by while its neighbours are looked for: hashes of what it holds.

    Those are the same even when a row is made anew, unlike a number that Spark gives.
    """

    columns: tuple[str, ...]
    unique: bool  #: whether no two rows have the same first hash

    def hashes(self) -> dict[str, Column]:
        """One, where it tells rows apart; else two, so that rows which agree in both are equal."""
        hashed = [F.col(quoted(name)) for name in self.columns]
        high, low = F.xxhash64(*hashed), F.xxhash64(F.lit(1), *hashed)
        return {HIGH: high} if self.unique else {HIGH: high, LOW: low}


@dataclass(frozen=True)
class Side:
    """A data frame, and the column of its vectors."""

    rows: DataFrame
    vectors: Vectors

    @classmethod
    def of(cls, rows: DataFrame, name: str) -> Side:
        """With vectors as long as that of the first row; 0 where there is none."""
        value_bytes(rows, name)
        return cls(rows, Vectors(name, dimension(rows, name)))

    @property
    def row_bytes(self) -> int:
        """Bytes of a vector on its way."""
        return self.vectors.dim * value_bytes(self.rows, self.vectors.name)

    @property
    def packed(self) -> PackedVectors:
        """The vectors on their way."""
        name, dim = self.vectors.name, self.vectors.dim
        return PackedVectors(name, dim, value_bytes(self.rows, name))

    def size(self) -> Size:
        """How large it is, counted by a job."""
        return size(self.rows, self.row_bytes)

    def measured(self, rows: int) -> Measured:
        """The same; and the rows, if they may go to every task and are no more than that."""
        return measured(self.rows, self.row_bytes, self._most(rows))

    def few(self, rows: int) -> pa.Table | None:
        """The rows, if they are no more than that, and Spark knows it without a look at them."""
        return few_rows(self.rows, self.row_bytes, self._most(rows))

    def _most(self, rows: int) -> int:
        return min(broadcast_bytes(self.rows), rows * self.row_bytes)

    def sample(self, measured: Size, rows: int, *keys: str) -> Sample:
        """About so many of the rows, with columns of keys."""
        return replace(self, rows=sample(self.rows, measured, rows)).collected(*keys)

    def collected(self, *keys: str) -> Sample:
        """All rows, with columns of keys.

        Without those that hold NaN or infinity: the task that comes upon one names its row.
        """
        columns = [self.vectors.name, *keys, *self.naming()]
        rows = collect(self.rows.select(*map(quoted, dict.fromkeys(columns))))
        if rows is None:
            return Sample(np.empty((0, self.vectors.dim)), pa.table({name: [] for name in keys}))
        vectors = self.vectors.read(rows)
        finite = np.flatnonzero(np.isfinite(vectors).all(axis=1))
        return Sample(vectors, rows.select(list(keys))).take(finite)

    def naming(self) -> list[str]:
        """One plain column, if there is one, for errors to name."""
        plain = plain_columns(self.rows.schema)
        return [name for name in plain if name != self.vectors.name][:1]

    def row_key(self, rows: int, *keys: str) -> RowKey:
        """What tells so many rows apart: a plain column, if it does, else vectors and keys."""
        for name in self.naming():
            key = RowKey((name,), unique=True)
            if are_distinct(self.rows.select(key.hashes()[HIGH].alias(HASH)), rows):
                return key
        return RowKey((self.vectors.name, *keys), unique=False)


def routed(
    side: Side,
    carried: Sequence[str],
    blocks_of: Callable[[Matrix, pa.Table], pa.ListArray],
    *,
    known: RowKey | None = None,
    within: str | None = None,
) -> DataFrame:
    """Packed vectors and the columns that are carried, and where they go.

    With the hashes that rows are known by, if they are. Where a row goes its vector tells, the hash
    of its content, what is carried, and the hash of the column ``within``.
    """
    vectors = side.vectors

    def route(batches: Batches) -> Batches:
        for batch in batches:
            rows = pa.Table.from_batches([batch])
            named = rows.select(names)
            found = vectors.read(named)
            with naming_rows(named, vectors.name):
                check_finite(found)
            blocks = blocks_of(found, rows)
            packed_rows = with_column(rows.select(columns), vectors.name, packed(found))
            yield from packed_rows.append_column(BLOCKS, blocks).to_batches()

    kept = list(dict.fromkeys([vectors.name, *carried]))
    hashes = {} if known is None else known.hashes()
    names = list(dict.fromkeys([*kept, *side.naming()]))
    columns = [*kept, *hashes, HASH]
    content = hashes.get(HIGH, F.xxhash64(*map(quoted, kept)))
    added = {**hashes, HASH: content}
    if within is not None:
        added[GROUP] = F.xxhash64(quoted(within))
    rows = side.rows.select(
        *map(quoted, names), *(column.alias(name) for name, column in added.items())
    )
    schema = rows.select(*map(quoted, columns[:-1])).schema
    schema = with_field(schema, StructField(vectors.name, BinaryType(), nullable=False))
    return map_in_arrow(rows, route, routed_schema(schema))
