"""Vectors of any origin to the engine's matrices: C-contiguous float16, float32 or float64.

Nothing is rounded on the way: values are viewed where they lie or widened exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

    from lshjoin._lshjoin import Matrix

# Whole numbers up to here are exact in float64.
_EXACT = 2**53


def array_matrix(array: object, name: str) -> Matrix:
    """A 2-D array-like of real numbers, one vector a row; ``name`` is for error messages.

    float16, float32 and float64 stay, without a copy when aligned and C-contiguous; 8- and 16-bit
    integers become float32, wider ones float64.
    """
    try:
        values = np.asarray(array)
    except ValueError as error:  # what NumPy says of ragged lists
        raise ValueError(f"{name}: all rows must have the same length ({error})") from None
    values = _floating(values, f"{name} must hold real numbers but holds {values.dtype}")
    if values.ndim != 2:
        hint = "; for a single vector use x.reshape(1, -1)" if values.ndim == 1 else ""
        raise ValueError(
            f"{name} must be 2-D, one vector a row, but has {values.ndim} dimensions{hint}"
        )
    if values.shape[1] == 0:
        raise ValueError(f"{name} has no columns: vectors must have at least one element")
    return _engine_layout(values)


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
        _check_list_type(column.type, name)
        return np.empty((0, dim or 1))
    return _engine_layout(parts[0] if len(parts) == 1 else np.concatenate(parts))


def cells_matrix(cells: NDArray[Any], name: str, dim: int | None = None) -> Matrix:
    """A pandas column of Python objects: a list or an array a cell."""
    if len(cells) == 0:
        return np.empty((0, dim or 1))
    try:
        values = np.stack(list(cells))
    except ValueError:  # cells of different shapes
        raise _cell_error(cells, name, dim) from None
    if values.ndim != 2 or values.dtype == object:
        raise _cell_error(cells, name, dim)
    values = _floating(values, _type_message(name, f"list of {values.dtype}"))
    _check_dim(values.shape[1], dim, name, row=0)
    return _engine_layout(values)


def same_dtype(a: Matrix, b: Matrix) -> tuple[Matrix, Matrix]:
    """Both in the wider of their types."""
    dtype = np.result_type(a, b)
    return _engine_layout(a.astype(dtype, copy=False)), _engine_layout(b.astype(dtype, copy=False))


def key_and_rows(key: object, rows: Matrix) -> tuple[Matrix, Matrix]:
    """One key as a matrix of one row, in one type with the rows it is compared with.

    The rows are widened (which copies them) only for a key that their type cannot express.
    """
    vector = np.asarray(key)
    if vector.ndim != 1:
        raise ValueError(
            f"key must be one vector (1-D) but has {vector.ndim} dimensions; "
            "for many keys use approxNearestNeighborsJoin"
        )
    query = array_matrix(vector.reshape(1, -1), "key")
    with np.errstate(over="ignore"):
        narrow = _engine_layout(query.astype(rows.dtype))
    if np.array_equal(narrow, query, equal_nan=True):
        return narrow, rows
    return same_dtype(query, rows)


def engine_dtype(dtype: np.dtype[Any], refusal: str) -> np.dtype[Any]:
    """The narrowest of float16, float32 and float64 that holds such values exactly."""
    dtype = dtype.newbyteorder("=")
    if dtype.kind in "iu":
        return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise TypeError(refusal)
    return dtype


def _floating(values: NDArray[Any], refusal: str) -> NDArray[Any]:
    dtype = engine_dtype(values.dtype, refusal)
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
    if chunk.null_count:
        row = first_row + _first_null(chunk)
        raise ValueError(f"Column {name}: row {row} is null; drop such rows or fill them")
    if pa.types.is_fixed_size_list(chunk.type):
        length = chunk.type.list_size
        _check_dim(length, dim, name, first_row)
    else:
        lengths = np.diff(chunk.offsets.to_numpy())
        length = int(lengths[0]) if dim is None else dim
        uneven = np.flatnonzero(lengths != length)
        if len(uneven):
            _check_dim(int(lengths[uneven[0]]), length, name, first_row + int(uneven[0]))
        _check_dim(length, dim, name, first_row)
    values = chunk.flatten()
    if values.null_count:
        row = first_row + _first_null(values) // length
        raise ValueError(f"Column {name}: row {row} holds a null; drop such rows or fill them")
    numbers = values.to_numpy(zero_copy_only=True).reshape(len(chunk), length)
    return _floating(numbers, _type_message(name, chunk.type))


def _check_list_type(arrow_type: pa.DataType, name: str) -> None:
    import pyarrow as pa

    types = pa.types
    is_list = (
        types.is_list(arrow_type)
        or types.is_large_list(arrow_type)
        or types.is_fixed_size_list(arrow_type)
    )
    if not is_list or not (
        types.is_floating(arrow_type.value_type) or types.is_integer(arrow_type.value_type)
    ):
        raise TypeError(_type_message(name, arrow_type))


def _first_null(array: pa.Array) -> int:
    import pyarrow.compute as pc

    return int(pc.index(array.is_null(), True).as_py())


def _check_dim(length: int, dim: int | None, name: str, row: int) -> None:
    if length == 0:
        raise ValueError(f"Column {name}: row {row} has no elements")
    if dim is not None and length != dim:
        raise ValueError(
            "The columns of A don't match the number of elements of x. "
            f"A: {dim}, x: {length} (column {name}, row {row})"
        )


def _type_message(name: str, actual: object) -> str:
    return f"Column {name} must be of type list of numbers but was actually {actual}."


def _cell_error(cells: NDArray[Any], name: str, dim: int | None) -> Exception:
    """What is wrong with cells that do not stack to a matrix of numbers: looked for row by row."""
    for row, cell in enumerate(cells):
        if cell is None or (isinstance(cell, float) and np.isnan(cell)):
            return ValueError(f"Column {name}: row {row} is null; drop such rows or fill them")
        vector = np.asarray(cell, dtype=object)
        if vector.ndim != 1:
            return TypeError(_type_message(name, f"{type(cell).__name__} (row {row})"))
        if any(value is None for value in vector):
            return ValueError(f"Column {name}: row {row} holds a null; drop such rows or fill them")
        try:
            _check_dim(len(vector), dim, name, row)
        except ValueError as error:
            return error
        dim = len(vector)
    return TypeError(_type_message(name, "list of object"))
