"""Joins of two small sides: on the driver, which has their rows, in less time than a job takes.

What is found becomes a local relation, as Spark calls rows that are part of a plan.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import pyarrow as pa

from lshjoin.errors import RowError
from lshjoin.spark.rows import Batches

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

#: Pairs that the driver compares on its one thread: a tenth of a second for embeddings, and 0.8 GB
#: where all of them are near enough.
MOST_COMPARED = 1 << 25
# Of what is found: Spark's JVM holds it as long as the plan.
_MOST_BYTES = 1 << 26


def may_be_local(session: SparkSession, schema: StructType) -> bool:
    """Whether Spark makes such data frames of Arrow: from 4.0 on, and none with a VectorUDT."""
    return not session.version.startswith("3.") and '"type":"udt"' not in schema.json()


def local_relation(
    session: SparkSession, join: Callable[[], Batches], schema: StructType
) -> DataFrame | None:
    """What a task would give, as a data frame; None where it is too much.

    Nor does it refuse a row that the join does: that is for the task which comes upon it.
    """
    found, held = list[pa.RecordBatch](), 0
    with suppress(RowError):
        for batch in join():
            found.append(batch)
            held += batch.nbytes
            if held > _MOST_BYTES:
                return None
        return session.createDataFrame(pa.Table.from_batches(found) if found else [], schema)
    return None
