"""Columns of sets in Spark: VectorUDT, and arrays of whole numbers, of floats and of strings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
)

from lshjoin.base.sets import NUMBERS, TOKENS, SetColumn
from lshjoin.spark.rows import collect, quoted
from lshjoin.spark.vectors import check_exists

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_ELEMENTS = (DoubleType, FloatType, IntegerType, LongType, ShortType, StringType)

# Rows that tell how large the sets of a data frame are.
_MEASURED_ROWS = 1_000
# Of an element, its value and the index or offset beside it; and of a row that has none.
_BYTES_OF_ELEMENT, _BYTES_OF_ROW = 16, 32


def check_same_kind(
    datasets: tuple[DataFrame, ...], name: str, key: SetColumn | None = None
) -> None:
    """Refuses columns that hold no sets, and to compare tokens, which are hashed, with numbers."""
    kinds = {_kind(dataset, name) for dataset in datasets}
    if len(kinds) > 1:
        raise TypeError("datasetA and datasetB hold numbers and tokens; they must hold the same")
    if key is not None and key.kind not in kinds:
        raise TypeError(f"key holds {key.kind} and dataset {kinds.pop()}; they must hold the same")


def _kind(dataset: DataFrame, name: str) -> str:
    check_exists(dataset, name)
    spark_type = dataset.schema[name].dataType
    if isinstance(spark_type, ArrayType) and isinstance(spark_type.elementType, _ELEMENTS):
        return TOKENS if isinstance(spark_type.elementType, StringType) else NUMBERS
    if isinstance(spark_type, VectorUDT):
        return NUMBERS
    raise TypeError(
        f"Column {name} must be of type vector, or an array of whole numbers, floats or strings, "
        f"but was actually {spark_type.simpleString()}."
    )


def set_bytes(dataset: DataFrame, name: str) -> int:
    """Bytes of a set, about: by the first rows, since vectors of Spark's do not tell their size."""
    table = collect(dataset.select(F.col(quoted(name))).limit(_MEASURED_ROWS))
    if table is None or len(table) == 0:
        return _BYTES_OF_ROW
    column = table.column(name)
    if isinstance(dataset.schema[name].dataType, VectorUDT):
        column = pc.struct_field(column, "values")
    elements = pc.sum(pc.list_value_length(column)).as_py() or 0
    return _BYTES_OF_ROW + _BYTES_OF_ELEMENT * elements // len(table)
