"""The hash functions of a model, as they travel to the executors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql.types import StructField, StructType

from lshjoin import engine
from lshjoin.spark.rows import Batches, map_in_arrow, naming_rows, threads, with_field
from lshjoin.spark.vectors import HASHES, hash_column, matrix, value_bytes

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from lshjoin._lshjoin import Matrix

# Sparse vectors are made dense, and hashed, so many bytes at a time.
_DENSE_BYTES = 1 << 26


@dataclass(frozen=True)
class HashFunctions:
    """``floor(direction · x / bucket_length)``, some of them a table."""

    directions: NDArray[np.float64]  #: (tables, functions, dim)
    bucket_length: float

    @property
    def dim(self) -> int:
        """Elements of the vectors that they hash."""
        return self.directions.shape[2]

    @cached_property
    def native(self) -> engine.Model:
        """The native model; each process makes its own."""
        tables, functions, dim = self.directions.shape
        return engine.Model.from_directions(
            self.directions.reshape(-1, dim),
            np.zeros(tables * functions),
            family="euclidean",
            num_hash_functions=functions,
            num_hash_tables=tables,
            bucket_length=self.bucket_length,
        )

    def __reduce__(self) -> tuple[object, ...]:
        return HashFunctions, (self.directions, self.bucket_length)

    def of_table(self, table: int) -> HashFunctions:
        """The functions of one table."""
        return HashFunctions(self.directions[table : table + 1], self.bucket_length)


@dataclass(frozen=True)
class Hasher:
    """Hash functions, the column that they read and the one that they write."""

    functions: HashFunctions
    features: str
    output: str

    def row_bytes(self, dataset: DataFrame) -> int:
        """Bytes of a dense vector of a data frame."""
        return self.functions.dim * value_bytes(dataset, self.features)

    def of_table(self, table: int) -> Hasher:
        """For one of the tables alone."""
        return replace(self, functions=self.functions.of_table(table))

    def vectors(self, table: pa.Table) -> Matrix:
        """The vectors of the rows."""
        with naming_rows(table, self.features):
            return matrix(table.column(self.features), self.features, self.functions.dim)

    def ids(self, table: pa.Table) -> NDArray[np.int32]:
        """Bucket ids (rows, tables, functions), the same for a row wherever it lies."""
        step = max(_DENSE_BYTES // (8 * self.functions.dim), 1)
        parts = [np.empty((0, *self.functions.directions.shape[:2]), np.int32)]
        for start in range(0, len(table), step):
            some = table.slice(start, step)
            vectors = self.vectors(some)
            with naming_rows(some, self.features):
                parts.append(self.functions.native.hash(vectors, num_threads=threads()))
        return np.concatenate(parts)

    def hashed(self, table: pa.Table) -> pa.Table:
        """With the column of hashes, if the table has it not."""
        if self.output in table.column_names:
            return table
        return table.append_column(self.output, hash_column(self.ids(table)))

    def hashed_schema(self, schema: StructType) -> StructType:
        """The schema of :meth:`hashed`."""
        if self.output in schema.names:
            return schema
        return with_field(schema, StructField(self.output, HASHES))

    def transform(self, dataset: DataFrame) -> DataFrame:
        """Every row with its hashes."""

        def hash_rows(batches: Batches) -> Batches:
            for batch in batches:
                yield from self.hashed(pa.Table.from_batches([batch])).to_batches()

        return map_in_arrow(dataset, hash_rows, self.hashed_schema(dataset.schema))
