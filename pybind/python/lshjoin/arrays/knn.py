"""The k nearest: the join, and the plan that it follows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lshjoin import engine
from lshjoin.arrays.exclude import excluded, nearest_but
from lshjoin.arrays.ids import side_ids
from lshjoin.arrays.neighbors import BinaryMetric, Edges, JoinedRows, NearestMetric, Neighbors
from lshjoin.arrays.sides import NO_KEYS, SideKeys, keys_of_rows, side_keys, sides
from lshjoin.base.checks import to_float, to_k, to_natural
from lshjoin.base.keys import RowKeys
from lshjoin.base.plan import JoinPlan
from lshjoin.base.progress import Progress, reporter

if TYPE_CHECKING:
    from lshjoin._lshjoin import Floats, Matrix


def knn_join(
    queries: ArrayLike | None = None,
    items: ArrayLike | None = None,
    k: SupportsIndex = 10,
    *,
    metric: NearestMetric | BinaryMetric = "euclidean",
    ids: ArrayLike | None = None,
    query_ids: ArrayLike | None = None,
    exclude: ArrayLike | Edges | None = None,
    within: RowKeys | None = None,
    apart: RowKeys | None = None,
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
            pyarrow. int8, uint8, float16, bfloat16 (of ml_dtypes), float32 and float64 are used as
            they are, without a copy when C-contiguous; integers of 16 bits are widened to float32,
            wider ones to float64. The two sides may be of different types; with a side of float64
            the other is widened to that.
            For "hamming" and "jaccard" (n, bytes) uint8: packed bits, as ``np.packbits(bits,
            axis=1)`` makes them and FAISS's binary indexes have them.
        items: (m, d) array-like; the queries themselves if None.
        k: neighbours a query, at least 1. Queries with fewer are padded with inf and -1.
        metric: "euclidean", "manhattan", "cosine" (1 - cosine similarity) or "inner_product" (its
            negative is the distance: the largest come first); of packed bits "hamming" (how many
            differ) or "jaccard" (1 - shared / all of the bits that are set, 0 for two empty rows).
        ids: (m,) what items are called in the result, in place of their row numbers: integers,
            strings, dates or the like, an array of NumPy or pyarrow, a column or a list, each once.
            Of one array alone for both sides.
        query_ids: (n,) the same for queries, in :meth:`Neighbors.to_edges` and ``exclude``.
        exclude: pairs of a query and an item that are known beforehand and are to be left out, by
            ids or, without these, row numbers: (p, 2) array-like, or :class:`Edges` of an earlier
            result. In a self-join both ways. The next nearest take their places.
        within: a key a row, integers or strings: only rows of equal keys are neighbours, as within
            a country or a postcode. For two arrays a pair, ``(query_keys, item_keys)``. A row
            without a key (None, NaN, masked) has no neighbours. There may be one group of rows or a
            million; memory holds a copy of the rows of a large one.
        apart: a key a row, like ``within``, but those of neighbours have to differ: none is of the
            same document, user or day. A row without a key may have any neighbours.
        recall: the share of the true neighbours to find, above 0; 0.95 if None. 1.0 compares all
            pairs, as do small joins whatever the recall.
        plan: what to do, from :func:`plan_knn_join`, an earlier result's ``plan`` or
            :class:`JoinPlan` itself. Takes the place of ``recall`` and ``seed``.
        seed: where random directions start, 0 to 2**64 - 1; 0 if None.
        num_threads: threads to use; all cores if None. Results do not depend on it.
        progress: True for a tqdm bar, False for none, or a function of (done, total), where more
            to do may turn up on the way. None, the default, shows a bar on terminals and in
            notebooks after a second, if tqdm is installed.

    Returns:
        ``distances`` and ``indices``, both (n, k), nearest first, ties by row. Distances are
        float64 if a side is, else float32: of integers of 8 bits the exact ones, rounded once. The
        attribute
        ``plan`` is what was done: passed back with the same arrays, it gives the same result.
        ``report`` is what came of it: the recall of held-out rows, the pairs that were compared,
        the time of each stage.

    Raises:
        TypeError: for arrays that do not hold real numbers (uint8 for packed bits), sparse ones
            among them, keys that are no integers or strings or not one kind of them, ids that are
            not of one kind, or a plan with a recall or seed.
        NotFiniteError: for NaN and infinity, with the row and the dimension; a ValueError.
        ValueError: for anything masked, values so large that a distance might not fit the type (in
            float32 from about 1e38 on, for inner products from about 1e19 / sqrt(d)), arrays that
            are not 2-D, different numbers of columns, ``k`` below 1, a recall that is not above 0
            and at most 1; keys that are not one a row; ids that are not as many as rows, null or
            there twice, and pairs to exclude of rows that there are not.

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
        >>> knn_join(items, k=1, ids=["a", "b", "c"]).indices.ravel()
        array(['c', 'c', 'a'], dtype=object)
        >>> knn_join(items, k=1, ids=["a", "b", "c"], exclude=[("a", "c")]).indices.ravel()
        array(['b', 'c', 'b'], dtype=object)
        >>> knn_join(items, k=1, within=["at", "de", "at"]).indices
        array([[ 2],
               [-1],
               [ 0]])
        >>> knn_join([[3, 3]], items, k=1, within=(["at"], ["at", "de", "at"])).indices
        array([[2]])
        >>> knn_join(items, k=1, apart=["a", "b", "a"]).indices
        array([[1],
               [2],
               [1]])
        >>> bits = np.packbits([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]], axis=1)
        >>> knn_join(bits, k=1, metric="hamming").distances.ravel()
        array([1., 1., 3.], dtype=float32)
        >>> knn_join(bits, k=1, metric="jaccard").distances.ravel()
        array([0.33333334, 0.33333334, 1.        ], dtype=float32)
    """
    k = to_k(k)
    query_rows, item_rows = sides(queries, items, metric)
    query_count = None if query_rows is None else len(query_rows)
    of_queries, of_items = side_ids(query_ids, ids, query_count, len(item_rows))
    joined = JoinedRows(len(item_rows), query_rows is None, metric, of_queries, of_items)
    pairs = None if exclude is None else excluded(exclude, joined, query_count)
    keys = side_keys(query_rows, item_rows, within=within, apart=apart)
    if plan is not None and not isinstance(plan, JoinPlan):
        raise TypeError(f"plan must be a JoinPlan, not {type(plan).__name__}")
    if plan is not None and (recall is not None or seed is not None):
        raise TypeError("pass either a plan or recall and seed: a plan has its own")
    columns = min(k, max(len(item_rows), 1))
    with reporter(progress, "knn_join") as on_progress:
        distances, indices, planned, report = engine.knn_join(
            query_rows,
            item_rows,
            columns,
            metric=metric,
            **keys,
            plan=None if plan is None else plan._json,
            recall=0.95 if recall is None else to_float(recall),
            seed=0 if seed is None else to_natural("seed", seed),
            num_threads=num_threads,
            on_progress=on_progress,
        )
    # One that was given may bring what was predicted of it.
    plan = JoinPlan.from_json(planned) if plan is None else plan
    if pairs is not None:

        def find(rows: NDArray[np.int64], k: int) -> tuple[Floats, NDArray[np.int64]]:
            some = (item_rows if query_rows is None else query_rows)[rows]
            distances, indices, *_ = engine.knn_join(
                some,
                item_rows,
                k,
                metric=metric,
                **keys_of_rows(keys, rows),
                plan=planned,
                num_threads=num_threads,
            )
            return distances, indices

        distances, indices = nearest_but(pairs, (distances, indices), len(item_rows), find)
    return Neighbors._of(distances, indices, report, k, plan, joined)


