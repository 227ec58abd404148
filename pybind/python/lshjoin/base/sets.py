"""Sets of any origin to what the engine reads: whole numbers, one set after the other.

A set is a list of whole numbers, a list of strings, each of which stands for the number that it
hashes to, or a vector, sparse or dense: then it is the positions that do not hold 0.
"""

from __future__ import annotations

import numbers
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lshjoin import engine
from lshjoin.base.vectors import first_null, list_type, refuse_masked, vector_entries
from lshjoin.errors import RowError

if TYPE_CHECKING:
    import pyarrow as pa
    from typing_extensions import Self

Ints = NDArray[np.int64]

NUMBERS, TOKENS = "numbers", "tokens"


class SetColumn(engine.Sets):
    """The sets of a column, which knows whether their elements are numbers or tokens."""

    kind: str

    def __new__(cls, offsets: Ints, elements: Ints, kind: str) -> Self:
        """As the engine has them, and the kind."""
        self = super().__new__(cls, offsets, elements)
        self.kind = kind
        return self

    def check_alike(self, other: SetColumn, names: str) -> None:
        """Refuses to compare tokens, which are hashed, with numbers, which are not."""
        if self.kind != other.kind and len(self) and len(other):
            raise TypeError(f"{names} hold {self.kind} and {other.kind}; they must hold the same")


@dataclass(frozen=True)
class _Elements:
    """Elements of some rows, numbers already."""

    lengths: Ints
    values: Ints
    kind: str


def set_column(column: Any, name: str) -> SetColumn:
    """A column of sets of pandas, polars or pyarrow."""
    if (pandas := sys.modules.get("pandas")) and isinstance(column, pandas.Series):
        if not isinstance(column.dtype, pandas.ArrowDtype):
            if column.dtype != object:
                raise TypeError(_type_message(f"Column {name}", column.dtype))
            return _joined(_of_cells(column.to_numpy(), name), f"Column {name}: ")
        column = column.array.__arrow_array__()
    import pyarrow as pa

    if hasattr(column, "__arrow_c_array__"):
        column = pa.chunked_array([pa.array(column)])
    column = pa.chunked_array(column)
    parts, row = [], 0
    for chunk in column.chunks or [pa.array([], column.type)]:  # whose type is looked at
        parts.append(_of_chunk(chunk, name, row))
        row += len(chunk)
    return _joined(parts, f"Column {name}: ")


def key_set(key: object) -> SetColumn:
    """One set, as a column of one row."""
    if (arrow := sys.modules.get("pyarrow")) and isinstance(key, arrow.ListScalar):
        key = key.as_py()
    elements = _of_cell(key)
    if elements is None:
        raise TypeError(_type_message("key", type(key).__name__))
    return _joined([elements], "key: ")


def sparse_table(matrix: Any) -> pa.Table:
    """A sparse matrix of SciPy's as ``id``, the number of a row, and ``features``, a vector."""
    import pyarrow as pa

    rows = matrix.tocsr()
    rows.sum_duplicates()
    count, size = rows.shape
    types = pa.array(np.zeros(count, np.int8))
    offsets = pa.array(rows.indptr.astype(np.int64))
    vectors = {
        "type": types,
        "size": pa.array(np.full(count, size, np.int64)),
        "indices": pa.LargeListArray.from_arrays(offsets, pa.array(rows.indices)),
        "values": pa.LargeListArray.from_arrays(offsets, pa.array(rows.data)),
    }
    features = pa.StructArray.from_arrays(list(vectors.values()), list(vectors))
    return pa.table({"id": np.arange(count), "features": features})


def _joined(parts: Sequence[_Elements], where: str) -> SetColumn:
    kinds = sorted({part.kind for part in parts if len(part.values)})
    if len(kinds) > 1:
        raise TypeError(f"{where}holds {' and '.join(kinds)}; sets must hold the same")
    lengths = np.concatenate([np.zeros(1, np.int64), *(part.lengths for part in parts)])
    values = [part.values for part in parts] or [np.empty(0, np.int64)]
    # Most columns are one chunk, and to copy it takes longer than all else here.
    elements = values[0] if len(values) == 1 else np.concatenate(values)
    elements = np.require(elements, None, ["C_CONTIGUOUS", "ALIGNED"])
    try:
        return SetColumn(np.cumsum(lengths), elements, kinds[0] if kinds else NUMBERS)
    except RowError as error:
        error.args = (f"{where}{error}",)
        raise


