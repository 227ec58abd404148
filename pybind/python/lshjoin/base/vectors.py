"""Vectors, and ids, of any origin to what the engine reads: C-contiguous matrices of numbers.

Nothing is rounded on the way: values are viewed where they lie or widened exactly, to float32 or
float64.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lshjoin.errors import RowError

if TYPE_CHECKING:
    import pyarrow as pa

    from lshjoin._lshjoin import Bits, Matrix

# Looked at only when it is already imported, as in frames.py.
_COLUMNS = (
    ("pandas", "Series"),
    ("polars", "Series"),
    ("pyarrow", "Array"),
    ("pyarrow", "ChunkedArray"),
)

#: Beside floats, what the engine reads as it is. (bfloat16 is a dtype of ml_dtypes.)
_NARROW = ("int8", "uint8", "bfloat16")

# Whole numbers up to here are exact in float64.
_EXACT = 2**53


def array_matrix(array: object, name: str, dim: int | None = None) -> Matrix:
    """A 2-D array-like of real numbers, or a column of vectors; ``name`` is for error messages.

    int8, uint8, float16, bfloat16, float32 and float64 stay, without a copy when aligned and
    C-contiguous; integers of 16 bits become float32, wider ones float64. ``dim`` is for columns
    without rows, which do not tell how long their vectors would be.
    """
    if _is_column(array):
        matrix = series_matrix(array, name)
        return matrix if len(matrix) or dim is None else matrix[:, :1].repeat(dim, axis=1)
    if (sparse := sys.modules.get("scipy.sparse")) and sparse.issparse(array):
        raise TypeError(
            f"{name} must be a dense array, not a {type(array).__name__}; pass {name}.toarray()"
        )
    refuse_masked(array, name)
    try:
        values = np.asarray(array)
    except ValueError as error:  # what NumPy says of ragged lists
        raise ValueError(f"{name}: all rows must have the same length ({error})") from None
    values = _readable(values, f"{name} must hold real numbers but holds {values.dtype}")
    if values.ndim != 2:
        hint = "; for a single vector use x.reshape(1, -1)" if values.ndim == 1 else ""
        raise ValueError(
            f"{name} must be 2-D, one vector a row, but has {values.ndim} dimensions{hint}"
        )
    if values.shape[1] == 0:
        raise ValueError(f"{name} has no columns: vectors must have at least one element")
    return _engine_layout(values)


def packed_bits(array: object, name: str, dim: int | None = None) -> Bits:
    """A 2-D array of packed bits, eight a byte, or a column of them; as :func:`array_matrix`."""
    if _is_column(array):
        bits = packed_series(array, name)
        return bits if len(bits) or dim is None else bits[:, :1].repeat(dim, axis=1)
    refuse_masked(array, name)
    values = np.asarray(array)
    if values.dtype == np.bool_:
        raise TypeError(
            f"{name} must hold packed bits but holds bool; pass np.packbits({name}, axis=1)"
        )
    if values.dtype != np.uint8:
        raise TypeError(
            f"{name} must hold packed bits, an array of uint8 as np.packbits makes it, "
            f"but holds {values.dtype}"
        )
    if values.ndim != 2:
        raise ValueError(
            f"{name} must be 2-D, packed bits of one row a row, but has {values.ndim} dimensions"
        )
    if values.shape[1] == 0:
        raise ValueError(f"{name} has no columns: rows must have at least one byte")
    return np.require(values, requirements=["C_CONTIGUOUS"])


def refuse_masked(array: object, name: str) -> None:
    """ValueError for a masked array, or a list of them, in which anything is masked."""
    if isinstance(array, (list, tuple)):
        # NumPy would make one array of the values, those under masks among them.
        for row, part in enumerate(array):
            if isinstance(part, np.ma.MaskedArray):
                refuse_masked(part, f"row {row} of {name}")
    elif isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        place = np.argwhere(np.ma.getmaskarray(array))[0].tolist()
        raise ValueError(
            f"{name} is masked, first at {place}; fill what is masked, or leave out such rows"
        )


def series_matrix(column: object, name: str, dim: int | None = None) -> Matrix:
    """A column of vectors of pandas, polars or pyarrow, or an array of their cells."""
    column = _opened(column, name)
    if isinstance(column, np.ndarray):
        return _cells_matrix(column, name, dim)
    return column_matrix(column, name, dim)


def packed_series(column: object, name: str, dim: int | None = None) -> Bits:
    """The same of packed bits: lists or arrays of uint8, or bytes, a cell."""
    column = _opened(column, name)
    if not isinstance(column, np.ndarray):
        return packed_column(column, name, dim)
    cells = [np.frombuffer(cell, np.uint8) if type(cell) is bytes else cell for cell in column]
    bits = _cells_matrix(cells, name, dim)
    if len(bits) and bits.dtype != np.uint8:
        raise TypeError(_bits_message(name, "cells of other numbers"))
    return bits.astype(np.uint8, copy=False)


def _opened(column: Any, name: str) -> NDArray[Any] | pa.ChunkedArray:
    """A column as Arrow has it, or the cells of one that holds Python objects."""
    if (pandas := sys.modules.get("pandas")) and isinstance(column, pandas.Series):
        if not isinstance(column.dtype, pandas.ArrowDtype):
            if column.dtype != object:
                raise TypeError(_type_message(name, column.dtype))
            cells: NDArray[Any] = column.to_numpy()
            return cells
        column = column.array.__arrow_array__()
    if isinstance(column, np.ndarray):
        return column
    import pyarrow as pa

    if hasattr(column, "__arrow_c_array__"):
        column = pa.chunked_array([pa.array(column)])
    return pa.chunked_array(column)


def _is_column(array: object) -> bool:
    """Whether it is a column, or an array of a column's cells, in which NumPy sees no matrix."""
    if isinstance(array, np.ndarray):
        return array.dtype == object and array.ndim == 1
    return any(
        isinstance(array, getattr(sys.modules[library], kind))
        for library, kind in _COLUMNS
        if library in sys.modules
    )


