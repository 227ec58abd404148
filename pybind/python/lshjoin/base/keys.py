"""Keys of rows, integers or strings, to the numbers by which the engine compares them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import pyarrow as pa

#: A number for each row of the queries, if there are some, and of the items.
Codes = tuple[NDArray[np.uint32] | None, NDArray[np.uint32]]
#: Keys of the rows of one array, or of the queries and the items.
RowKeys = ArrayLike | tuple[ArrayLike, ArrayLike]

# What the engine takes for no key, which is equal to none: the largest number.
_NO_KEY = -1


def key_codes(keys: RowKeys | None, name: str, queries: int | None, items: int) -> Codes | None:
    """The codes of keys for so many queries, None in a self-join, and items; None without keys.

    Equal keys have equal codes, and nulls (None, NaN, what is masked) one that equals none. They
    may be of any kind that Arrow can compare: integers, strings, booleans, dates, bytes.

    Examples:
        >>> from lshjoin.base.keys import key_codes
        >>> key_codes((["at", None], ["de", "at"]), "within", 2, 2)
        (array([         0, 4294967295], dtype=uint32), array([1, 0], dtype=uint32))
    """
    if keys is None:
        return None
    import pyarrow as pa

    if queries is None:
        return None, _codes(_column(keys, name, items), name)
    if not isinstance(keys, tuple) or len(keys) != 2:
        raise TypeError(
            f"{name} must be a pair for two arrays, of the keys of queries and of items: "
            f"{name}=(query_keys, item_keys)"
        )
    sides = [
        pa.table({name: _column(of_side, f"{name} of {side}", rows)})
        for of_side, side, rows in zip(keys, ("queries", "items"), (queries, items), strict=True)
    ]
    try:
        both = pa.concat_tables(sides, promote_options="permissive").column(name)
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        kinds = " and ".join(str(side.schema.field(name).type) for side in sides)
        raise TypeError(
            f"{name}: the keys of queries and items must be of one kind, not {kinds} ({error})"
        ) from None
    codes = _codes(both, name)
    return codes[:queries], codes[queries:]


def _codes(column: pa.ChunkedArray, name: str) -> NDArray[np.uint32]:
    import pyarrow as pa

    try:
        chunks = column.dictionary_encode().chunks
    except pa.ArrowNotImplementedError:
        raise TypeError(f"{name} must be integers or strings, not {column.type}") from None
    return codes_of([chunk.indices for chunk in chunks])


def codes_of(indices: Iterable[pa.Array]) -> NDArray[np.uint32]:
    """The codes of keys that are indices of one dictionary, in pieces."""
    codes = [piece.fill_null(_NO_KEY).to_numpy() for piece in indices]
    return np.concatenate([np.empty(0, np.int32), *codes]).astype(np.uint32)


def key_type(stored: pa.DataType, name: str) -> pa.DataType:
    """The type in which keys that are stored so are compared. TypeError for what are none."""
    import pyarrow as pa

    column = plain_keys(pa.chunked_array([], stored), name)
    _codes(column, name)
    return pa.int64() if pa.types.is_null(column.type) else column.type


def _column(keys: Any, name: str, rows: int) -> pa.ChunkedArray:
    """The keys as Arrow has them, checked."""
    import pyarrow as pa

    if isinstance(keys, str):
        raise TypeError(f"{name} must be a key a row, not the text {keys!r}")
    try:
        if hasattr(keys, "__arrow_c_stream__"):
            column = pa.chunked_array(keys)
        else:
            column = pa.array(keys, from_pandas=True)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise TypeError(f"{name} must be integers or strings, one a row ({error})") from None
    if not isinstance(column, pa.ChunkedArray):
        column = pa.chunked_array([column])
    if len(column) != rows:
        raise ValueError(f"{name} must have one key a row, but has {len(column)} for {rows} rows")
    return plain_keys(column, name)


def keys_as(stored: pa.Array, kind: pa.DataType, name: str) -> pa.Array:
    """Keys in a :func:`key_type`, their own or one that others have as well."""
    import pyarrow as pa

    plain = plain_keys(pa.chunked_array([stored]), name)
    try:
        return pa.concat_arrays(plain.cast(kind).chunks)
    except pa.ArrowInvalid as error:
        raise TypeError(
            f"{name} must be of one kind, not {plain.type} and {kind} ({error})"
        ) from None


def plain_keys(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """The keys themselves, where they are held by a dictionary, a view or floats."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, types = column.type, pa.types
    if types.is_dictionary(kind):
        # Not by a cast, which pyarrow lacks for the string views that polars has.
        words = [plain_keys(pa.chunked_array([chunk.dictionary]), name) for chunk in column.chunks]
        parts = [
            of_chunk.take(chunk.indices)
            for of_chunk, chunk in zip(words, column.chunks, strict=True)
        ]
        none = plain_keys(pa.chunked_array([], kind.value_type), name)
        return pa.chunked_array([part for of in (none, *parts) for part in of.chunks], none.type)
    if types.is_string_view(kind):
        return column.cast(pa.large_string())
    if not types.is_floating(kind):
        return column
    # Integers with nulls, as pandas has them; those of pyarrow and polars may hold NaN.
    whole = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
    try:
        return whole.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise TypeError(f"{name} must be integers or strings, not fractions ({error})") from None
