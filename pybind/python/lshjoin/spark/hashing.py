"""The hash functions of a model, as they travel to the executors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql.types import StructField, StructType

from lshjoin import engine
from lshjoin.base.sets import SetColumn, key_set, set_column
from lshjoin.base.vectors import key_and_rows, same_dtype
from lshjoin.spark.rows import Batches, map_in_arrow, naming_rows, threads, with_field
from lshjoin.spark.sets import check_same_kind, set_bytes
from lshjoin.spark.vectors import HASHES, hash_column, key_vector, matrix, value_bytes

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from typing_extensions import Self

    from lshjoin._lshjoin import Matrix
    from lshjoin.arrays.neighbors import Metric

# Rows are hashed, and sparse vectors made dense, so many bytes at a time.
_HASHED_BYTES = 1 << 26
# Of a set as the engine has it, while it is not looked at: some hundred elements.
_BYTES_OF_SET = 1 << 10


class HashFunctions(ABC):
    """The functions of one family, and what they hash: vectors or sets."""

    #: About how many bytes the engine has of a row.
    row_bytes: int
    #: Of how many tables, and how many functions each.
    shape: tuple[int, int]

    @property
    @abstractmethod
    def native(self) -> Any:
        """The native model; each process makes its own."""

    @abstractmethod
    def of_table(self, table: int) -> Self:
        """The functions of one table."""

    @abstractmethod
    def stored_bytes(self, dataset: DataFrame, name: str) -> int:
        """Bytes of what a row of a data frame has in a column."""

    @abstractmethod
    def check_alike(self, datasets: tuple[DataFrame, ...], name: str) -> None:
        """Refuses columns that hold something else than what is hashed, or each another thing."""

    @abstractmethod
    def check_key(self, key: Any, dataset: DataFrame, name: str) -> None:
        """Refuses a key that is none, or that a column can't be compared with."""

    @abstractmethod
    def read(self, column: pa.ChunkedArray, name: str) -> Any:
        """What a column holds, as the native model takes it."""

    @abstractmethod
    def alike(self, a: Any, b: Any) -> tuple[Any, Any]:
        """What two columns hold, as one join takes them."""

    @abstractmethod
    def query(self, key: Any) -> Any:
        """What a key is."""

    @abstractmethod
    def query_and_rows(self, query: Any, rows: Any) -> tuple[Any, Any]:
        """A key, and what a column holds, as one search takes them."""


class Projections(HashFunctions):
    """The buckets of projections of vectors on directions, or the signs; some of them a table."""

    def __init__(
        self,
        family: Metric,
        directions: NDArray[np.float64],
        offsets: NDArray[np.float64],
        bucket_length: float,
    ) -> None:
        """Of directions (tables, functions, dim), with offsets (tables, functions)."""
        self.family: Metric = family
        self.directions = directions
        self.offsets = offsets
        self.bucket_length = bucket_length
        tables, functions, self.dim = directions.shape
        self.shape = tables, functions
        self.row_bytes = 8 * self.dim

    @cached_property
    def native(self) -> engine.Model:
        tables, functions = self.shape
        return engine.Model.from_directions(
            self.directions.reshape(-1, self.dim),
            self.offsets.ravel(),
            family=self.family,
            num_hash_functions=functions,
            num_hash_tables=tables,
            bucket_length=self.bucket_length,
        )

    def __reduce__(self) -> tuple[object, ...]:
        return Projections, (self.family, self.directions, self.offsets, self.bucket_length)

    def of_table(self, table: int) -> Projections:
        some = slice(table, table + 1)
        return Projections(
            self.family, self.directions[some], self.offsets[some], self.bucket_length
        )

    def stored_bytes(self, dataset: DataFrame, name: str) -> int:
        return self.dim * value_bytes(dataset, name)

    def check_alike(self, datasets: tuple[DataFrame, ...], name: str) -> None:
        for dataset in datasets:
            value_bytes(dataset, name)

    def check_key(self, key: Any, dataset: DataFrame, name: str) -> None:
        self.query(key)

    def read(self, column: pa.ChunkedArray, name: str) -> Matrix:
        return matrix(column, name, self.dim)

    def alike(self, a: Matrix, b: Matrix) -> tuple[Matrix, Matrix]:
        return same_dtype(a, b)

    def query(self, key: Any) -> Matrix:
        return key_vector(key, self.dim)

    def query_and_rows(self, query: Matrix, rows: Matrix) -> tuple[Matrix, Matrix]:
        return key_and_rows(query, rows)


