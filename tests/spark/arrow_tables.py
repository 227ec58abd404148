"""Arrow tables into Spark and out of it, which it has by itself from 4.0 on."""

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def from_arrow(spark: "SparkSession", table: pa.Table) -> "DataFrame":
    """The rows of a table."""
    if spark.version >= "4":
        return spark.createDataFrame(table)
    from pyspark.sql.pandas.types import from_arrow_schema

    rows = [tuple(row.values()) for row in table.to_pylist()]
    return spark.createDataFrame(rows, from_arrow_schema(table.schema))


def to_arrow(frame: "DataFrame") -> pa.Table:
    """All rows."""
    if hasattr(frame, "toArrow"):
        return frame.toArrow()
    from lshjoin.spark.rows import collect
    from pyspark.sql.pandas.types import to_arrow_schema

    table = collect(frame)
    return to_arrow_schema(frame.schema).empty_table() if table is None else table