def _of_chunk(chunk: pa.Array, name: str, first_row: int) -> _Elements:
    import pyarrow as pa

    types = pa.types
    if isinstance(chunk, pa.ExtensionArray):
        chunk = chunk.storage
    if chunk.null_count:
        row = first_row + first_null(chunk)
        raise RowError(f"Column {name}: row {row} is null; drop such rows or fill them", row)
    if types.is_struct(chunk.type) and {"type", "size", "indices", "values"} <= {
        field.name for field in chunk.type
    }:
        rows, positions, values = vector_entries(chunk, name, first_row)
        return _not_zero(rows, positions, values, len(chunk))
    if list_type(chunk.type) is None:
        raise TypeError(_type_message(f"Column {name}", chunk.type))
    if types.is_fixed_size_list(chunk.type):
        lengths = np.full(len(chunk), chunk.type.list_size, np.int64)
    else:
        lengths = chunk.value_lengths().to_numpy().astype(np.int64)
    values = chunk.flatten()
    if values.null_count:
        row = first_row + int(np.repeat(np.arange(len(chunk)), lengths)[first_null(values)])
        raise RowError(f"Column {name}: row {row} holds a null; drop such rows or fill them", row)
    if types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if types.is_integer(values.type):
        return _Elements(lengths, _whole(values.to_numpy()), NUMBERS)
    if types.is_floating(values.type):
        rows = np.repeat(np.arange(len(chunk)), lengths)
        positions = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return _not_zero(rows, positions, values.to_numpy(), len(chunk))
    if types.is_string(values.type) or types.is_large_string(values.type) or _is_view(values.type):
        return _Elements(lengths, _hashed(values), TOKENS)
    raise TypeError(_type_message(f"Column {name}", chunk.type))


def _is_view(arrow_type: pa.DataType) -> bool:
    return str(arrow_type) == "string_view"


def _not_zero(rows: Ints, positions: Ints, values: NDArray[Any], count: int) -> _Elements:
    """Of vectors the positions that do not hold 0, as Spark has it."""
    there = values != 0
    return _Elements(np.bincount(rows[there], minlength=count), positions[there], NUMBERS)


def _of_positions(positions: Ints, values: NDArray[Any]) -> _Elements:
    """Of one vector."""
    return _not_zero(np.zeros(len(positions), np.int64), positions, values, 1)


def _whole(values: NDArray[Any]) -> Ints:
    """As 64 bits with a sign: what is beyond is beyond all elements, too."""
    if values.dtype == np.uint64:
        values = np.minimum(values, np.uint64(2**63 - 1))
    return values.astype(np.int64, copy=False)


def _hashed(tokens: pa.Array) -> Ints:
    import pyarrow as pa

    tokens = tokens.cast(pa.large_string())
    _, offsets, text = tokens.buffers()
    if offsets is None or text is None or len(tokens) == 0:
        empty = np.zeros(len(tokens) + 1, np.int64)
        return engine.token_indices(np.empty(0, np.uint8), empty)
    places = np.frombuffer(offsets, np.int64)[tokens.offset :][: len(tokens) + 1]
    return engine.token_indices(np.frombuffer(text, np.uint8), places)


def _of_cells(cells: NDArray[Any], name: str) -> list[_Elements]:
    """A pandas column of Python objects: a set, a list, an array or a vector a cell."""
    refuse_masked(list(cells), f"column {name}")
    parts = []
    for row, cell in enumerate(cells):
        if cell is None or (isinstance(cell, float) and np.isnan(cell)):
            raise RowError(f"Column {name}: row {row} is null; drop such rows or fill them", row)
        elements = _of_cell(cell)
        if elements is None:
            if isinstance(cell, Collection) and any(value is None for value in cell):
                message = f"Column {name}: row {row} holds a null; drop such rows or fill them"
                raise RowError(message, row)
            actual = f"{type(cell).__name__} (row {row})"
            raise TypeError(_type_message(f"Column {name}", actual))
        parts.append(elements)
    return parts


def _of_cell(cell: Any) -> _Elements | None:
    """One set; None for what is none, of elements that are not of one kind."""
    if (sparse := sys.modules.get("scipy.sparse")) and sparse.issparse(cell):
        rows = cell.reshape(1, -1) if cell.ndim == 1 else cell
        if rows.shape[0] != 1:
            return None
        return _of_chunk(sparse_table(rows)["features"].chunk(0), "features", 0)
    if hasattr(cell, "indices") and hasattr(cell, "values"):  # Spark's SparseVector
        return _of_positions(_whole(cell.indices), cell.values)
    if hasattr(cell, "toArray"):  # Spark's DenseVector
        cell = cell.toArray()
    if isinstance(cell, np.ndarray):
        if cell.ndim != 1:
            return None
        if cell.dtype.kind in "iu":
            return _Elements(np.array([len(cell)]), _whole(cell), NUMBERS)
        if cell.dtype.kind == "f":
            return _of_positions(np.arange(len(cell)), cell)
    if isinstance(cell, (str, bytes, dict)) or not isinstance(cell, Collection):
        return None
    values = list(cell)
    count = np.array([len(values)])
    if all(isinstance(value, str) for value in values):
        import pyarrow as pa

        return _Elements(count, _hashed(pa.array(values, pa.large_string())), TOKENS)
    if any(isinstance(value, (bool, np.bool_)) for value in values):
        return None
    if all(isinstance(value, numbers.Integral) for value in values):
        bounded = [min(max(int(value), -(2**63)), 2**63 - 1) for value in values]
        return _Elements(count, np.array(bounded, np.int64), NUMBERS)
    if all(isinstance(value, (float, np.floating)) for value in values):
        return _of_cell(np.array(values, np.float64))
    return None


def _type_message(what: str, actual: object) -> str:
    return (
        f"{what} must be a set: whole numbers, strings, or a sparse or dense vector, but was "
        f"actually {actual}."
    )