class MinHashes(HashFunctions):
    """The least of ``((1 + e) · a + b) mod 2038074743`` of sets of e, some of them a table."""

    row_bytes = _BYTES_OF_SET

    def __init__(self, coefficients: NDArray[np.int32]) -> None:
        """Of coefficients (tables, functions, 2)."""
        self.coefficients = coefficients
        self.shape = coefficients.shape[0], coefficients.shape[1]

    @cached_property
    def native(self) -> engine.MinHashModel:
        pairs = self.coefficients.reshape(-1, 2)
        return engine.MinHashModel.from_coefficients(pairs, self.shape[1])

    def __reduce__(self) -> tuple[object, ...]:
        return MinHashes, (self.coefficients,)

    def of_table(self, table: int) -> MinHashes:
        return MinHashes(self.coefficients[table : table + 1])

    def stored_bytes(self, dataset: DataFrame, name: str) -> int:
        return set_bytes(dataset, name)

    def check_alike(self, datasets: tuple[DataFrame, ...], name: str) -> None:
        check_same_kind(datasets, name)

    def check_key(self, key: Any, dataset: DataFrame, name: str) -> None:
        check_same_kind((dataset,), name, self.query(key))

    def read(self, column: pa.ChunkedArray, name: str) -> SetColumn:
        return set_column(column, name)

    def alike(self, a: SetColumn, b: SetColumn) -> tuple[SetColumn, SetColumn]:
        return a, b

    def query(self, key: Any) -> SetColumn:
        return key_set(key)

    def query_and_rows(self, query: SetColumn, rows: SetColumn) -> tuple[SetColumn, SetColumn]:
        return query, rows


Functions = TypeVar("Functions", bound=HashFunctions)


@dataclass(frozen=True)
class Hasher(Generic[Functions]):
    """Hash functions, the column that they read and the one that they write, if any."""

    functions: Functions
    features: str
    output: str | None

    def row_bytes(self, dataset: DataFrame) -> int:
        """Bytes of what a row of a data frame has in the column that is read."""
        return self.functions.stored_bytes(dataset, self.features)

    def of_table(self, table: int) -> Hasher[Functions]:
        """For one of the tables alone."""
        return replace(self, functions=self.functions.of_table(table))

    def read(self, table: pa.Table) -> Any:
        """The vectors, or sets, of the rows."""
        with naming_rows(table, self.features):
            return self.functions.read(table.column(self.features), self.features)

    def ids(self, table: pa.Table) -> NDArray[np.int32]:
        """Hash values (rows, tables, functions), the same for a row wherever it lies."""
        step = max(_HASHED_BYTES // self.functions.row_bytes, 1)
        parts = [np.empty((0, *self.functions.shape), np.int32)]
        for start in range(0, len(table), step):
            some = table.slice(start, step)
            rows = self.read(some)
            with naming_rows(some, self.features):
                parts.append(self.functions.native.hash(rows, num_threads=threads()))
        return np.concatenate(parts)

    def hashed(self, table: pa.Table, ids: NDArray[np.int32] | None = None) -> pa.Table:
        """With the column of hashes, if the table has it not; of these ids, if they are known."""
        if self.output is None or self.output in table.column_names:
            return table
        return table.append_column(
            self.output, hash_column(self.ids(table) if ids is None else ids)
        )

    def hashed_schema(self, schema: StructType) -> StructType:
        """The schema of :meth:`hashed`."""
        if self.output is None or self.output in schema.names:
            return schema
        return with_field(schema, StructField(self.output, HASHES))

    def transform(self, dataset: DataFrame) -> DataFrame:
        """Every row with its hashes."""

        def hash_rows(batches: Batches) -> Batches:
            for batch in batches:
                yield from self.hashed(pa.Table.from_batches([batch])).to_batches()

        return map_in_arrow(dataset, hash_rows, self.hashed_schema(dataset.schema))
