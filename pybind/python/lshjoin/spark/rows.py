"""Rows on their way through the executors: Arrow batches in, Arrow batches out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import TaskContext
from pyspark.sql import functions as F
from pyspark.sql.types import (
    BinaryType,
    BooleanType,
    DateType,
    NumericType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from lshjoin.errors import RowError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

Batches = Iterator[pa.RecordBatch]

# Of vectors, or sets, that are joined with a small side at a time.
_GATHERED_BYTES = 1 << 27
# Of a number that Spark gives a row those that count the rows of a partition.
_BITS_OF_ROW = 33
# So many hashes of rows are collected sooner than shuffled.
_FEW_HASHES = 1_000_000

#: Columns that are added on the way: the hash of a row's content, that of its key, the blocks that
#: it goes to, the task that has it, and the hashes that it is known by.
HASH, GROUP, BLOCKS = "__lshjoin_hash", "__lshjoin_group", "__lshjoin_blocks"
TASK = "__lshjoin_task"
HIGH, LOW = "__lshjoin_high", "__lshjoin_low"

_PLAIN = (BooleanType, DateType, NumericType, StringType, TimestampType)


def threads() -> int:
    """The cores of this task; on the driver one."""
    task = TaskContext.get()
    return int(task.cpus()) if task else 1


def gathered(batches: Batches, row_bytes: int) -> Iterator[pa.Table]:
    """Batches gathered to tables, or cut, since the engine likes many rows at once."""
    most = max(_GATHERED_BYTES // row_bytes, 1)
    held: list[pa.RecordBatch] = []
    for batch in batches:
        for start in range(0, batch.num_rows, most):
            piece = batch.slice(start, most)
            if sum(each.num_rows for each in held) + piece.num_rows > most:
                yield pa.Table.from_batches(held).combine_chunks()
                held = []
            held.append(piece)
    if held:
        yield pa.Table.from_batches(held).combine_chunks()


def distinctly_named(dataset: DataFrame, kept: list[str]) -> DataFrame:
    """With other names for columns that are called as another one is, or but for case.

    A data frame may have such columns, of which no expression of Spark's can tell one.
    """
    taken = {HASH, GROUP, BLOCKS, TASK, HIGH, LOW, *(name.lower() for name in kept)}
    names = []
    for place, name in enumerate(dataset.columns):
        if name not in kept:
            while name.lower() in taken:
                name = f"{name} (column {place})"
            taken.add(name.lower())
        names.append(name)
    return dataset if names == dataset.columns else dataset.toDF(*names)


def map_in_arrow(
    dataset: DataFrame, function: Callable[[Batches], Batches], schema: StructType | str
) -> DataFrame:
    """``mapInArrow``, which by itself takes a dot in the name of a column for a way into it."""
    names = dataset.columns

    def renamed(batches: Batches) -> Batches:
        return function(batch.rename_columns(names) for batch in batches)

    places = [f"column{place}" for place in range(len(names))]
    return dataset.toDF(*places).mapInArrow(renamed, schema)


def with_column(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    """The table with a column, in the place of one of that name."""
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, column)
    return table.append_column(name, column)


def unnested(structs: pa.StructArray) -> pa.RecordBatch:
    """The fields of structs, of which none is null, as columns.

    What ``RecordBatch.from_struct_array`` should give: before pyarrow 23 its columns hold rows from
    after the end of a slice, too.
    """
    return pa.RecordBatch.from_arrays(structs.flatten(), schema=pa.schema(list(structs.type)))


def with_field(schema: StructType, field: StructField) -> StructType:
    """The schema of :func:`with_column`."""
    fields = [field if old.name == field.name else old for old in schema.fields]
    return StructType(fields if field.name in schema.names else [*fields, field])


@contextmanager
def naming_rows(table: pa.Table, features: str, side: str | None = None) -> Iterator[None]:
    """Adds the plain columns of a row to an error that is about a row, so that it can be found.

    With a ``side`` to those alone that are about a row of it.
    """
    try:
        yield
    except RowError as error:
        if side in (None, error.side):
            plain = [
                f"{field.name}={table.column(field.name)[error.row].as_py()!r}"
                for field in table.schema
                if field.name != features and not pa.types.is_nested(field.type)
            ]
            error.args = (f"{error} [{', '.join(plain) or 'no other columns'}]"[:2_000],)
        raise


def content_hash(dataset: DataFrame, features: str) -> Column:
    """64 bits that depend on nothing but what is in a row: the same when Spark makes it again."""
    return F.xxhash64(quoted(features), *map(quoted, plain_columns(dataset.schema)))


def are_distinct(hashes: DataFrame, rows: int) -> bool:
    """Whether so many hashes, a column of that name, are all different."""
    if rows <= _FEW_HASHES:
        found = collect(hashes)
        return found is None or len(found.column(0).unique()) == len(found)
    return hashes.groupBy(HASH).count().where("count > 1").isEmpty()


def plain_columns(schema: StructType) -> list[str]:
    """Those that hold one number or string, or the like."""
    return [field.name for field in schema.fields if isinstance(field.dataType, _PLAIN)]


def broadcast_bytes(dataset: DataFrame) -> int:
    """The size up to which a side goes to every task."""
    return _bytes(dataset, "spark.lshjoin.broadcastBytes", "64m")


def block_bytes(dataset: DataFrame) -> int:
    """The size up to which the vectors of a side go to one task."""
    return _bytes(dataset, "spark.lshjoin.blockBytes", "512m")


def _bytes(dataset: DataFrame, name: str, default: str) -> int:
    said = str(dataset.sparkSession.conf.get(name, default))
    found = re.fullmatch(r"(\d+)([bkmgt]?)b?", said.strip().lower())
    if found is None:
        raise ValueError(f"{name} must be a size such as 64m, not {said!r}")
    return int(found[1]) << 10 * "bkmgt".index(found[2] or "b")


def quoted(name: str) -> str:
    """A column's name as an expression, dots and all."""
    return "`" + name.replace("`", "``") + "`"