def column_matrix(
    column: pa.ChunkedArray, name: str, dim: int | None = None, first_row: int = 0
) -> Matrix:
    """An Arrow column of lists or fixed-size lists; a view of it when it is one chunk.

    ``dim`` is the number of elements asked for; without it, that of the first row. Messages count
    rows from ``first_row``.
    """
    parts: list[NDArray[Any]] = []
    row = first_row
    for chunk in column.chunks:
        if len(chunk):
            part = _chunk_matrix(chunk, name, dim, row)
            parts.append(part)
            row += len(part)
            dim = part.shape[1]
    if not parts:
        import pyarrow as pa

        # Of an array, since pyarrow asks pandas, which may not be here, for the dtype of a type.
        nothing = pa.array([], _check_list_type(column.type, name).value_type)
        dtype = nothing.to_numpy(zero_copy_only=False).dtype
        return np.empty((0, dim or 1), readable_dtype(dtype, name))
    return _engine_layout(parts[0] if len(parts) == 1 else np.concatenate(parts))


def packed_column(
    column: pa.ChunkedArray, name: str, dim: int | None = None, first_row: int = 0
) -> Bits:
    """The same of packed bits: lists of uint8, or binary values of one length."""
    import pyarrow as pa

    types, lists = pa.types, list_type(column.type)
    if lists is None and _is_binary(column.type):
        chunks = [_as_lists(chunk) for chunk in column.chunks]
        column = pa.chunked_array(chunks, pa.large_list(pa.uint8()))
    elif lists is None or not types.is_uint8(lists.value_type):
        raise TypeError(_bits_message(name, column.type))
    return cast("Bits", column_matrix(column, name, dim, first_row))


def _is_binary(arrow_type: pa.DataType) -> bool:
    import pyarrow as pa

    types = pa.types
    is_binary: bool = (
        types.is_binary(arrow_type)
        or types.is_large_binary(arrow_type)
        or types.is_fixed_size_binary(arrow_type)
        or types.is_binary_view(arrow_type)
    )
    return is_binary


def _as_lists(chunk: pa.Array) -> pa.Array:
    """Binary values as lists of bytes, where they lie."""
    import pyarrow as pa

    chunk = chunk.cast(pa.large_binary())
    validity, offsets, data = chunk.buffers()
    values = pa.array(np.frombuffer(data or b"", np.uint8))
    return pa.Array.from_buffers(
        pa.large_list(pa.uint8()),
        len(chunk),
        [validity, offsets],
        offset=chunk.offset,
        children=[values],
    )


def _cells_matrix(cells: Sequence[Any] | NDArray[Any], name: str, dim: int | None) -> Matrix:
    """A pandas column of Python objects: a list or an array a cell."""
    if len(cells) == 0:
        return np.empty((0, dim or 1))
    refuse_masked(list(cells), f"column {name}")
    try:
        values = np.stack(list(cells))
    except ValueError:  # cells of different shapes
        raise _cell_error(cells, name, dim) from None
    if values.ndim != 2 or values.dtype == object:
        raise _cell_error(cells, name, dim)
    values = _readable(values, _type_message(name, f"list of {values.dtype}"))
    _check_dim(values.shape[1], dim, name, row=0)
    return _engine_layout(values)


def same_dtype(a: Matrix, b: Matrix) -> tuple[Matrix, Matrix]:
    """Both as they are, narrow ones beside float32; or as float64, if one of them is."""
    if np.float64 in (a.dtype, b.dtype):
        a, b = (_engine_layout(side.astype(np.float64, copy=False)) for side in (a, b))
    return a, b


