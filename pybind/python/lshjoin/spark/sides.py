"""A side of a join of vectors: which column they are in, what travels, and where to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, StructField

from lshjoin.spark.rows import (
    BLOCKS,
    HASH,
    HIGH,
    LOW,
    Batches,
    Size,
    collect,
    map_in_arrow,
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

    def sample(self, measured: Size, rows: int) -> Matrix:
        """The vectors of about so many rows.

        Without those that hold NaN or infinity: the task that comes upon one names its row.
        """
        named = self.rows.select(*map(quoted, [self.vectors.name, *self.naming()]))
        some = collect(sample(named, measured, rows))
        if some is None:
            return np.empty((0, self.vectors.dim))
        vectors = self.vectors.read(some)
        return vectors[np.isfinite(vectors).all(axis=1)]

    def naming(self) -> list[str]:
        """One plain column, if there is one, for errors to name."""
        plain = plain_columns(self.rows.schema)
        return [name for name in plain if name != self.vectors.name][:1]

    def hashes(self, *columns: str) -> tuple[Column, Column]:
        """128 bits of a vector, and of what else is in these columns.

        Rows that agree in them are equal, so that they tell which row is meant, unlike a number
        that Spark gives, even when a row is made anew.
        """
        hashed = [quoted(self.vectors.name), *map(quoted, columns)]
        return F.xxhash64(*hashed), F.xxhash64(F.lit(1), *hashed)


def routed(
    side: Side,
    carried: Sequence[str],
    blocks_of: Callable[[Matrix, Ints], pa.ListArray],
    *,
    hashed: bool,
) -> DataFrame:
    """Packed vectors and the columns that are carried, and where they go.

    With the two hashes of both, where rows are known by these.
    """
    vectors = side.vectors

    def route(batches: Batches) -> Batches:
        for batch in batches:
            rows = pa.Table.from_batches([batch])
            named = rows.drop_columns(hash_columns)
            found = vectors.read(named)
            with naming_rows(named, vectors.name):
                check_finite(found)
            blocks = blocks_of(found, rows.column(HASH).to_numpy())
            packed_rows = with_column(rows.select(columns), vectors.name, packed(found))
            yield from packed_rows.append_column(BLOCKS, blocks).to_batches()

    kept = [vectors.name, *carried]
    high, low = side.hashes(*carried)
    hashes = {HIGH: high, LOW: low, HASH: high} if hashed else {HASH: high}
    hash_columns = list(hashes)
    columns = [*kept, *hash_columns]
    rows = side.rows.select(
        *map(quoted, kept),
        *map(quoted, [] if carried else side.naming()),
        *(column.alias(name) for name, column in hashes.items()),
    )
    schema = rows.select(*map(quoted, columns[:-1])).schema
    schema = with_field(schema, StructField(vectors.name, BinaryType(), nullable=False))
    return map_in_arrow(rows, route, routed_schema(schema))
