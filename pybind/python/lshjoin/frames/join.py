"""The join of data frames by nearness, as those libraries have it by equality."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, cast, get_args

import numpy as np

from lshjoin.arrays.exclude import pair_columns
from lshjoin.arrays.ids import Ids
from lshjoin.arrays.knn import knn_join
from lshjoin.arrays.neighbors import (
    BinaryMetric,
    Edges,
    NearestMetric,
    Neighbors,
    RadiusNeighbors,
)
from lshjoin.arrays.radii import Radius
from lshjoin.arrays.radius import radius_join
from lshjoin.arrays.sides import are_bits
from lshjoin.base.progress import Progress
from lshjoin.frames.adapters import (
    Dataset,
    Frame,
    memory_for,
    naming_sides,
    open_frame,
    open_pair,
    side_column,
    vectors_of,
)

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


How = Literal["inner", "left"]
Find = Callable[..., Neighbors | RadiusNeighbors]

SIDES = "left", "right"

DISTANCE = "distance"


def join(
    left: Dataset,
    right: object = None,
    *,
    on: str,
    k: SupportsIndex | None = None,
    radius: Radius | str | None = None,
    max_neighbors: SupportsIndex | None = None,
    metric: NearestMetric | BinaryMetric = "euclidean",
    within: str | None = None,
    apart: str | None = None,
    exclude: object = None,
    ids: str | None = None,
    recall: float | None = None,
    how: How = "inner",
    suffixes: tuple[str, str] = ("_left", "_right"),
    columns: Sequence[str] | None = None,
    num_threads: int | None = None,
    progress: Progress = None,
) -> Dataset:
    """Each row of ``left`` beside the rows of ``right`` that are near, and how far they are.

    One frame alone is joined with itself: then a row is not its own neighbour (its exact duplicates
    are), and pairs within a radius come both ways.

    Args:
        left: a pandas or polars DataFrame, a polars LazyFrame, a pyarrow Table or another holder of
            Arrow columns.
        right: one of the same library, the rows to choose from; ``left`` itself if None.
        on: the column of vectors, in both frames: lists or arrays of one length; of packed bits
            they are of uint8, or bytes.
        k: the nearest so many for each row of ``left``, at least 1; 10 without a radius.
        radius: in the place of ``k``, all that are nearer (strictly), in the units of the metric.
            A column of ``left``, or an array of one number for each of its rows, is a radius for
            each row, as for :func:`radius_join`.
        max_neighbors: with a radius, the nearest so many of those within it for each row of
            ``left``, at least 1.
        metric: "euclidean", "manhattan", "cosine" (1 - cosine similarity) or, for ``k``,
            "inner_product" (its negative is the distance); of packed bits "hamming" or "jaccard",
            as for :func:`knn_join`.
        within: a column of keys, integers or strings, in both frames: only rows of equal keys are
            joined, as within a country or a postcode. A row whose key is null has no neighbours.
        apart: a column of keys in both frames: only rows of different keys are joined, so that none
            finds its own document or user. A row whose key is null may find any.
        exclude: pairs that are known and are to be left out: a frame whose first two columns are of
            ``left`` and of ``right``, or (p, 2) array-like; by ``ids`` or else row numbers. Of one
            frame joined with itself both ways. The next nearest take their places.
        ids: the column of ids in both frames by which ``exclude`` names rows, each once.
        recall: the share of the true neighbours to find, as for :func:`knn_join`; 0.95 if None.
            A radius finds all.
        how: "inner", or "left" to keep rows of ``left`` without a neighbour, once, with nulls.
        suffixes: for the names of columns that the other frame has as well; "distance" is taken,
            too.
        columns: which to keep of both frames, in this order; all but the vectors if None.
        num_threads: threads to use; all cores if None. Results do not depend on it.
        progress: as for :func:`knn_join`.

    Returns:
        A frame of the kind of ``left`` with its columns, those of ``right``, and "distance", which
        is float64 where vectors are, or integers of 32 bits and more, else float32. By row of
        ``left``, nearest first, ties by row of ``right``. In pandas each row has the index that it
        had in ``left``; that of ``right`` is left out (its ``reset_index()`` makes it a column). A
        LazyFrame is joined when it is collected.

    Raises:
        TypeError: for frames of two libraries, a column that does not hold vectors of numbers, or
            both ``k`` and ``radius``.
        RowError: for a null, NaN or infinity, or a vector of another length, with the number of the
            row; a ValueError.
        ValueError: for a column that is not there, two of one name, and as :func:`knn_join`.

    Examples:
        >>> import polars as pl
        >>> import lshjoin
        >>> vectors = [[0, 1], [0, 2], [3, 6]]
        >>> words = pl.DataFrame({"word": ["cat", "tom", "car"], "vector": vectors})
        >>> lshjoin.join(words, on="vector", k=1).rows()
        [('cat', 'tom', 1.0), ('tom', 'cat', 1.0), ('car', 'tom', 5.0)]
        >>> texts = pl.DataFrame({"text": ["meow", "brum"], "vector": [[0, 1], [5, 5]]})
        >>> lshjoin.join(texts, words, on="vector", radius=1.5, how="left")
        shape: (3, 3)
        ┌──────┬──────┬──────────┐
        │ text ┆ word ┆ distance │
        │ ---  ┆ ---  ┆ ---      │
        │ str  ┆ str  ┆ f64      │
        ╞══════╪══════╪══════════╡
        │ meow ┆ cat  ┆ 0.0      │
        │ meow ┆ tom  ┆ 1.0      │
        │ brum ┆ null ┆ null     │
        └──────┴──────┴──────────┘
        >>> bits = pl.DataFrame({"word": ["cat", "tom"], "code": [b"a", b"c"]})
        >>> lshjoin.join(bits, on="code", radius=2, metric="hamming").rows()
        [('cat', 'tom', 1.0), ('tom', 'cat', 1.0)]
        >>> known = pl.DataFrame({"word": ["cat"], "other": ["tom"]})
        >>> lshjoin.join(words, on="vector", k=1, exclude=known, ids="word").rows()
        [('cat', 'car', 5.830951894845301), ('tom', 'car', 5.0), ('car', 'tom', 5.0)]
        >>> words = words.with_columns(reach=pl.Series([1.5, 0.5, 5.5]))
        >>> near = lshjoin.join(words, on="vector", radius="reach", columns=["word"])
        >>> near.rows()
        [('cat', 'tom', 1.0), ('car', 'tom', 5.0)]
        >>> words = words.with_columns(animal=pl.Series([True, True, False]))
        >>> lshjoin.join(words, on="vector", k=1, apart="animal", columns=["word"]).rows()
        [('cat', 'car', 5.830951894845301), ('tom', 'car', 5.0), ('car', 'tom', 5.0)]
    """
    if k is not None and radius is not None:
        raise TypeError("pass either k or radius: the nearest so many, or all that are nearer")
    if max_neighbors is not None and radius is None:
        raise TypeError("max_neighbors is for a radius: without one, pass k")
    if ids is not None and exclude is None:
        raise TypeError("ids is for exclude, the pairs that it names: the result has all columns")
    if radius is not None and recall is not None:
        raise TypeError("recall is for k: within a radius all neighbours are found")
    if how not in get_args(How):
        raise ValueError(f"how must be 'inner' or 'left', not {how!r}")
    if isinstance(columns, str):
        raise TypeError(f"columns must be a list of names; for one column pass [{columns!r}]")
    common: Any = {"metric": metric, "num_threads": num_threads, "progress": progress}
    find: Find = (
        partial(knn_join, k=10 if k is None else k, recall=recall, **common)
        if radius is None
        else partial(radius_join, max_neighbors=max_neighbors, **common)
    )
    by_row = ByRow(within, apart, radius, exclude, ids)
    joined = partial(
        _joined,
        find=find,
        on=on,
        bits=are_bits(metric),
        how=how,
        suffixes=suffixes,
        columns=columns,
    )
    if _is_lazy(left):
        return cast(Dataset, _lazily(cast("pl.LazyFrame", left), right, joined, by_row))
    return cast(Dataset, joined(left, _collected(right), by_row))


def _joined(
    left: object,
    right: object,
    by_row: ByRow,
    *,
    find: Find,
    on: str,
    bits: bool,
    how: How,
    suffixes: tuple[str, str],
    columns: Sequence[str] | None,
) -> Any:
    """The join of frames that are not lazy; of one with itself if ``right`` is None."""
    frames = open_pair(left, left if right is None else right, SIDES)
    vectors = vectors_of(frames, on, SIDES, bits=bits)
    kept = [_kept(frame, on, columns) for frame in frames]
    _check_known(columns, frames)
    of_rows = by_row.options(frames, right is None)
    with naming_sides("left", "left" if right is None else "right"):
        pairs = find(None if right is None else vectors[0], vectors[1], **of_rows).to_edges()
    if how == "left":
        pairs = _with_lonely(pairs, len(vectors[0]))
    with memory_for(len(pairs.left)):
        near, far = (
            frame.select(names) for frame, names in zip(frames, _names(kept, suffixes), strict=True)
        )
        rows = near.take(pairs.left), far.take_or_null(pairs.right)
        return rows[0].beside(rows[1], DISTANCE, pairs.distance).data


@dataclass(frozen=True)
class ByRow:
    """What says by row which pairs are wanted."""

    within: str | None  #: a column of keys
    apart: str | None  #: a column of keys
    radius: Radius | str | None  #: a column of the left frame, an array or a number
    exclude: object  #: pairs that are left out
    ids: str | None  #: the column by which these name rows

    def of_no_rows(self) -> ByRow:
        """The same for frames without rows."""
        radius = None if self.radius is None else 0.0
        return replace(self, radius=radius, exclude=None)

    def options(self, frames: tuple[Frame, Frame], self_join: bool) -> dict[str, Any]:
        """What the join of the vectors is passed."""
        found: dict[str, Any] = {}
        for name, column in (("within", self.within), ("apart", self.apart)):
            if column is not None:
                if not isinstance(column, str):
                    raise TypeError(
                        f"{name} must be the name of a column of the frames, not a "
                        f"{type(column).__name__}: make the keys a column"
                    )
                keys = _both(frames, column)
                found[name] = keys[0] if self_join else keys
        if isinstance(self.radius, str):
            found["radius"] = side_column(frames[0], "left", self.radius)
        elif self.radius is not None:
            found["radius"] = self.radius
        if self.exclude is not None:
            pairs = _pair_columns(self.exclude)
            if self.ids is not None:
                pairs = self._rows(frames, pairs)
            found["exclude"] = Edges(*pairs, np.empty(0))
        return found

    def _rows(self, frames: tuple[Frame, Frame], pairs: tuple[Any, Any]) -> tuple[Any, Any]:
        """The rows of pairs of ids."""
        assert self.ids is not None
        columns = _both(frames, self.ids)
        left, right = (
            Ids(column, f"{self.ids} of {name}", len(column)).rows(of_pairs, "exclude")
            for column, name, of_pairs in zip(columns, SIDES, pairs, strict=True)
        )
        return left, right


def _both(frames: tuple[Frame, Frame], column: str) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """A column of both frames."""
    left, right = (
        side_column(frame, name, column) for frame, name in zip(frames, SIDES, strict=True)
    )
    return left, right


def _pair_columns(exclude: Any) -> tuple[Any, Any]:
    """Those of the left and of the right, of a frame or an array."""
    exclude = _collected(exclude)
    if not hasattr(exclude, "columns") and not hasattr(exclude, "__arrow_c_stream__"):
        return pair_columns(exclude)
    frame = open_frame(exclude, "exclude")
    if len(frame.columns) < 2:
        raise ValueError(f"exclude must have two columns, of both sides, not {frame.columns}")
    left, right = (frame.arrow_column(name) for name in frame.columns[:2])
    return left, right


def _kept(frame: Frame, on: str, columns: Sequence[str] | None) -> list[str]:
    there = frame.columns
    if columns is None:
        kept = [name for name in there if name != on]
    else:
        kept = [name for name in dict.fromkeys(columns) if name in there]
    for name in kept:
        if there.count(name) > 1:
            raise ValueError(f"there are {there.count(name)} columns {name!r}: rename all but one")
    return kept


def _check_known(columns: Sequence[str] | None, frames: Sequence[Frame]) -> None:
    there = [name for frame in frames for name in frame.columns]
    for name in columns or ():
        if name not in there:
            raise ValueError(
                f"columns has {name!r}, which neither frame has; there are "
                f"{', '.join(map(repr, dict.fromkeys(there)))}"
            )


def _names(kept: Sequence[list[str]], suffixes: tuple[str, str]) -> list[dict[str, str]]:
    """What the columns of each side are called in the result."""
    named = []
    for mine, others, suffix in zip(kept, reversed(kept), suffixes, strict=True):
        taken = {*others, DISTANCE}
        named.append({name: f"{name}{suffix}" if name in taken else name for name in mine})
    names = [*named[0].values(), *named[1].values(), DISTANCE]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"the result would have {names.count(name)} columns {name!r}: pass other suffixes "
                f"than {suffixes}, or fewer columns"
            )
    return named


def _with_lonely(pairs: Edges, rows: int) -> Edges:
    """With a pair for each row on the left that has none: with no row, at no distance."""
    lonely = np.setdiff1d(np.arange(rows), pairs.left)
    left = np.concatenate([pairs.left, lonely])
    right = np.concatenate([pairs.right, np.full(len(lonely), -1)])
    distance = np.concatenate(
        [pairs.distance, np.full_like(pairs.distance, np.nan, shape=len(lonely))]
    )
    order = np.argsort(left, kind="stable")
    return Edges(left[order], right[order], distance[order])


def _is_lazy(frame: object) -> bool:
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(frame, polars.LazyFrame)


def _collected(frame: Any) -> Any:
    return frame.collect() if _is_lazy(frame) else frame


def _lazily(
    left: pl.LazyFrame, right: Any, joined: Callable[[Any, Any, ByRow], Any], by_row: ByRow
) -> pl.LazyFrame:
    """The join at the time of ``collect``; what columns it has, the join of no rows tells."""
    sides = (left, right)
    none = [_without_rows(side) if _is_lazy(side) else side for side in sides]
    return left.map_batches(
        lambda frame: joined(frame, _collected(right), by_row),
        schema=joined(none[0], none[1], by_row.of_no_rows()).schema,
        # All rows and columns are needed, whatever is asked of the result.
        predicate_pushdown=False,
        projection_pushdown=False,
        slice_pushdown=False,
    )


def _without_rows(frame: pl.LazyFrame) -> pl.DataFrame:
    return frame.collect_schema().to_frame()