def key_matrix(key: object) -> Matrix:
    """One key as a matrix of one row."""
    if (arrow := sys.modules.get("pyarrow")) and isinstance(key, arrow.ListScalar):
        key = key.values  # a row of a column
    refuse_masked(key, "key")
    vector = np.asarray(key)
    if vector.ndim != 1:
        raise ValueError(
            f"key must be one vector (1-D) but has {vector.ndim} dimensions; "
            "for many keys use approxNearestNeighborsJoin"
        )
    return array_matrix(vector.reshape(1, -1), "key")


def check_key(query: Matrix, dim: int) -> None:
    """Refuses a key of another dimension, in the words of Spark."""
    if query.shape[1] != dim:
        raise ValueError(
            "The columns of A don't match the number of elements of x. "
            f"A: {dim}, x: {query.shape[1]} (key)"
        )


def key_and_rows(query: Matrix, rows: Matrix) -> tuple[Matrix, Matrix]:
    """A key's row in one type with the rows that it is compared with.

    The rows are widened (which copies them) only for a key that their type cannot express.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = _engine_layout(query.astype(rows.dtype))
    if np.array_equal(narrow, query, equal_nan=True):
        return narrow, rows
    return same_dtype(query, rows)


def engine_dtype(dtype: np.dtype[Any], refusal: str) -> np.dtype[Any]:
    """The narrowest of float16, float32 and float64 that holds such values exactly."""
    dtype = dtype.newbyteorder("=")
    if dtype.kind in "iu":
        return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)
    if dtype.name == "bfloat16":
        return np.dtype(np.float32)
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise TypeError(refusal)
    return dtype


def as_floats(matrix: Matrix) -> Matrix:
    """The same as float16, float32 or float64: for what knows no narrower ones."""
    return matrix.astype(engine_dtype(matrix.dtype, "no numbers"), copy=False)


def readable_dtype(dtype: np.dtype[Any], refusal: str) -> np.dtype[Any]:
    """What values are read as: int8, uint8 and bfloat16 stay, else as :func:`engine_dtype`."""
    return dtype if dtype.name in _NARROW else engine_dtype(dtype, refusal)


def common_dtype(dtypes: Iterable[np.dtype[Any]]) -> np.dtype[Any]:
    """The narrowest that the engine reads and that holds all values of these exactly."""
    return readable_dtype(np.result_type(*dtypes), "no numbers")


def _readable(values: NDArray[Any], refusal: str) -> NDArray[Any]:
    dtype = readable_dtype(values.dtype, refusal)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and values.size:
        low, high = int(values.min()), int(values.max())
        if max(-low, high) > _EXACT:
            largest = high if high > -low else low
            raise ValueError(f"the integer {largest} is beyond 2**53 and not exact in float64")
    return values.astype(dtype, copy=False)


def _engine_layout(values: NDArray[Any]) -> Matrix:
    # The engine reads rows as slices: contiguous, and aligned or it would be undefined behaviour.
    matrix: Matrix = np.require(values, requirements=["C_CONTIGUOUS", "ALIGNED"])
    return matrix


def _chunk_matrix(chunk: pa.Array, name: str, dim: int | None, first_row: int) -> NDArray[Any]:
    import pyarrow as pa

    _check_list_type(chunk.type, name)
    if isinstance(chunk, pa.ExtensionArray):
        chunk = chunk.storage
    if chunk.null_count:
        row = first_row + first_null(chunk)
        raise RowError(f"Column {name}: row {row} is null; drop such rows or fill them", row)
    if pa.types.is_fixed_size_list(chunk.type):
        length = chunk.type.list_size
        _check_dim(length, dim, name, first_row)
    else:
        lengths = chunk.value_lengths().to_numpy()
        length = int(lengths[0]) if dim is None else dim
        uneven = np.flatnonzero(lengths != length)
        if len(uneven):
            _check_dim(int(lengths[uneven[0]]), length, name, first_row + int(uneven[0]))
        _check_dim(length, dim, name, first_row)
    values = chunk.flatten()
    if values.null_count:
        row = first_row + first_null(values) // length
        raise _holds_null(name, row)
    numbers = values.to_numpy(zero_copy_only=True).reshape(len(chunk), length)
    return _readable(numbers, _type_message(name, chunk.type))


def _check_list_type(arrow_type: pa.DataType, name: str) -> pa.DataType:
    import pyarrow as pa

    stored = list_type(arrow_type)
    if stored is None or not (
        pa.types.is_floating(stored.value_type) or pa.types.is_integer(stored.value_type)
    ):
        raise TypeError(_type_message(name, arrow_type))
    return stored


def list_type(arrow_type: pa.DataType) -> pa.DataType | None:
    """The type of lists by which a column of this type holds vectors; None if it holds none."""
    import pyarrow as pa

    stored = arrow_type
    if isinstance(arrow_type, pa.FixedShapeTensorType) and len(arrow_type.shape) == 1:
        stored = arrow_type.storage_type
    types = pa.types
    is_list = (
        types.is_list(stored)
        or types.is_large_list(stored)
        or types.is_fixed_size_list(stored)
        or types.is_list_view(stored)
        or types.is_large_list_view(stored)
    )
    return stored if is_list else None


def vector_entries(
    column: pa.Array | pa.ChunkedArray, name: str, first_row: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """Of a column of Spark's vectors, sparse and dense, the rows, positions and values.

    Those of dense vectors all, those of sparse ones as they are stored.
    """
    import pyarrow.compute as pc

    values, indices = pc.struct_field(column, "values"), pc.struct_field(column, "indices")
    sparse = pc.equal(pc.struct_field(column, "type"), 0).to_numpy(zero_copy_only=False)
    lengths, indexed = (
        pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
        for lists in (values, indices)
    )
    wrong = np.flatnonzero(indexed != np.where(sparse, lengths, 0))
    if len(wrong):
        row = first_row + int(wrong[0])
        raise RowError(
            f"Column {name}: row {row} is no vector: {indexed[wrong[0]]} indices of "
            f"{lengths[wrong[0]]} values",
            row,
        )
    rows = np.repeat(np.arange(len(column)), lengths)
    of_sparse = sparse[rows]
    flat, places = pc.list_flatten(values), pc.list_flatten(indices)
    if flat.null_count or places.null_count:
        of_rows = rows if flat.null_count else rows[of_sparse]
        row = first_row + int(of_rows[first_null(flat if flat.null_count else places)])
        raise _holds_null(name, row)
    positions = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    positions[of_sparse] = places.to_numpy()
    return rows, positions, flat.to_numpy()


def first_null(array: pa.Array | pa.ChunkedArray) -> int:
    """The first place of a null."""
    import pyarrow.compute as pc

    return int(pc.index(array.is_null(), True).as_py())


def _check_dim(length: int, dim: int | None, name: str, row: int) -> None:
    if length == 0:
        raise RowError(f"Column {name}: row {row} has no elements", row)
    if dim is not None and length != dim:
        raise RowError(
            "The columns of A don't match the number of elements of x. "
            f"A: {dim}, x: {length} (column {name}, row {row})",
            row,
        )


def _holds_null(name: str, row: int) -> RowError:
    return RowError(f"Column {name}: row {row} holds a null; drop such rows or fill them", row)


def _type_message(name: str, actual: object) -> str:
    return f"Column {name} must be of type list of numbers but was actually {actual}."


def _bits_message(name: str, actual: object) -> str:
    return (
        f"Column {name} must hold packed bits, lists of uint8 as np.packbits makes them or bytes, "
        f"but was actually {actual}."
    )


def _cell_error(cells: Sequence[Any] | NDArray[Any], name: str, dim: int | None) -> Exception:
    """What is wrong with cells that do not stack to a matrix of numbers: looked for row by row."""
    for row, cell in enumerate(cells):
        if cell is None or (isinstance(cell, float) and np.isnan(cell)):
            return RowError(f"Column {name}: row {row} is null; drop such rows or fill them", row)
        vector = np.asarray(cell, dtype=object)
        if vector.ndim != 1:
            return TypeError(_type_message(name, f"{type(cell).__name__} (row {row})"))
        if any(value is None for value in vector):
            return _holds_null(name, row)
        try:
            _check_dim(len(vector), dim, name, row)
        except RowError as error:
            return error
        dim = len(vector)
    return TypeError(_type_message(name, "list of object"))


def integer_ids(ids: ArrayLike) -> NDArray[np.int64]:
    """The ids of an index: integers of 64 bits, where the engine can read them."""
    refuse_masked(ids, "ids")
    values = np.asarray(ids)
    if values.ndim != 1:
        raise ValueError(f"ids must be 1-D, one an item, but have {values.ndim} dimensions")
    if values.size == 0:
        return np.empty(0, np.int64)
    if values.dtype.kind not in "iu":
        raise TypeError(f"ids must be integers, not {values.dtype}")
    if values.dtype.kind == "u" and values.max() > np.iinfo(np.int64).max:
        raise ValueError(
            f"id {values.max()} is beyond 2**63 - 1, the largest that an index holds; "
            "view such ids as int64, or number the rows"
        )
    return np.require(values, np.int64, ["C_CONTIGUOUS", "ALIGNED"])
