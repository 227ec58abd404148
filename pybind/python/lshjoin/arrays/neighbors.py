"""What joins of arrays give: the nearest of each query, or all within a radius.

And what others want it as: sparse matrices, UMAP's pair of arrays, lists of edges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lshjoin.arrays.ids import Ids
from lshjoin.base import html
from lshjoin.base.plan import JoinPlan
from lshjoin.base.report import Report

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from typing_extensions import Self

    from lshjoin._lshjoin import Floats


Metric = Literal["euclidean", "manhattan", "cosine"]

NearestMetric = Metric | Literal["inner_product"]

#: Of packed bits.
BinaryMetric = Literal["hamming", "jaccard"]

#: Of distances in a picture of them.
_SAMPLE, _BINS = 100_000, 40


@dataclass(frozen=True)
class JoinedRows:
    """What a join was of: the formats that its result has depend on it."""

    items: int  #: how many rows could be neighbours
    self_join: bool  #: whether queries and items are the same rows, of which none is its own
    metric: NearestMetric | BinaryMetric
    query_ids: Ids | None = None  #: what queries are called; by row number if None
    ids: Ids | None = None  #: what items are called; by row number if None

    def called(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """What these items are called, and what stands for none where it is -1."""
        return rows if self.ids is None else self.ids.of(rows)

    def rows(self, called: NDArray[Any]) -> NDArray[np.int64]:
        """The row numbers of items that are called so."""
        return called if self.ids is None else self.ids.rows(called, "indices")


def _called(joined: JoinedRows | None, queries: NDArray[np.int64]) -> NDArray[Any]:
    """What queries are called."""
    if joined is None or joined.query_ids is None:
        return queries
    return joined.query_ids.of(queries)


class Edges(NamedTuple):
    """Pairs of a query and a neighbour, one a place: the edges of the graph of neighbours."""

    left: NDArray[Any]  #: (pairs,), rows of queries, int64, or their ids
    right: NDArray[Any]  #: (pairs,), rows of items, int64, or their ids
    distance: NDArray[Any]  #: (pairs,), float32 or float64


class _Neighbors(NamedTuple):
    distances: NDArray[Any]  #: (queries, k), float32 or float64; inf where there is no neighbour
    #: (queries, k), rows of items, int64, -1 where there is no neighbour; or their ids.
    indices: NDArray[Any]


class Neighbors(_Neighbors):
    """The k nearest of each query, nearest first: ``distances`` and ``indices``.

    Where items have ``ids``, ``indices`` holds these, of their dtype (lists and columns of
    strings are of ``object``). A place without a neighbour, which is one at the distance inf, then
    holds -1; the largest number, of integers without sign; None, among objects; "", NaN or NaT,
    among others.

    ``plan`` and ``report`` are not among the two that the tuple unpacks to.
    """

    plan: JoinPlan  #: what was to be done
    report: Report  #: the recall that was reached, the pairs compared, the time of each stage
    _joined: JoinedRows | None

    def __new__(
        cls,
        distances: NDArray[Any],
        indices: NDArray[Any],
        plan: JoinPlan,
        report: Report,
        joined: JoinedRows | None = None,
    ) -> Self:
        """Of the two arrays, and how they came about; ``joined`` is None for ids of an index."""
        self = super().__new__(cls, distances, indices)
        self.plan, self.report, self._joined = plan, report, joined
        return self

    @classmethod
    def _of(
        cls,
        distances: Floats,
        indices: NDArray[np.int64],
        report: str,
        k: int,
        plan: JoinPlan,
        joined: JoinedRows | None = None,
    ) -> Self:
        """What the engine found, which writes no more columns than there are items."""
        padded: tuple[NDArray[Any], NDArray[np.int64]] = distances, indices
        if distances.shape[1] < k:
            padding = ((0, 0), (0, k - distances.shape[1]))
            try:
                padded = (
                    np.pad(distances, padding, constant_values=math.inf),
                    np.pad(indices, padding, constant_values=-1),
                )
            except (MemoryError, ValueError) as error:  # ValueError: more than can be addressed
                size = len(distances) * k * (distances.itemsize + indices.itemsize)
                raise MemoryError(
                    f"there is no memory for {size} bytes of neighbours: ask for fewer, since no "
                    f"query has more than {distances.shape[1]}"
                ) from error
        called = padded[1] if joined is None else joined.called(padded[1])
        return cls(padded[0], called, plan, Report._parse(report), joined)

    def to_csr(self, *, include_self: bool = False) -> csr_matrix:
        """The distances as a sparse matrix, as of scikit-learn's ``kneighbors_graph``.

        By row number, whatever ids there are. Row i holds the distances of query i to its
        neighbours, nearest first, in the columns of these; a distance of zero is stored, too.
        Places without a neighbour are left out, so that rows of queries with fewer than k are
        shorter.

        Args:
            include_self: puts each row itself first, at distance zero, as those of scikit-learn's
                estimators with ``metric="precomputed"`` expect it which are fitted on neighbours.

        Returns:
            scipy CSR of shape (queries, items), float32 or float64.

        Raises:
            ImportError: without scipy.
            ValueError: for neighbours from an :class:`Index`, whose ids are no columns; for
                ``include_self`` where the join was not of one array alone, or of inner products,
                in which a row is not at distance zero of itself.

        Examples:
            >>> from lshjoin import knn_join
            >>> knn_join([[0.0], [1.0], [3.0]], k=1).to_csr().toarray()
            array([[0., 1., 0.],
                   [1., 0., 0.],
                   [0., 2., 0.]])
        """
        found = self._found()
        lims = np.concatenate([[0], np.cumsum(found.sum(axis=1))])
        return _csr(lims, self.distances[found], self.indices[found], self._joined, include_self)

    def to_umap(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Indices and distances for ``umap.UMAP(precomputed_knn=...)``: each row first, then its k.

        By row number, as UMAP has it, whatever ids there are.

        UMAP counts the row itself among its ``n_neighbors``: pass it k + 1. Where the other rows
        are fewer than k, the columns that no row has a neighbour for are left out.

        Returns:
            Indices, int64, and distances, float32 or float64, both (rows, k + 1) and all finite.

        Raises:
            ValueError: as :meth:`to_csr` with ``include_self``, and for a row with fewer neighbours
                than others, since UMAP has no place for an empty one.

        Examples:
            >>> from lshjoin import knn_join
            >>> indices, distances = knn_join([[0.0], [1.0], [3.0]], k=1).to_umap()
            >>> indices
            array([[0, 1],
                   [1, 0],
                   [2, 1]])
            >>> distances
            array([[0., 1.],
                   [0., 1.],
                   [0., 2.]])
        """
        joined = _check_self(self._joined)
        found = self._found()
        width = int(found.sum(axis=1).max(initial=0))
        short = np.flatnonzero(~found[:, :width].all(axis=1))
        if len(short):
            raise ValueError(
                f"row {short[0]} has {found[short[0]].sum()} neighbours, but others have {width}: "
                "UMAP needs as many of each; leave out such rows, or use to_csr()"
            )
        rows = np.arange(len(found))
        indices = joined.rows(self.indices[:, :width].ravel()).reshape(len(found), width)
        return (
            np.column_stack([rows, indices]),
            np.column_stack(
                [np.zeros_like(self.distances, shape=len(rows)), self.distances[:, :width]]
            ),
        )

    def to_edges(self) -> Edges:
        """The pairs as three arrays, by query, nearest first; without the places that are empty.

        Queries and items go by their ids where they have any.

        Examples:
            >>> from lshjoin import knn_join
            >>> left, right, distance = knn_join([[0.0], [1.0], [3.0]], k=1).to_edges()
            >>> left, right, distance
            (array([0, 1, 2]), array([1, 0, 1]), array([1., 1., 2.]))
        """
        found = self._found()
        left = _called(self._joined, np.nonzero(found)[0])
        return Edges(left, self.indices[found], self.distances[found])

    def _repr_html_(self) -> str:
        """What notebooks show: how many, by what plan, how sure, and how far they are."""
        queries, k = self.distances.shape
        pairs = [("queries", f"{queries:,}"), ("k", f"{k:,}")]
        recall = "not measured" if self.report.recall is None else str(self.report.recall)
        did = [("plan", repr(self.plan)), ("recall", recall)]
        time = ("time", f"{sum(self.report.seconds.values()):.3f} s")
        return html.table("Neighbors", [*pairs, *did, time], _histogram(self.distances))

    def _found(self) -> NDArray[np.bool_]:
        """Where there is a neighbour; ids do not tell, since one of an index may be -1."""
        found: NDArray[np.bool_] = self.distances < math.inf
        return found

    def __getnewargs__(self) -> tuple[Any, ...]:
        """For pickle and copy."""
        return (*self, self.plan, self.report, self._joined)

    def _replace(self, **changes: Any) -> Self:
        """As of all named tuples, with the plan and the report."""
        named = {**self._asdict(), "plan": self.plan, "report": self.report}
        return type(self)(**named | {"joined": self._joined} | changes)

    __replace__ = _replace


