"""Pairs that are known beforehand, and are left out of what a join finds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lshjoin.arrays.ids import Ids
from lshjoin.arrays.neighbors import Edges, JoinedRows
from lshjoin.base.vectors import integer_ids, refuse_masked

Rows = NDArray[np.int64]
Nearest = tuple[NDArray[Any], Rows]


class Excluded:
    """Pairs of a query and an item, by row."""

    def __init__(self, left: Rows, right: Rows, queries: int, items: int) -> None:
        """Of rows of queries and of items, and how many of each there are."""
        self._items = max(items, 1)
        self._pairs = np.unique(left * self._items + right)
        #: (queries,), in how many pairs each is
        self.counts = np.bincount(self._pairs // self._items, minlength=queries)

    def has(self, left: Rows, right: Rows) -> NDArray[np.bool_]:
        """Which of these pairs are among them."""
        found = (self.counts[left] > 0) & (right >= 0)
        # Few queries are in any, and only their pairs are looked up.
        found[found] = np.isin(left[found] * self._items + right[found], self._pairs)
        return found

    def left_out(self, queries: Rows, near: Nearest, k: int) -> Nearest:
        """The first k neighbours of each that are in none of the pairs.

        Args:
            queries: (n,), their rows.
            near: distances and indices, (n, m), nearest first, whose arrays are changed.
            k: how many are wanted.
        """
        distances, indices = near
        known = self.has(np.repeat(queries, indices.shape[1]), indices.ravel())
        known = known.reshape(indices.shape)
        distances[known], indices[known] = math.inf, -1
        order = np.argsort(known, axis=1, kind="stable")[:, :k]
        return (
            np.take_along_axis(distances, order, axis=1),
            np.take_along_axis(indices, order, axis=1),
        )


class ExcludedIds(Excluded):
    """Pairs of a query, by row, and an item, by its id, which need not be there."""

    def __init__(self, left: Rows, ids: Rows, queries: int) -> None:
        """Of rows of queries and of ids, and how many queries there are."""
        self._ids, places = np.unique(ids, return_inverse=True)
        super().__init__(left, places, queries, len(self._ids))

    def has(self, left: Rows, right: Rows) -> NDArray[np.bool_]:
        """Which of these pairs are among them."""
        if len(self._ids) == 0:
            return np.zeros(len(left), bool)
        places = np.minimum(np.searchsorted(self._ids, right), len(self._ids) - 1)
        return super().has(left, np.where(self._ids[places] == right, places, -1))


def excluded_ids(pairs: ArrayLike | Edges, queries: int) -> ExcludedIds:
    """The pairs that a user passed for an index, of rows of queries and ids of items."""
    left, right = pair_columns(pairs)
    rows = Ids(np.arange(queries), "queries", queries).rows(left, "exclude")
    return ExcludedIds(rows, _item_ids(right), queries)


def excluded_of_new(pairs: ArrayLike | Edges, new: Ids) -> tuple[Edges, Edges]:
    """The pairs that a user passed for new items, by id, of which the other need not be there.

    Returns:
        Pairs of rows of the new items and ids of any, and the pairs of ids of new ones.
    """
    left, right = pair_columns(pairs)
    rows, ids = new.rows(left, "exclude"), _item_ids(right)
    of_new = np.isin(ids, new.values)
    nowhere = np.empty(0)  # how far they are plays no part
    return Edges(rows, ids, nowhere), Edges(new.of(rows[of_new]), ids[of_new], nowhere)


def _item_ids(ids: Any) -> Rows:
    # Of a list of pairs both columns are objects, so that each may be of a kind of its own.
    return integer_ids(np.asarray(list(ids)))


def excluded(pairs: ArrayLike | Edges, joined: JoinedRows, queries: int | None) -> Excluded:
    """The pairs that a user passed, by id where rows have ids.

    Args:
        pairs: (p, 2) array-like, or the edges of an earlier result.
        joined: what the join is of.
        queries: how many there are; None for a self-join, in which pairs have no direction.
    """
    left, right = pair_columns(pairs)
    items = joined.items
    of_items = joined.ids or Ids(np.arange(items), "items", items)
    of_queries = of_items
    if queries is not None:
        of_queries = joined.query_ids or Ids(np.arange(queries), "queries", queries)
    rows = of_queries.rows(left, "exclude"), of_items.rows(right, "exclude")
    return excluded_rows(*rows, queries, items)


def excluded_rows(left: Rows, right: Rows, queries: int | None, items: int) -> Excluded:
    """Pairs of row numbers; without queries of a self-join, both ways."""
    if queries is not None:
        return Excluded(left, right, queries, items)
    # With each also itself: it is no neighbour of its own when it is joined once more.
    concerned = np.union1d(left, right)
    both = np.concatenate([left, right, concerned])
    return Excluded(both, np.concatenate([right, left, concerned]), items, items)


def nearest_but(
    pairs: Excluded, near: Nearest, items: int, find: Callable[[Rows, int], Nearest]
) -> Nearest:
    """The nearest neighbours that are in none of these pairs.

    Queries with a neighbour to leave out are joined once more, for as many neighbours more as they
    are in pairs.

    Args:
        pairs: to leave out.
        near: distances and indices, (queries, k), of the join without regard to pairs.
        items: how many there are.
        find: distances and indices of the nearest so many of these queries.
    """
    distances, indices = near
    queries, k = indices.shape
    of_pair = pairs.has(np.repeat(np.arange(queries), k), indices.ravel()).reshape(queries, k)
    again = np.flatnonzero(of_pair.any(axis=1))
    # Queries of about as many pairs together: one of very many is not to make it dear for all.
    widths = 2 ** np.ceil(np.log2(pairs.counts[again])).astype(np.int64)
    for width in np.unique(widths):
        rows = again[widths == width]
        found, neighbours = find(rows, min(k + int(width), items))
        distances[rows], indices[rows] = pairs.left_out(rows, (found, neighbours), k)
    return distances, indices


def pair_columns(pairs: Any) -> tuple[Any, Any]:
    """Queries and items."""
    if isinstance(pairs, Edges):
        return pairs.left, pairs.right
    refuse_masked(pairs, "exclude")
    # As objects, since the two may be of different kinds, of which NumPy would make one.
    values = pairs if isinstance(pairs, np.ndarray) else _objects(pairs)
    if values.size == 0:
        return [], []
    if values.ndim != 2 or values.shape[1] != 2:
        raise ValueError(
            f"exclude must be pairs of a query and an item, of shape (p, 2), not {values.shape}"
        )
    return values[:, 0], values[:, 1]


def _objects(pairs: Any) -> NDArray[Any]:
    try:
        return np.asarray(list(pairs), object)
    except (TypeError, ValueError) as error:
        raise TypeError(f"exclude must be pairs of a query and an item ({error})") from None