@dataclass(frozen=True)
class Size:
    """How large a data frame is."""

    rows: int
    bytes: int  #: of dense vectors, and of strings beside them


@dataclass(frozen=True)
class Measured:
    """How large a data frame is, and its rows where they are few."""

    size: Size
    rows: pa.Table | None  #: as :func:`collect` has them; None where they are too many, or none


def measured(dataset: DataFrame, row_bytes: int, most: int = 0) -> Measured:
    """Counts the rows, of dense vectors of so many bytes, and collects them if ``most`` holds them.

    By jobs of the JVM alone: to start Python in the executors takes longer. What Spark takes for
    small comes in one. Else the first reads no vectors.
    """
    texts = [
        field.name
        for field in dataset.schema.fields
        if isinstance(field.dataType, (BinaryType, StringType))
    ]
    rows = few_rows(dataset, row_bytes, most)
    if rows is not None:
        lengths = [pc.sum(pc.binary_length(rows.column(name))).as_py() or 0 for name in texts]
        found = Size(len(rows), len(rows) * row_bytes + sum(lengths))
        return Measured(found, rows if 0 < found.bytes <= most else None)
    lengths = [F.coalesce(F.octet_length(quoted(name)), F.lit(0)).cast("long") for name in texts]
    strings = F.coalesce(F.sum(sum(lengths, F.lit(0).cast("long"))), F.lit(0))
    ((count, string_bytes),) = dataset.agg(F.count(F.lit(1)), strings).collect()
    found = Size(count, count * row_bytes + string_bytes)
    return Measured(found, collect(dataset) if 0 < found.bytes <= most else None)


def few_rows(dataset: DataFrame, row_bytes: int, most: int) -> pa.Table | None:
    """All rows, by one job, if ``most`` holds their vectors and Spark expects so.

    None, without a job, where it expects more: to count them may take as long as to make them.
    """
    return _few(dataset, most // max(row_bytes, 1)) if _estimate(dataset) <= most else None


def _estimate(dataset: DataFrame) -> float:
    """The bytes that Spark expects, without a look at any; over Connect it is not to be had."""
    frame = getattr(dataset, "_jdf", None)
    if frame is None:
        return math.inf
    return float(str(frame.queryExecution().optimizedPlan().stats().sizeInBytes()))


def _few(dataset: DataFrame, most: int) -> pa.Table | None:
    """All rows; None where they may be more than Spark expects.

    The nth task gives an nth of ``most``, and a row more, which tells that there may be others.
    """
    task = F.spark_partition_id()
    before = F.monotonically_increasing_id().bitwiseAND((1 << _BITS_OF_ROW) - 1)
    rows = collect(dataset.withColumn(TASK, task).where(before * (task + 1) <= most))
    if rows is None:
        return None
    counts = np.bincount(rows.column(TASK).to_numpy())
    if (counts > most // np.arange(1, len(counts) + 1)).any():
        return None
    return rows.drop_columns([TASK])


def size(dataset: DataFrame, row_bytes: int) -> Size:
    """How large a data frame is, counted without looking at the vectors."""
    return measured(dataset, row_bytes).size


def sample(dataset: DataFrame, measured: Size, rows: int) -> DataFrame:
    """About so many of the rows."""
    if measured.rows <= rows:
        return dataset
    return dataset.sample(fraction=rows / measured.rows, seed=0)


def collect(dataset: DataFrame) -> pa.Table | None:
    """All rows in one chunk; ``None`` when there are none."""
    if hasattr(dataset, "toArrow"):  # from Spark 4.0 on
        # Spark's own fails where a vector is null.
        with suppress(pa.ArrowInvalid):
            rows = dataset.toArrow()
            return rows.combine_chunks() if len(rows) else None

    def serialised(batches: Batches) -> Batches:
        for batch in batches:
            yield pa.RecordBatch.from_pydict({"batch": [_serialised(batch)]})

    found = map_in_arrow(dataset, serialised, "batch binary").collect()
    return _table([row.batch for row in found])


def _serialised(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def _table(batches: list[bytearray]) -> pa.Table | None:
    tables = [pa.ipc.open_stream(bytes(batch)).read_all() for batch in batches]
    return pa.concat_tables(tables).combine_chunks() if tables else None
