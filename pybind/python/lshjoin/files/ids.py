"""Columns of ids in files: integers or strings, whatever they are stored as."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def id_type(stored: pa.DataType) -> pa.DataType | None:
    """Integers or strings, as ids that are stored so are written; None for what is neither."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(stored):
        return id_type(stored.value_type)
    if types.is_integer(stored) or types.is_string(stored) or types.is_large_string(stored):
        return stored
    return pa.large_string() if types.is_string_view(stored) else None


def are_strings(*types: pa.DataType) -> bool:
    """Whether ids of all these types are strings."""
    import pyarrow as pa

    return all(pa.types.is_string(one) or pa.types.is_large_string(one) for one in types)


def plain_ids(stored: pa.Array, of_type: pa.DataType) -> pa.Array:
    """Ids in an :func:`id_type`."""
    import pyarrow as pa

    if pa.types.is_dictionary(stored.type):
        return plain_ids(stored.dictionary, of_type).take(stored.indices)
    return stored.cast(of_type)
