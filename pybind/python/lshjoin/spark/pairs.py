"""What joins give of a pair: both rows, as Spark does, or their ids alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import functions as F
from pyspark.sql.types import AtomicType, StructType

from lshjoin.base.columns import cuts
from lshjoin.spark.rows import Batches, distinctly_named, quoted
from lshjoin.spark.vectors import check_exists

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType

    from lshjoin._lshjoin import Floats

# Rows of results that go back at a time: Arrow counts the values of a list column in 32 bits, and
# Spark's side holds a batch in memory.
_RESULT_ROWS = 8_192


class Pairs(ABC):
    """A column for each side, and one of distances."""

    sides: ClassVar[tuple[str, str]]
    dist_col: str

    @abstractmethod
    def given(self, table: pa.Table) -> pa.Table:
        """What is given of a side."""

    @abstractmethod
    def column(self, given: pa.Table) -> pa.Array:
        """The column that this is given as."""

    @abstractmethod
    def type_of(self, side: StructType) -> DataType:
        """The type of this column."""

    def schema(self, left: StructType, right: StructType) -> StructType:
        """The schema of :meth:`batches`; refuses a name that is taken in the words of Spark."""
        check_free(self.dist_col, *self.sides)
        return (
            StructType()
            .add(self.sides[0], self.type_of(left), False)
            .add(self.sides[1], self.type_of(right), False)
            .add(self.dist_col, "double", False)
        )

    def batches(
        self,
        left: pa.Table,
        left_rows: NDArray[np.int64],
        right: pa.Table,
        right_rows: NDArray[np.int64],
        distances: Floats,
    ) -> Batches:
        """Pairs of rows of two tables, and their distances."""
        left, right = self.given(left), self.given(right)
        starts = {
            *range(0, len(distances), _RESULT_ROWS),
            *cuts(left.columns, left_rows),
            *cuts(right.columns, right_rows),
        }
        for start, stop in pairwise([*sorted(starts), len(distances)]):
            some = slice(start, stop)
            yield pa.RecordBatch.from_arrays(
                [
                    self.column(left.take(left_rows[some])),
                    self.column(right.take(right_rows[some])),
                    pa.array(distances[some].astype(np.float64)),
                ],
                [*self.sides, self.dist_col],
            )


@dataclass(frozen=True)
class Structs(Pairs):
    """Both rows, each a struct of all its columns."""

    dist_col: str
    sides = "datasetA", "datasetB"

    def given(self, table: pa.Table) -> pa.Table:
        return table

    def column(self, given: pa.Table) -> pa.Array:
        columns = [column.combine_chunks() for column in given.columns]
        return pa.StructArray.from_arrays(columns, fields=list(given.schema))

    def type_of(self, side: StructType) -> DataType:
        return side


@dataclass(frozen=True)
class Ids(Pairs):
    """The ids of both rows, of data frames that :func:`with_ids` made."""

    dist_col: str
    id_col: str
    sides = "idA", "idB"

    def given(self, table: pa.Table) -> pa.Table:
        return table.select([self.id_col])

    def column(self, given: pa.Table) -> pa.Array:
        return given.column(0).combine_chunks()

    def type_of(self, side: StructType) -> DataType:
        return side[self.id_col].dataType


def with_ids(dataset: DataFrame, features: str, id_col: str, *keys: str) -> DataFrame:
    """The vectors, or sets, of a data frame, its ids and keys: that is all that has to travel.

    A null among the ids ends the job that comes upon it.
    """
    for name in (features, id_col):
        check_exists(dataset, name)
    spark_type = dataset.schema[id_col].dataType
    if not isinstance(spark_type, AtomicType):
        raise TypeError(
            f"Column {id_col} must hold ids, which are numbers, strings or the like, "
            f"but was actually {spark_type.simpleString()}."
        )
    others = [name for name in keys if name != id_col]
    named = distinctly_named(dataset, [features, id_col, *others])
    null = F.raise_error(F.lit(f"Column {id_col} holds a null; every row needs an id"))
    ids = F.coalesce(F.col(quoted(id_col)), null)
    return named.select(quoted(features), ids.alias(id_col), *map(quoted, others))


def check_free(name: str, *taken: str) -> None:
    """Refuses a name for a column that another one has, be it but for case."""
    if name.lower() in (each.lower() for each in taken):
        raise ValueError(f"Column {name} already exists.")
