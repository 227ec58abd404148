"""Columns of vectors as Arrow brings them: VectorUDT, ``array<float>`` and ``array<double>``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DoubleType, FloatType

from lshjoin.base.vectors import (
    as_floats,
    check_key,
    column_matrix,
    key_matrix,
    vector_entries,
)
from lshjoin.errors import NotFiniteError, RowError
from lshjoin.spark.rows import quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from lshjoin._lshjoin import Matrix

_SPARSE, _DENSE = 0, 1

#: What a VectorUDT is in Arrow.
_VECTOR = pa.struct(
    [
        pa.field("type", pa.int8(), nullable=False),
        pa.field("size", pa.int32()),
        pa.field("indices", pa.list_(pa.field("element", pa.int32(), nullable=False))),
        pa.field("values", pa.list_(pa.field("element", pa.float64(), nullable=False))),
    ]
)

#: The column of hashes, as Spark has it: for each table a vector with the ids of its functions.
HASHES = ArrayType(VectorUDT(), containsNull=True)


def value_bytes(dataset: DataFrame, name: str) -> int:
    """Bytes of a value in a column of vectors; refuses other columns in the words of Spark."""
    check_exists(dataset, name)
    spark_type = dataset.schema[name].dataType
    if isinstance(spark_type, VectorUDT):
        return 8
    if isinstance(spark_type, ArrayType) and isinstance(
        spark_type.elementType, (FloatType, DoubleType)
    ):
        return 4 if isinstance(spark_type.elementType, FloatType) else 8
    raise TypeError(
        f"Column {name} must be of type vector, array<float> or array<double> "
        f"but was actually {spark_type.simpleString()}."
    )


def dimension(dataset: DataFrame, name: str) -> int:
    """The elements of the first row's vector, as Spark has it; 0 where there is no row."""
    row = dataset.select(F.col(quoted(name))).first()
    if row is None:
        return 0
    if row[0] is None:
        raise ValueError(f"Column {name}: row 0 is null; drop such rows or fill them")
    if len(row[0]) == 0:
        raise ValueError(f"Column {name}: row 0 has no elements")
    return len(row[0])


def check_exists(dataset: DataFrame, name: str) -> None:
    """Refuses the name of a column that there is not, or twice, in the words of Spark."""
    if dataset.columns.count(name) != 1:
        fields = ", ".join(f"`{column}`" for column in dataset.columns)
        problem = "More than one" if name in dataset.columns else "No such"
        raise ValueError(f"{problem} struct field `{name}` in {fields}.")


def matrix(column: pa.ChunkedArray, name: str, dim: int) -> Matrix:
    """The vectors, each of ``dim`` elements, one a row; a view where they are dense in one chunk.

    RowError for nulls and for vectors of another dimension.
    """
    if not pa.types.is_struct(column.type):
        return as_floats(column_matrix(column, name, dim))
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py()
        raise RowError(f"Column {name}: row {row} is null; drop such rows or fill them", row)
    types = pc.struct_field(column, "type")
    if not pc.any(pc.equal(types, _SPARSE)).as_py():
        return as_floats(column_matrix(pc.struct_field(column, "values"), name, dim))
    return _with_sparse(column, types.to_numpy(), name, dim)


def packed(vectors: Matrix) -> pa.Array:
    """Vectors as bytes, in the narrowest type that holds all their values: half precision, say.

    Spark moves bytes at once, and numbers of a list one by one.
    """
    for dtype in (np.float16, np.float32):
        with np.errstate(over="ignore"):
            narrow = vectors.astype(dtype)
        if vectors.dtype.itemsize > narrow.itemsize and (narrow == vectors).all():
            vectors = narrow
            break
    size = vectors.shape[1] * vectors.itemsize
    offsets = np.arange(len(vectors) + 1, dtype=np.int32) * np.int32(size)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(vectors))]
    return pa.Array.from_buffers(pa.binary(), len(vectors), buffers)


def unpacked(column: pa.ChunkedArray, dim: int, value_bytes: int) -> Matrix:
    """Vectors that :func:`packed` gave, of so many bytes a value, in the type that they had."""
    vectors = np.empty((len(column), dim), f"f{value_bytes}")
    lengths = pc.binary_length(column).to_numpy()
    for width in np.unique(lengths):
        of_width = lengths == width
        some = column if of_width.all() else column.filter(pa.array(of_width))
        data = [_bytes(chunk) for chunk in some.chunks]
        vectors[of_width] = np.concatenate(data).view(f"f{width // dim}").reshape(-1, dim)
    return vectors


def _bytes(column: pa.Array) -> NDArray[np.uint8]:
    """What the values of a column of bytes without nulls hold, one after the other."""
    _, offsets, data = column.buffers()
    large = pa.types.is_large_binary(column.type)
    ends = np.frombuffer(offsets, np.int64 if large else np.int32)
    start, stop = ends[column.offset], ends[column.offset + len(column)]
    return np.frombuffer(data, np.uint8)[start:stop]


def check_finite(vectors: Matrix, of: str = "") -> None:
    """Refuses NaN and infinity in the words of the engine, where it is not asked itself."""
    bad = np.argwhere(~np.isfinite(vectors))
    if len(bad):
        row, dimension = bad[0].tolist()
        value = str(vectors[row, dimension]).replace("nan", "NaN")
        raise NotFiniteError(
            f"row {row}{of} holds {value} at dimension {dimension}; "
            "remove or replace values that are not finite",
            row,
            dimension,
        )


def key_vector(key: object, dim: int) -> Matrix:
    """One vector, of Spark's or array-like, as a matrix of one row."""
    row = as_floats(key_matrix(key.toArray() if hasattr(key, "toArray") else key))
    check_key(row, dim)
    check_finite(row, " of key")
    return row


def hash_column(ids: NDArray[np.int32]) -> pa.ListArray:
    """Bucket ids (rows, tables, functions) as the column of hashes."""
    rows, tables, _ = ids.shape
    count = rows * tables
    values = _lists(pa.array(ids.ravel().astype(np.float64)), count, _VECTOR.field("values").type)
    parts = {
        "type": pa.array(np.full(count, _DENSE, np.int8)),
        "size": pa.nulls(count, pa.int32()),
        "indices": pa.nulls(count, _VECTOR.field("indices").type),
        "values": values,
    }
    vectors = pa.StructArray.from_arrays(list(parts.values()), fields=list(_VECTOR))
    return _lists(vectors, rows, pa.list_(pa.field("element", _VECTOR)))


def _lists(values: pa.Array, count: int, arrow_type: pa.ListType) -> pa.ListArray:
    """So many lists of equal lengths."""
    offsets = np.linspace(0, len(values), count + 1).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=arrow_type)


def _with_sparse(
    column: pa.ChunkedArray, types: NDArray[np.int8], name: str, dim: int
) -> NDArray[np.float64]:
    """Vectors of which some are sparse: written into rows of zeros."""
    lengths = pc.list_value_length(pc.struct_field(column, "values")).to_numpy()
    sizes = pc.fill_null(pc.struct_field(column, "size"), 0).to_numpy()
    sizes = np.where(types == _SPARSE, sizes, lengths)
    if (sizes != dim).any():
        row = int(np.flatnonzero(sizes != dim)[0])
        raise RowError(
            "The columns of A don't match the number of elements of x. "
            f"A: {dim}, x: {sizes[row]} (column {name}, row {row})",
            row,
        )
    rows, positions, numbers = vector_entries(column, name)
    dense = np.zeros((len(column), dim))
    dense[rows, positions] = numbers
    return dense
