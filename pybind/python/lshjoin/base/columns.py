"""Rows of Arrow columns, taken in pieces.

One array has no more than two gigabytes of strings or list values, which it counts in 32 bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

#: Bytes that a piece of a column has, up to one row more.
PIECE = 1 << 30


def cuts(columns: Iterable[pa.Array | pa.ChunkedArray], rows: NDArray[np.int64]) -> set[int]:
    """Where ``rows`` have to be cut, so that each part can be taken of every column.

    -1 is no row, and has no bytes.
    """
    found: set[int] = set()
    for column in columns:
        sizes = _sizes_of_column(column)
        if sizes is not None and len(rows) > 0:
            ends = np.cumsum(np.append(sizes, 0)[rows])
            limits = range(PIECE, ends[-1], PIECE)
            found.update(np.searchsorted(ends, limits, side="right").tolist())
    return found - {0}


def pieces(
    columns: Iterable[pa.Array | pa.ChunkedArray], rows: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """``rows`` in parts that can be taken of every column."""
    return np.split(rows, sorted(cuts(columns, rows)))


def taken(column: pa.Array, rows: NDArray[np.int64]) -> pa.ChunkedArray:
    """The values of a column at these rows."""
    import pyarrow as pa

    parts = [column.take(pa.array(part)) for part in pieces([column], rows)]
    return pa.chunked_array(parts, column.type)


def _sizes_of_column(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int64] | None:
    """Bytes of each row; None where these are as few for all."""
    import pyarrow as pa

    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    sizes = [_sizes(chunk) for chunk in chunks]
    if not any(isinstance(size, np.ndarray) for size in sizes):
        return None
    return np.concatenate(
        [np.broadcast_to(size, len(chunk)) for size, chunk in zip(sizes, chunks, strict=True)]
    )


def _sizes(array: pa.Array) -> NDArray[np.int64] | int:
    """Bytes of each row, or of any; at least as many as it has values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, types = array.type, pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _sizes(array.storage)
    if types.is_struct(kind):
        return sum((_sizes(field) for field in array.flatten()), 1)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_map(kind):
        return _sizes_of_lists(_sizes(array.values), array.offsets.to_numpy())
    if types.is_fixed_size_list(kind):
        values = _sizes(array.values)
        if isinstance(values, int):
            return values * int(kind.list_size)
        return _sizes_of_lists(values, (array.offset + np.arange(len(array) + 1)) * kind.list_size)
    if (
        types.is_string(kind)
        or types.is_binary(kind)
        or types.is_large_string(kind)
        or types.is_large_binary(kind)
    ):
        lengths: NDArray[np.int64] = pc.binary_length(array).fill_null(0).to_numpy()
        return lengths.astype(np.int64)
    try:
        return max(int(kind.bit_width) // 8, 1)
    except ValueError:  # a view, which shares what it is of
        return 16


def _sizes_of_lists(
    sizes: NDArray[np.int64] | int, offsets: NDArray[np.int64]
) -> NDArray[np.int64]:
    if isinstance(sizes, int):
        return np.diff(offsets).astype(np.int64) * sizes
    return np.diff(np.concatenate([[0], np.cumsum(sizes)])[offsets])
