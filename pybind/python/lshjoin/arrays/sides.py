"""The two sides of a join."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any, TypedDict, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lshjoin.arrays.neighbors import BinaryMetric
from lshjoin.base.checks import short
from lshjoin.base.keys import Codes, RowKeys, key_codes
from lshjoin.base.vectors import array_matrix, packed_bits, same_dtype

if TYPE_CHECKING:
    from lshjoin._lshjoin import Matrix


def are_bits(metric: str) -> bool:
    """Whether rows are packed bits for a metric, and not vectors."""
    return metric in get_args(BinaryMetric)


def sides(
    queries: ArrayLike | None, items: ArrayLike | None, metric: str
) -> tuple[Matrix | None, Matrix]:
    """Queries and items as the engine takes them; without queries for a self-join."""
    queries, items = _given(queries, items)
    read = packed_bits if are_bits(metric) else array_matrix
    item_rows: Matrix = read(items, "items")
    if queries is None:
        return None, item_rows
    query_rows: Matrix = read(queries, "queries", item_rows.shape[1])
    if len(item_rows) == 0:  # now it is known how long they would be, if they are a column
        item_rows = read(items, "items", query_rows.shape[1])
    _check_columns(query_rows, item_rows)
    return same_dtype(query_rows, item_rows)


def _given(
    queries: ArrayLike | None, items: ArrayLike | None
) -> tuple[ArrayLike | None, ArrayLike]:
    if items is None:
        queries, items = None, queries
    if items is None:
        raise TypeError("there is nothing to join; pass queries and items, or one array alone")
    if isinstance(items, numbers.Real):
        raise TypeError(
            f"items is the number {short(items)}; to join one array with itself pass k or the "
            "radius by name"
        )
    return queries, items


def _check_columns(query_rows: NDArray[Any], item_rows: NDArray[Any]) -> None:
    if query_rows.shape[1] != item_rows.shape[1]:
        raise ValueError(
            f"queries have {query_rows.shape[1]} columns but items have {item_rows.shape[1]}"
        )


class SideKeys(TypedDict):
    """The keys of both sides, for the engine."""

    within: Codes | None
    apart: Codes | None


NO_KEYS: SideKeys = {"within": None, "apart": None}


def side_keys(
    query_rows: Matrix | None,
    item_rows: Matrix,
    *,
    within: RowKeys | None,
    apart: RowKeys | None,
) -> SideKeys:
    """The keys of these rows as the engine takes them."""
    rows = None if query_rows is None else len(query_rows), len(item_rows)
    return {
        "within": key_codes(within, "within", *rows),
        "apart": key_codes(apart, "apart", *rows),
    }


def keys_of_rows(keys: SideKeys, rows: NDArray[np.int64]) -> SideKeys:
    """The keys where some queries, or some items in a self-join, are joined with all items."""

    def of_rows(codes: Codes | None) -> Codes | None:
        if codes is None:
            return None
        queries, items = codes
        return (items if queries is None else queries)[rows], items

    return {"within": of_rows(keys["within"]), "apart": of_rows(keys["apart"])}
