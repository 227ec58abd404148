"""Near-duplicates of an array or a data frame: their groups, and which row of each to keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lshjoin.arrays.groups import Linkage, by_component, by_representative, check_linkage
from lshjoin.arrays.ids import Ids
from lshjoin.arrays.keep import LONGEST, by_place, characters, is_text, largest_first
from lshjoin.arrays.neighbors import BinaryMetric, Metric
from lshjoin.arrays.radius import radius_join_batches
from lshjoin.arrays.sides import are_bits
from lshjoin.base.checks import to_radius
from lshjoin.base.keys import RowKeys
from lshjoin.base.progress import Progress
from lshjoin.base.vectors import array_matrix, packed_bits
from lshjoin.frames.adapters import (
    Frame,
    naming_sides,
    open_frame,
    open_pair,
    side_column,
    side_vectors,
    vectors_of,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from lshjoin._lshjoin import Matrix

Rows = NDArray[np.int64]
#: Of the rows and of the old ones; None for arrays.
Frames = tuple[Frame | None, Frame | None]


@dataclass(frozen=True, eq=False)
class Deduplication:
    """What :func:`dedup` found, for each row of the array or frame."""

    groups: Rows  #: (n,), the number of its group, from 0 in the order of their first rows
    keep: NDArray[np.bool_]  #: (n,), whether to keep it: of each group one row, or an old one
    #: (n,), the row that is kept for it, or its id; -1 (for ids as in :class:`Neighbors`) where
    #: that is an old row.
    representatives: NDArray[Any]
    #: (n,), the old row that it is a duplicate of, or its id; -1 where there is none. None without
    #: old rows.
    matches: NDArray[Any] | None
    frame: Any  #: the rows to keep, in their order, of the kind that the frame was; None of arrays


def dedup(
    items: Any,
    threshold: float,
    *,
    on: str | None = None,
    metric: Metric | BinaryMetric = "euclidean",
    within: str | RowKeys | None = None,
    keep: str | ArrayLike = "first",
    linkage: Linkage = "component",
    against: Any = None,
    ids: ArrayLike | None = None,
    against_ids: ArrayLike | None = None,
    num_threads: int | None = None,
    progress: Progress = None,
) -> Deduplication:
    """Groups of near-duplicates, and which row of each to keep. Exact.

    Args:
        items: (n, d) array-like, as for :func:`knn_join`, or a data frame of pandas, polars or
            pyarrow, or another holder of Arrow columns.
        threshold: rows nearer than that are duplicates, in the units of the metric.
        on: the column of vectors of a data frame.
        metric: "euclidean", "manhattan" or "cosine" (1 - cosine similarity); of packed bits
            "hamming" or "jaccard", as for :func:`knn_join`.
        within: only rows of equal keys are duplicates: the name of a column of the data frame, or a
            key a row, integers or strings, as for :func:`knn_join`; for two arrays a pair, of
            ``items`` and of ``against``. A row whose key is null has no duplicates.
        keep: which row of a group: "first"; "last"; in data frames "longest", the one with most
            characters in its columns of strings, or the name of a column, the one with the largest
            value; or an array of n values, the one with the largest. Of several the first; nulls
            and NaN come last.
        linkage: "component": duplicates of duplicates are in one group, so that a chain of them may
            lead far; or "representative": all rows of a group are nearer to the row that is kept
            than the threshold. Rows are gone through by ``keep``, and each is kept that is near
            none kept before; the others belong to the nearest such row.
        against: old rows, an array or frame like ``items``, that are all kept: of rows near one of
            them none is. With "component", nor are duplicates of these.
        ids: (n,) what rows are called in ``representatives``, as for :func:`knn_join`.
        against_ids: the same for old rows, in ``matches``.
        num_threads: threads to use; all cores if None. The result does not depend on it.
        progress: as for :func:`knn_join`.

    Returns:
        ``groups``, ``keep``, ``representatives``, ``matches`` with the old rows, and the ``frame``
        without duplicates. "component" needs memory for the rows only, "representative" for the
        pairs as well.

    Raises:
        ImportError: for "component" without scipy.
        TypeError: for a data frame without ``on``, frames of two libraries, values that have no
            order, ids that are not of one kind, or those of old rows without old rows.
        ValueError: as :func:`radius_join`, for nulls in the column of vectors, and for columns that
            are not there.

    Examples:
        >>> import numpy as np
        >>> import polars as pl
        >>> from lshjoin import dedup
        >>> chain = np.array([[0.0], [1.0], [9.0], [2.0]])
        >>> found = dedup(chain, 1.5)
        >>> found.groups, found.keep
        (array([0, 0, 1, 0]), array([ True, False,  True, False]))
        >>> dedup(chain, 1.5, linkage="representative").groups
        array([0, 0, 1, 2])
        >>> frame = pl.DataFrame({"text": ["hi", "hello", "bye"], "v": [[0.0], [0.1], [5.0]]})
        >>> dedup(frame, 0.5, on="v", keep="longest").frame["text"].to_list()
        ['hello', 'bye']
        >>> dedup(frame, 0.5, on="v", against=pl.DataFrame({"v": [[7.0], [5.2]]})).matches
        array([-1, -1,  1])
        >>> dedup(chain, 1.5, ids=["a", "b", "c", "d"]).representatives
        array(['a', 'a', 'c', 'a'], dtype=object)
        >>> dedup(np.array([[0b1111], [0b0111], [0b1000]], np.uint8), 2, metric="hamming").groups
        array([0, 0, 1])
        >>> dedup(chain, 1.5, within=["a", "b", "b", "b"]).groups
        array([0, 1, 2, 1])
    """
    threshold = to_radius(threshold, "threshold")
    check_linkage(linkage)
    (frame, old_frame), rows, old = _sides(items, against, on, bits=are_bits(metric))
    keys, old_keys = _keys(within, frame, old_frame, against is not None)
    called, old_called = _ids(ids, "ids", rows), _ids(against_ids, "against_ids", old)
    near = partial(
        radius_join_batches,
        radius=threshold,
        metric=metric,
        num_threads=num_threads,
        progress=progress,
    )
    order = _order(keep, frame, len(rows))
    old_pairs = () if old is None else _of_old_rows(near(rows, old, within=old_keys))
    pairs = near(rows, within=keys)
    groups, representatives, matches = (
        by_component(order, pairs, old_pairs, 0 if old is None else len(old))
        if linkage == "component"
        else by_representative(order, pairs, old_pairs)
    )
    kept = representatives == np.arange(len(rows))
    return Deduplication(
        groups=_numbered(groups),
        keep=kept,
        representatives=called(representatives),
        matches=None if old is None else old_called(matches),
        frame=None if frame is None else frame.take(np.flatnonzero(kept)).data,
    )


def _sides(
    items: Any, against: Any, on: str | None, *, bits: bool
) -> tuple[Frames, Matrix, Matrix | None]:
    """The frames, if they are some, and the vectors of both sides."""
    names = ("items", "against")
    read = packed_bits if bits else array_matrix
    if on is None:
        if hasattr(items, "columns"):
            raise TypeError("items is a data frame: pass on=, the name of its column of vectors")
        rows = read(items, names[0])
        if against is None:
            return (None, None), rows, None
        old = read(against, names[1], rows.shape[1])
        # A column without rows does not tell how long its vectors would be.
        rows = rows if len(rows) else read(items, names[0], old.shape[1])
        return (None, None), rows, old
    if against is None:
        frame = open_frame(items, names[0])
        return (frame, None), side_vectors(frame, names[0], on, bits=bits), None
    frames = open_pair(items, against, names)
    return frames, *vectors_of(frames, on, names, bits=bits)


def _keys(
    within: str | RowKeys | None, frame: Frame | None, old: Frame | None, two: bool
) -> tuple[RowKeys | None, RowKeys | None]:
    """The keys of the rows, and those of these and the old rows, if there are ``two`` sides."""
    if within is None:
        return None, None
    if isinstance(within, str):
        if frame is None:
            raise ValueError(f"within is the column {within!r}, but arrays have none: pass keys")
        keys = side_column(frame, "items", within)
        return keys, None if old is None else (keys, side_column(old, "against", within))
    if not two:
        return within, None
    if not isinstance(within, tuple) or len(within) != 2:
        raise TypeError("within must be a pair, the keys of items and those of against")
    return within[0], within


def _ids(ids: ArrayLike | None, name: str, rows: Matrix | None) -> Callable[[Rows], NDArray[Any]]:
    """What tells how rows are called."""
    if ids is None:
        return lambda rows: rows
    if rows is None:
        raise TypeError(f"{name} are given, but not the old rows that they are of: pass against=")
    return Ids(ids, name, len(rows)).of


def _of_old_rows(pairs: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    with naming_sides("items", "against"):
        yield from pairs


def _order(keep: str | ArrayLike, frame: Frame | None, rows: int) -> Rows:
    """The rows, those first that are rather kept."""
    order = by_place(keep, rows)
    if order is not None:
        return order
    values = _values(keep, frame)
    if len(values) != rows:
        raise ValueError(f"keep has {len(values)} values for {rows} rows: pass one for each")
    return largest_first(values)


def _values(keep: str | ArrayLike, frame: Frame | None) -> pa.ChunkedArray:
    """A value for each row, of which the largest is kept."""
    import pyarrow as pa

    if not isinstance(keep, str):
        values = np.asarray(keep)
        if values.ndim != 1:
            raise ValueError(f"keep must be 1-D, a value for each row, not {values.ndim}-D")
        return pa.chunked_array([pa.array(values, from_pandas=True)])
    if frame is None:
        raise ValueError(
            f"keep must be 'first', 'last' or an array of values, not {keep!r}: arrays have no "
            "columns"
        )
    if keep == LONGEST:
        return _lengths(frame)
    if frame.columns.count(keep) != 1:
        raise ValueError(
            f"keep must be 'first', 'last', 'longest' or a column, not {keep!r}; there are "
            f"{', '.join(map(repr, frame.columns))}"
        )
    return frame.arrow_column(keep)


def _lengths(frame: Frame) -> pa.ChunkedArray:
    """Characters of each row, in all columns of strings together."""
    columns = (frame.arrow_column(name) for name in frame.columns)
    lengths = characters(column for column in columns if is_text(column.type))
    if lengths is None:
        raise ValueError("keep='longest' is for frames with columns of strings; there are none")
    return lengths


def _numbered(groups: Rows) -> Rows:
    """The same groups, numbered in the order of their first rows."""
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[group]
