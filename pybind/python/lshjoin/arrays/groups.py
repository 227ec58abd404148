"""Groups of near rows: connected components of the pairs, or around rows that represent others."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Linkage = Literal["component", "representative"]
Rows = NDArray[np.int64]


def check_linkage(linkage: str) -> None:
    """ValueError for what is none; ImportError where it needs what is not installed."""
    if linkage not in get_args(Linkage):
        raise ValueError(f"linkage must be 'component' or 'representative', not {linkage!r}")
    if linkage == "component":
        require_scipy()


def require_scipy() -> None:
    """ImportError where there are no connected components to be had."""
    try:
        import scipy.sparse.csgraph  # noqa: F401
    except ImportError:
        raise ImportError("near-duplicates need scipy: pip install 'lshjoin[dedup]'") from None


class Components:
    """The connected components of pairs that come in batches, which need not be kept."""

    labels: Rows  #: (rows,), the component of each, whatever its number

    def __init__(self, rows: int) -> None:
        """Of rows that are alone, for now."""
        self.labels = np.arange(rows)
        self._count = rows

    def connect(self, left: Rows, right: Rows) -> None:
        """Puts both rows of each pair into one component."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        ends = self.labels[left], self.labels[right]
        edges = coo_array((np.ones(len(left), bool), ends), shape=(self._count, self._count))
        self._count, joined = connected_components(edges, directed=False)
        self.labels = joined[self.labels]


def first_rows(labels: Rows) -> Rows:
    """For each row the first one that has its label."""
    _, first, label = np.unique(labels, return_index=True, return_inverse=True)
    of_rows: Rows = first[label]
    return of_rows


class NearestOld:
    """The nearest old row of each row, by pairs that come in batches."""

    def __init__(self, rows: int) -> None:
        """Of rows that are near none, for now."""
        self.rows = np.full(rows, -1)
        self._distances = np.full(rows, math.inf)

    def update(self, left: Rows, right: Rows, distances: NDArray[Any]) -> None:
        """Takes the old rows of these pairs that are nearer; of two as near, the first."""
        order = np.lexsort((right, distances, left))
        left, right, distances = left[order], right[order], distances[order]
        new, first = np.unique(left, return_index=True)
        right, distances = right[first], distances[first]
        known = self._distances[new]
        nearer = (distances < known) | ((distances == known) & (right < self.rows[new]))
        self.rows[new[nearer]] = right[nearer]
        self._distances[new[nearer]] = distances[nearer]

    def spread(self, labels: Rows) -> None:
        """Gives the rows of a component that have none the nearest one of the component."""
        order = np.lexsort((self.rows, self._distances, labels))
        nearest = np.empty_like(self.rows)
        nearest[order] = self.rows[order][first_rows(labels[order])]
        self.rows = np.where(self.rows < 0, nearest, self.rows)


def by_component(
    order: Rows, pairs: Iterable[pa.RecordBatch], old_pairs: Iterable[pa.RecordBatch], old: int
) -> tuple[Rows, Rows, Rows]:
    """Rows that chains of near pairs hold together, be it by way of an old row.

    Args:
        order: the rows, those first that are rather kept.
        pairs: of near rows, both ways, as :func:`radius_join_batches` gives them.
        old_pairs: of rows and old ones.
        old: how many there are of these.

    Returns:
        For each row a number that its group has, the row that is kept for it, -1 where that is an
        old one, and the old row, -1 where there is none.
    """
    count = len(order)
    components, nearest = Components(count + old), NearestOld(count)
    for batch in pairs:
        left, right, _ = _columns(batch)
        components.connect(left, right)
    for batch in old_pairs:
        left, right, distances = _columns(batch)
        components.connect(left, count + right)
        nearest.update(left, right, distances)
    labels = components.labels[:count]
    if old:
        nearest.spread(labels)
    kept = np.empty(count, np.int64)
    kept[order] = order[first_rows(labels[order])]
    return labels, np.where(nearest.rows < 0, kept, -1), nearest.rows


def by_representative(
    order: Rows, pairs: Iterable[pa.RecordBatch], old_pairs: Iterable[pa.RecordBatch]
) -> tuple[Rows, Rows, Rows]:
    """Rows that are near the row which is kept for them: chains do not reach further.

    In this order, a row is kept unless it is near an old row or one that is kept already; of
    several it belongs to the nearest. All pairs are in memory, which takes some 60 bytes for each
    two rows.

    Args and returns as :func:`by_component`.
    """
    count = len(order)
    nearest = NearestOld(count)
    for batch in old_pairs:
        nearest.update(*_columns(batch))
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    before, after, distances = _forward(place, pairs)
    lims = np.searchsorted(before, np.arange(count + 1))
    covered = nearest.rows[order] >= 0
    for row in np.flatnonzero(np.diff(lims)):
        if not covered[row]:
            covered[after[lims[row] : lims[row + 1]]] = True
    # Pairs of one that is kept and one that is not, for each of the latter the nearest first.
    of_kept = ~covered[before]
    before, after, distances = before[of_kept], after[of_kept], distances[of_kept]
    by_distance = np.lexsort((before, distances, after))
    rest, first = np.unique(after[by_distance], return_index=True)
    kept = np.arange(count)
    kept[rest] = before[by_distance][first]
    kept[nearest.rows[order] >= 0] = -1
    representatives = np.where(kept < 0, -1, order[kept])[place]
    groups = np.where(nearest.rows < 0, representatives, count + nearest.rows)
    return groups, representatives, nearest.rows


def _columns(batch: pa.RecordBatch) -> tuple[Rows, Rows, NDArray[Any]]:
    """Queries, items and distances."""
    left, right, distances = (column.to_numpy() for column in batch.columns)
    return left, right, distances


def _forward(place: Rows, pairs: Iterable[pa.RecordBatch]) -> tuple[Rows, Rows, NDArray[Any]]:
    """Each pair once, by places in the order, from the earlier to the later one; sorted."""
    parts = []
    for batch in pairs:
        left, right, distances = _columns(batch)
        before, after = place[left], place[right]
        once = before < after
        parts.append((before[once], after[once], distances[once]))
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    before, after, distances = map(np.concatenate, zip(*parts, strict=True))
    sorted_ = np.argsort(before, kind="stable")
    return before[sorted_], after[sorted_], distances[sorted_]