def plan_knn_join(
    queries: ArrayLike | None = None,
    items: ArrayLike | None = None,
    k: SupportsIndex = 10,
    *,
    metric: NearestMetric | BinaryMetric = "euclidean",
    within: RowKeys | None = None,
    apart: RowKeys | None = None,
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
        within: as for :func:`knn_join`. All groups follow the plan for the largest one.
        apart: as for :func:`knn_join`.
        recall: the share of the true neighbours to find, above 0 and at most 1.
        seed: where random choices start, 0 to 2**64 - 1.
        num_threads: threads to use; all cores if None. The plan does not depend on it, the seconds
            that it predicts do.
        progress: as for :func:`knn_join`.

    Returns:
        The plan, with what is :attr:`~JoinPlan.predicted` of it; of packed bits without, but with
        as many lists and probes as held-out rows need for the recall.

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
    query_rows, item_rows = sides(queries, items, metric)
    return study(
        query_rows,
        item_rows,
        k,
        metric=metric,
        keys=side_keys(query_rows, item_rows, within=within, apart=apart),
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
    metric: NearestMetric | BinaryMetric,
    keys: SideKeys = NO_KEYS,
    recall: float,
    seed: SupportsIndex,
    num_threads: int | None,
    progress: Progress,
) -> tuple[JoinPlan, dict[str, Any]]:
    """What the planner chose, and what from."""
    with reporter(progress, "plan_knn_join") as on_progress:
        text = engine.plan_knn_join(
            query_rows,
            item_rows,
            min(k, max(len(item_rows), 1)),
            metric=metric,
            **keys,
            recall=to_float(recall),
            seed=to_natural("seed", seed),
            num_threads=num_threads,
            on_progress=on_progress,
        )
    considered = json.loads(text)
    return JoinPlan.from_json(json.dumps(considered.pop("chosen"))), considered
