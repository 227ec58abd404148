"""Joins of NumPy arrays."""

from __future__ import annotations

import json
import math
import numbers
import operator
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lshjoin import _lshjoin
from lshjoin.checks import short, to_float, to_k, to_natural, to_radius
from lshjoin.plan import JoinPlan
from lshjoin.progress import Progress, reporter
from lshjoin.report import Report
from lshjoin.vectors import array_matrix, same_dtype

if TYPE_CHECKING:
    import pyarrow as pa
    from typing_extensions import Self

    from lshjoin._lshjoin import Floats, Matrix

Metric = Literal["euclidean", "manhattan", "cosine"]
NearestMetric = Metric | Literal["inner_product"]


class _Neighbors(NamedTuple):
    distances: NDArray[Any]  #: (queries, k), float32 or float64; inf where there is no neighbour
    indices: NDArray[np.int64]  #: (queries, k), rows of items; -1 where there is no neighbour


class Neighbors(_Neighbors):
    """The k nearest of each query, nearest first: ``distances`` and ``indices``.

    ``plan`` and ``report`` are not among the two that the tuple unpacks to.
    """

    plan: JoinPlan  #: what was to be done
    report: Report  #: the recall that was reached, the pairs compared, the time of each stage

    def __new__(
        cls, distances: NDArray[Any], indices: NDArray[np.int64], plan: JoinPlan, report: Report
    ) -> Self:
        """Of the two arrays, and how they came about."""
        self = super().__new__(cls, distances, indices)
        self.plan, self.report = plan, report
        return self

    @classmethod
    def _of(
        cls, distances: Floats, indices: NDArray[np.int64], report: str, k: int, plan: JoinPlan
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
        return cls(*padded, plan, Report._parse(report))

    def __getnewargs__(self) -> tuple[Any, ...]:
        """For pickle and copy."""
        return (*self, self.plan, self.report)

    def _replace(self, **changes: Any) -> Self:
        """As of all named tuples, with the plan and the report."""
        named = {**self._asdict(), "plan": self.plan, "report": self.report}
        return type(self)(**named | changes)

    __replace__ = _replace


class RadiusNeighbors(NamedTuple):
    """The neighbours of each query in CSR form: those of query i at ``lims[i]:lims[i + 1]``."""

    lims: NDArray[np.int64]  #: (queries + 1,)
    distances: NDArray[Any]  #: (pairs,), float32 or float64
    indices: NDArray[np.int64]  #: (pairs,), rows of items


def knn_join(
    queries: ArrayLike | None = None,
    items: ArrayLike | None = None,
    k: SupportsIndex = 10,
    *,
    metric: NearestMetric = "euclidean",
    recall: float | None = None,
    plan: JoinPlan | None = None,
    seed: SupportsIndex | None = None,
    num_threads: int | None = None,
    progress: Progress = None,
) -> Neighbors:
    """For every row of ``queries``, the ``k`` nearest rows of ``items``.

    One array alone, ``knn_join(x)`` or ``knn_join(items=x)``, is the self-join, in which a row is
    not its own neighbour (its exact duplicates are).

    Args:
        queries: (n, d) array-like, one vector a row, or a column of vectors of pandas, polars or
            pyarrow. float16, float32 and float64 are used as they are, without a copy when
            C-contiguous; 8- and 16-bit integers are widened to float32, other integers to float64.
        items: (m, d) array-like; the queries themselves if None.
        k: neighbours a query, at least 1. Queries with fewer are padded with inf and -1.
        metric: "euclidean", "manhattan", "cosine" (1 - cosine similarity) or "inner_product" (its
            negative is the distance: the largest come first).
        recall: the share of the true neighbours to find, above 0; 0.95 if None. 1.0 compares all
            pairs, as do small joins whatever the recall.
        plan: what to do, from :func:`plan_knn_join`, an earlier result's ``plan`` or
            :class:`JoinPlan` itself. Takes the place of ``recall`` and ``seed``.
        seed: where random directions start, 0 to 2**64 - 1; 0 if None.
        num_threads: threads to use; all cores if None. Results do not depend on it.
        progress: True for a tqdm bar, False for none, or a function of (done, total). None, the
            default, shows a bar on terminals after a second, if tqdm is installed.

    Returns:
        ``distances`` and ``indices``, both (n, k), nearest first, ties by index. Distances are
        float32 for float16 and float32 vectors, else float64. The attribute ``plan`` is what was
        done: passed back with the same arrays, it gives the same result. ``report`` is what came of
        it: the recall of held-out rows, the pairs that were compared, the time of each stage.

    Raises:
        TypeError: for arrays that do not hold real numbers, sparse ones among them, or a plan with
            a recall or seed.
        NotFiniteError: for NaN and infinity, with the row and the dimension; a ValueError.
        ValueError: for anything masked, values so large that a distance might not fit the type (in
            float32 from about 1e38 on, for inner products from about 1e19 / sqrt(d)), arrays that
            are not 2-D, different numbers of columns, ``k`` below 1, a recall that is not above 0
            and at most 1.

    Examples:
        >>> import numpy as np
        >>> from lshjoin import knn_join
        >>> items = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> distances, indices = knn_join(items, k=2)
        >>> indices
        array([[2, 1],
               [2, 0],
               [0, 1]])
        >>> result = knn_join([[3, 3]], items, k=1)
        >>> result.distances
        array([[1.]])
        >>> print(result.plan)
        exact   all pairs are compared
        recall  1.0, as all pairs are compared
        pairs   100 % of all
        time    under 0.1 s
        memory  under 1 MB beside the rows
        why     a side is small
        >>> print(result.report.recall)
        1.0, as all pairs are compared
    """
    k = to_k(k)
    query_rows, item_rows = sides(queries, items)
    if plan is not None and not isinstance(plan, JoinPlan):
        raise TypeError(f"plan must be a JoinPlan, not {type(plan).__name__}")
    if plan is not None and (recall is not None or seed is not None):
        raise TypeError("pass either a plan or recall and seed: a plan has its own")
    columns = min(k, max(len(item_rows), 1))
    with reporter(progress, "knn_join") as on_progress:
        if plan is None:
            distances, indices, planned, report = _lshjoin.knn_join_for_recall(
                query_rows,
                item_rows,
                columns,
                metric=metric,
                recall=0.95 if recall is None else to_float(recall),
                seed=0 if seed is None else to_natural("seed", seed),
                num_threads=num_threads,
                on_progress=on_progress,
            )
            plan = JoinPlan.from_json(planned)
        else:
            distances, indices, report = _lshjoin.knn_join(
                query_rows,
                item_rows,
                columns,
                metric=metric,
                plan=plan._json,
                num_threads=num_threads,
                on_progress=on_progress,
            )
    return Neighbors._of(distances, indices, report, k, plan)


def plan_knn_join(
    queries: ArrayLike | None = None,
    items: ArrayLike | None = None,
    k: SupportsIndex = 10,
    *,
    metric: NearestMetric = "euclidean",
    recall: float = 0.95,
    seed: SupportsIndex = 0,
    num_threads: int | None = None,
    progress: Progress = None,
) -> JoinPlan:
    """The plan that :func:`knn_join` follows for the same arguments: the quickest to the recall.

    The planner looks at a sample of the rows: how far their neighbours and random items are, what
    each setting would compare and find (Slaney, Lifshits and He 2012), and what that takes on this
    machine's instruction set. The recall that it predicts is that of sampled rows which it did not
    choose by. Another machine may choose another plan; the same plan has the same result anywhere.

    Small joins, a recall of 1.0 and the Manhattan distance are exact at once; so is what takes no
    longer than planning.

    Args:
        queries: (n, d) array-like, as for :func:`knn_join`.
        items: (m, d) array-like; the queries themselves if None.
        k: neighbours a query, at least 1.
        metric: as for :func:`knn_join`.
        recall: the share of the true neighbours to find, above 0 and at most 1.
        seed: where random choices start, 0 to 2**64 - 1.
        num_threads: threads to use; all cores if None. The plan does not depend on it, the seconds
            that it predicts do.
        progress: as for :func:`knn_join`.

    Returns:
        The plan, with what is :attr:`~JoinPlan.predicted` of it.

    Raises:
        TypeError, ValueError: as :func:`knn_join`, which also looks at the values of all rows.

    Examples:
        >>> import numpy as np
        >>> from lshjoin import plan_knn_join
        >>> rng = np.random.default_rng(0)
        >>> x = rng.standard_normal((1000, 8), dtype=np.float32)
        >>> plan = plan_knn_join(x, recall=0.9)
        >>> plan, plan.predicted.recall.value, plan.predicted.share
        (JoinPlan.exact(), 1.0, 0.4995)
    """
    k = to_k(k)
    query_rows, item_rows = sides(queries, items)
    return study(
        query_rows,
        item_rows,
        k,
        metric=metric,
        recall=recall,
        seed=seed,
        num_threads=num_threads,
        progress=progress,
    )[0]


def study(
    query_rows: Matrix | None,
    item_rows: Matrix,
    k: int,
    *,
    metric: NearestMetric,
    recall: float,
    seed: SupportsIndex,
    num_threads: int | None,
    progress: Progress,
) -> tuple[JoinPlan, dict[str, Any]]:
    """What the planner chose, and what from."""
    with reporter(progress, "plan_knn_join") as on_progress:
        text = _lshjoin.plan_knn_join(
            query_rows,
            item_rows,
            min(k, max(len(item_rows), 1)),
            metric=metric,
            recall=to_float(recall),
            seed=to_natural("seed", seed),
            num_threads=num_threads,
            on_progress=on_progress,
        )
    considered = json.loads(text)
    return JoinPlan.from_json(json.dumps(considered.pop("chosen"))), considered


def radius_join(
    queries: ArrayLike | None = None,
    items: ArrayLike | None = None,
    radius: float | None = None,
    *,
    metric: Metric = "euclidean",
    num_threads: int | None = None,
    progress: Progress = None,
) -> RadiusNeighbors:
    """For every row of ``queries``, all rows of ``items`` nearer than ``radius`` (strictly).

    One array alone is the self-join, in which a row is not its own neighbour (its exact duplicates
    are) and each pair comes both ways.

    Args:
        queries: (n, d) array-like, as for :func:`knn_join`.
        items: (m, d) array-like; the queries themselves if None.
        radius: in the units of the metric; inf for all pairs. Required.
        metric: "euclidean", "manhattan" or "cosine" (1 - cosine similarity).
        num_threads: threads to use; all cores if None.
        progress: as for :func:`knn_join`.

    Returns:
        ``lims``, ``distances`` and ``indices``.

    Raises:
        TypeError: for arrays that do not hold real numbers, or no radius.
        NotFiniteError: for NaN and infinity, as :func:`knn_join`.
        ValueError: for arrays that are not 2-D, different numbers of columns, a radius that is
            negative or NaN.

    Examples:
        >>> import numpy as np
        >>> from lshjoin import radius_join
        >>> items = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> lims, distances, indices = radius_join([[0.0, 0.0], [3.0, 3.0]], items, radius=2)
        >>> for query in range(2):
        ...     print(sorted(indices[lims[query] : lims[query + 1]].tolist()))
        [0, 2]
        [1]
    """
    radius = to_radius(radius)
    query_rows, item_rows = sides(queries, items)
    with reporter(progress, "radius_join") as on_progress:
        return RadiusNeighbors(
            *_lshjoin.radius_join(
                query_rows,
                item_rows,
                radius,
                metric=metric,
                num_threads=num_threads,
                on_progress=on_progress,
            )
        )


def radius_join_batches(
    queries: ArrayLike | None = None,
    items: ArrayLike | None = None,
    radius: float | None = None,
    *,
    metric: Metric = "euclidean",
    batch_size: SupportsIndex = 1 << 20,
    num_threads: int | None = None,
    progress: Progress = None,
) -> pa.RecordBatchReader:
    """The pairs of :func:`radius_join` as a stream of Arrow record batches.

    For results that need not fit in memory: threads of its own make batches while they are read,
    and wait when they are read slowly. Dropping the reader ends the join.

    The same arguments give the same batches, whatever the number of threads. They are not sorted:
    blocks of pairs come as they are found, in each by query, then by item.

    Args:
        queries: (n, d) array-like, as for :func:`knn_join`. Arrays that are used without a copy
            must not be changed before the stream's end.
        items: (m, d) array-like; the queries themselves if None.
        radius: in the units of the metric; inf for all pairs. Required.
        metric: "euclidean", "manhattan" or "cosine" (1 - cosine similarity).
        batch_size: pairs a batch, at least 1; the last batch may be smaller.
        num_threads: threads to use; all cores if None.
        progress: as for :func:`knn_join`; told while a batch is waited for.

    Returns:
        A reader of the columns ``query`` and ``item`` (int64 row numbers) and ``distance`` (float32
        or float64, as in :func:`radius_join`), all without nulls. polars and others take it through
        the Arrow C interface.

    Raises:
        TypeError, ValueError: as :func:`radius_join`, or for a ``batch_size`` below 1; NaN and
            infinity are noticed when the first batch is read.

    Examples:
        >>> import numpy as np
        >>> import pyarrow.parquet as pq
        >>> from lshjoin import radius_join_batches
        >>> items = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> reader = radius_join_batches([[0.0, 0.0], [3.0, 3.0]], items, radius=2)
        >>> with pq.ParquetWriter("pairs.parquet", reader.schema) as file:
        ...     for batch in reader:
        ...         file.write_batch(batch)
        >>> pq.read_table("pairs.parquet").to_pydict()
        {'query': [0, 0, 1], 'item': [0, 2, 1], 'distance': [0.0, 1.0, 1.0]}
    """
    import pyarrow as pa

    radius = to_radius(radius)
    batch_size = operator.index(batch_size)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {short(batch_size)}")
    if batch_size >= 2**63:
        raise ValueError(f"batch_size must be below 2**63, not {short(batch_size)}")
    query_rows, item_rows = sides(queries, items)
    distance = pa.float64() if item_rows.dtype == np.float64 else pa.float32()
    types = {"query": pa.int64(), "item": pa.int64(), "distance": distance}
    schema = pa.schema([pa.field(*column, nullable=False) for column in types.items()])
    pairs = _lshjoin.RadiusJoinBatches(
        query_rows,
        item_rows,
        radius,
        metric=metric,
        batch_size=batch_size,
        num_threads=num_threads,
    )
    batches = _record_batches(pairs, schema, progress)
    # When the reader lets go of them, or else while the interpreter can still wait for threads.
    weakref.finalize(batches, pairs.close)
    return pa.RecordBatchReader.from_batches(schema, batches)


def _record_batches(
    pairs: _lshjoin.RadiusJoinBatches, schema: pa.Schema, progress: Progress
) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    with reporter(progress, "radius_join_batches") as on_progress:
        while (columns := pairs.next(on_progress)) is not None:
            yield pa.record_batch(list(columns), schema)


def sides(queries: ArrayLike | None, items: ArrayLike | None) -> tuple[Matrix | None, Matrix]:
    """Queries and items as the engine takes them; without queries for a self-join."""
    if items is None:
        queries, items = None, queries
    if items is None:
        raise TypeError("there is nothing to join; pass queries and items, or one array alone")
    if isinstance(items, numbers.Real):
        raise TypeError(
            f"items is the number {short(items)}; to join one array with itself pass k or the "
            "radius by name"
        )
    item_rows = array_matrix(items, "items")
    if queries is None:
        return None, item_rows
    query_rows = array_matrix(queries, "queries", item_rows.shape[1])
    if len(item_rows) == 0:  # now it is known how long they would be, if they are a column
        item_rows = array_matrix(items, "items", query_rows.shape[1])
    if query_rows.shape[1] != item_rows.shape[1]:
        raise ValueError(
            f"queries have {query_rows.shape[1]} columns but items have {item_rows.shape[1]}"
        )
    return same_dtype(query_rows, item_rows)