class _RadiusNeighbors(NamedTuple):
    lims: NDArray[np.int64]  #: (queries + 1,)
    distances: NDArray[Any]  #: (pairs,), float32 or float64
    indices: NDArray[Any]  #: (pairs,), rows of items, int64, or their ids


class RadiusNeighbors(_RadiusNeighbors):
    """The neighbours of each query in CSR form: those of query i at ``lims[i]:lims[i + 1]``."""

    _joined: JoinedRows | None

    def __new__(
        cls,
        lims: NDArray[np.int64],
        distances: NDArray[Any],
        indices: NDArray[Any],
        joined: JoinedRows | None = None,
    ) -> Self:
        """Of the three arrays; ``joined`` is None for ids of an index."""
        self = super().__new__(cls, lims, distances, indices)
        self._joined = joined
        return self

    def to_csr(self, *, include_self: bool = False) -> csr_matrix:
        """The distances as a sparse matrix, as of scikit-learn's ``radius_neighbors_graph``.

        By row number, whatever ids there are.

        Args:
            include_self: as for :meth:`Neighbors.to_csr`.

        Returns:
            scipy CSR of shape (queries, items), float32 or float64; in each row nearest first, ties
            by item. Distances of zero are stored.

        Raises:
            ImportError, ValueError: as :meth:`Neighbors.to_csr`.

        Examples:
            >>> from lshjoin import radius_join
            >>> near = radius_join([[0.0], [1.0], [3.0]], radius=1.5)
            >>> near.to_csr().toarray()
            array([[0., 1., 0.],
                   [1., 0., 0.],
                   [0., 0., 0.]])
        """
        _, order = self._in_order()
        return _csr(
            self.lims, self.distances[order], self.indices[order], self._joined, include_self
        )

    def to_edges(self) -> Edges:
        """The pairs as three arrays, by query, nearest first, ties by item.

        Examples:
            >>> from lshjoin import radius_join
            >>> left, right, distance = radius_join([[0.0], [1.0], [3.0]], radius=1.5).to_edges()
            >>> left, right, distance
            (array([0, 1]), array([1, 0]), array([1., 1.]))
        """
        left, order = self._in_order()
        return Edges(_called(self._joined, left), self.indices[order], self.distances[order])

    def _of_queries(self) -> NDArray[np.int64]:
        """(pairs,), the row of the query of each."""
        return np.repeat(np.arange(len(self.lims) - 1), np.diff(self.lims))

    def _only(self, kept: NDArray[np.bool_]) -> Self:
        """With those pairs alone."""
        lims = np.concatenate([[0], np.cumsum(kept)])[self.lims]
        return type(self)(lims, self.distances[kept], self.indices[kept], self._joined)

    def _in_order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The query of each pair, and which pair is to be where."""
        left = self._of_queries()
        items = self.indices if self._joined is None else self._joined.rows(self.indices)
        return left, np.lexsort((items, self.distances, left))

    def _repr_html_(self) -> str:
        """What notebooks show: how many, and how far they are."""
        rows = [("queries", f"{len(self.lims) - 1:,}"), ("pairs", f"{len(self.indices):,}")]
        return html.table("RadiusNeighbors", rows, _histogram(self.distances))

    def __getnewargs__(self) -> tuple[Any, ...]:
        """For pickle and copy."""
        return (*self, self._joined)

    def _replace(self, **changes: Any) -> Self:
        """As of all named tuples."""
        return type(self)(**self._asdict() | {"joined": self._joined} | changes)

    __replace__ = _replace


def _histogram(distances: NDArray[Any]) -> str:
    """A picture of the distances, or of a sample of so many."""
    some = distances.ravel()[:: max(distances.size // _SAMPLE, 1)]
    some = some[some < math.inf]
    if len(some) == 0:
        return ""
    counts, ends = np.histogram(some, _BINS)
    low, high = f"{ends[0]:.3g}", f"{ends[-1]:.3g} distance"
    return html.columns("Distances of neighbours", counts.tolist(), low, high)


def _csr(
    lims: NDArray[np.int64],
    distances: NDArray[Any],
    indices: NDArray[Any],
    joined: JoinedRows | None,
    include_self: bool,
) -> csr_matrix:
    if joined is None:
        raise ValueError(
            "neighbours from an Index have ids, which are no columns of a matrix: use to_edges()"
        )
    try:
        from scipy.sparse import csr_matrix
    except ImportError:
        raise ImportError("a sparse matrix needs scipy: pip install scipy") from None
    indices = joined.rows(indices)
    if include_self:
        _check_self(joined)
        rows = np.arange(len(lims) - 1)
        distances = np.insert(distances, lims[:-1], 0)
        indices = np.insert(indices, lims[:-1], rows)
        lims = lims + np.arange(len(lims))
    return csr_matrix((distances, indices, lims), shape=(len(lims) - 1, joined.items))


def _check_self(joined: JoinedRows | None) -> JoinedRows:
    """ValueError unless each row can be put first among its neighbours, at distance zero."""
    if joined is None or not joined.self_join:
        raise ValueError(
            "rows are neighbours of themselves only where one array is joined with itself; "
            "pass the join one array alone"
        )
    if joined.metric == "inner_product":
        raise ValueError(
            "a row is not at distance zero of itself by inner products; join by another metric"
        )
    return joined
