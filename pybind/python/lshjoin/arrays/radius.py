"""All pairs within a radius: at once, or in batches."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, SupportsIndex, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lshjoin import engine
from lshjoin.arrays.exclude import Excluded, excluded
from lshjoin.arrays.ids import side_ids
from lshjoin.arrays.knn import knn_join
from lshjoin.arrays.neighbors import (
    BinaryMetric,
    Edges,
    JoinedRows,
    Metric,
    Neighbors,
    RadiusNeighbors,
)
from lshjoin.arrays.radii import Radii, Radius
from lshjoin.arrays.sides import side_keys, sides
from lshjoin.base.checks import short, to_k
from lshjoin.base.keys import RowKeys
from lshjoin.base.progress import OnProgress, Progress, reporter

if TYPE_CHECKING:
    import pyarrow as pa


#: Pairs of a batch.
BATCH = 1 << 20


def radius_join(
    queries: ArrayLike | None = None,
    items: ArrayLike | None = None,
    radius: Radius | None = None,
    *,
    metric: Metric | BinaryMetric = "euclidean",
    max_neighbors: SupportsIndex | None = None,
    ids: ArrayLike | None = None,
    query_ids: ArrayLike | None = None,
    exclude: ArrayLike | Edges | None = None,
    within: RowKeys | None = None,
    apart: RowKeys | None = None,
    num_threads: int | None = None,
    progress: Progress = None,
) -> RadiusNeighbors:
    """For every row of ``queries``, all rows of ``items`` nearer than ``radius`` (strictly).

    One array alone is the self-join, in which a row is not its own neighbour (its exact duplicates
    are) and each pair comes both ways.

    Args:
        queries: (n, d) array-like, as for :func:`knn_join`.
        items: (m, d) array-like; the queries themselves if None.
        radius: in the units of the metric; inf for all pairs. Required. An array or column of n
            numbers is a radius for each query: j is a neighbour of i where it is nearer than
            ``radius[i]``, whatever the radius of j, so that pairs of one array joined with itself
            need not come both ways. All pairs within the largest are found on the way.
        metric: "euclidean", "manhattan" or "cosine" (1 - cosine similarity); of packed bits
            "hamming" or "jaccard", as for :func:`knn_join`.
        max_neighbors: of those within the radius the nearest so many of each query, at least 1,
            nearest first, ties by row; all of them if None.
        ids: (m,) what items are called in the result, as for :func:`knn_join`.
        query_ids: (n,) the same for queries, in :meth:`RadiusNeighbors.to_edges` and ``exclude``.
        exclude: pairs to be left out, as for :func:`knn_join`.
        within: a key a row, of which those of neighbours are equal, as for :func:`knn_join`.
        apart: a key a row, of which those of neighbours differ, as for :func:`knn_join`.
        num_threads: threads to use; all cores if None.
        progress: as for :func:`knn_join`.

    Returns:
        ``lims``, ``distances`` and ``indices``.

    Raises:
        TypeError: for arrays that do not hold real numbers, no radius, keys that are no integers or
            strings, or ids that are not of one kind.
        NotFiniteError: for NaN and infinity, as :func:`knn_join`.
        ValueError: for arrays that are not 2-D, different numbers of columns, a radius that is
            negative or NaN, radii that are not one a query, a ``max_neighbors`` below 1; keys, ids
            and pairs as :func:`knn_join`.

    Examples:
        >>> import numpy as np
        >>> from lshjoin import radius_join
        >>> items = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> lims, distances, indices = radius_join([[0.0, 0.0], [3.0, 3.0]], items, radius=2)
        >>> for query in range(2):
        ...     print(sorted(indices[lims[query] : lims[query + 1]].tolist()))
        [0, 2]
        [1]
        >>> radius_join(items, radius=9, max_neighbors=1, ids=[70, 71, 72]).to_edges()[:2]
        (array([70, 71, 72]), array([72, 72, 70]))
        >>> radius_join(items, radius=5, ids=["a", "b", "c"], exclude=[("a", "c")]).indices
        array(['c', 'b'], dtype=object)
        >>> radius_join(items, radius=2, within=["at", "de", "de"]).indices
        array([], dtype=int64)
        >>> radius_join(items, radius=[1.5, 5.0, 0.5]).to_edges()[:2]
        (array([0, 1]), array([2, 2]))
        >>> bits = np.packbits([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]], axis=1)
        >>> radius_join(bits, radius=2, metric="hamming").indices
        array([1, 0])
    """
    query_rows, item_rows = sides(queries, items, metric)
    radii = Radii(radius, len(item_rows if query_rows is None else query_rows))
    if max_neighbors is not None:
        metrics = get_args(Metric) + get_args(BinaryMetric)
        if metric not in metrics:  # knn_join has one more
            raise ValueError(f"metric must be one of {', '.join(metrics)}, not {metric}")
        nearest = knn_join(
            query_rows,
            item_rows,
            min(to_k(max_neighbors, "max_neighbors"), max(len(item_rows), 1)),
            metric=metric,
            ids=ids,
            query_ids=query_ids,
            exclude=exclude,
            within=within,
            apart=apart,
            recall=1.0,
            num_threads=num_threads,
            progress=progress,
        )
        return within_radii(nearest, radii)
    query_count = None if query_rows is None else len(query_rows)
    of_queries, of_items = side_ids(query_ids, ids, query_count, len(item_rows))
    joined = JoinedRows(len(item_rows), query_rows is None, metric, of_queries, of_items)
    pairs = None if exclude is None else excluded(exclude, joined, query_count)
    keys = side_keys(query_rows, item_rows, within=within, apart=apart)
    common: Any = {"metric": metric, **keys, "num_threads": num_threads}
    with reporter(progress, "radius_join") as on_progress:
        if radii.of_query is None:
            lims, distances, rows = engine.radius_join(
                query_rows, item_rows, radii.largest, **common, on_progress=on_progress
            )
        else:
            # Of all that are within the largest radius there may be more than memory holds.
            stream = engine.RadiusJoinBatches(
                query_rows, item_rows, radii.largest, **common, batch_size=BATCH
            )
            with closing(stream):
                dtype = np.result_type(item_rows.dtype, np.float32)
                lims, distances, rows = _collected(stream, radii, dtype, on_progress)
    found = RadiusNeighbors(lims, distances, joined.called(rows), joined)
    return found if pairs is None else found._only(~pairs.has(found._of_queries(), rows))


def _collected(
    stream: engine.RadiusJoinBatches,
    radii: Radii,
    dtype: np.dtype[Any],
    on_progress: OnProgress,
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[np.int64]]:
    """The pairs that are within the radius of their query, by query, then by item."""
    assert radii.of_query is not None
    none = np.empty(0, np.int64)
    kept: list[tuple[NDArray[Any], ...]] = [(none, none, np.empty(0, dtype))]
    while (batch := stream.next(on_progress)) is not None:
        near = radii.have(batch[0], batch[2])
        kept.append(tuple(column[near] for column in batch))
    left, rows, distances = (np.concatenate(column) for column in zip(*kept, strict=True))
    order = np.lexsort((rows, left))
    lims = np.searchsorted(left[order], np.arange(len(radii.of_query) + 1))
    return lims, distances[order], rows[order]


def within_radii(nearest: Neighbors, radii: Radii) -> RadiusNeighbors:
    """Those of the nearest that are within the radius of their query."""
    near = radii.have(np.arange(len(nearest.distances))[:, None], nearest.distances)
    lims = np.concatenate([[0], np.cumsum(near.sum(axis=1))])
    return RadiusNeighbors(lims, nearest.distances[near], nearest.indices[near], nearest._joined)


def radius_join_batches(
    queries: ArrayLike | None = None,
    items: ArrayLike | None = None,
    radius: Radius | None = None,
    *,
    metric: Metric | BinaryMetric = "euclidean",
    exclude: ArrayLike | Edges | None = None,
    within: RowKeys | None = None,
    apart: RowKeys | None = None,
    batch_size: SupportsIndex = BATCH,
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
        radius: in the units of the metric; inf for all pairs. Required. Or one for each query, as
            for :func:`radius_join`.
        metric: as for :func:`radius_join`.
        exclude: pairs of row numbers to be left out, as for :func:`knn_join`.
        within: a key a row, of which those of neighbours are equal, as for :func:`knn_join`.
        apart: a key a row, of which those of neighbours differ, as for :func:`knn_join`.
        batch_size: pairs a batch, at least 1; the last one may be smaller, and all of them where
            radii differ or pairs are left out.
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

    batch_size = operator.index(batch_size)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {short(batch_size)}")
    if batch_size >= 2**63:
        raise ValueError(f"batch_size must be below 2**63, not {short(batch_size)}")
    query_rows, item_rows = sides(queries, items, metric)
    query_count = None if query_rows is None else len(query_rows)
    radii = Radii(radius, len(item_rows) if query_count is None else query_count)
    left_out = None
    if exclude is not None:
        joined = JoinedRows(len(item_rows), query_rows is None, metric)
        left_out = excluded(exclude, joined, query_count)
    distance = pa.float64() if item_rows.dtype == np.float64 else pa.float32()
    types = {"query": pa.int64(), "item": pa.int64(), "distance": distance}
    schema = pa.schema([pa.field(*column, nullable=False) for column in types.items()])
    pairs = engine.RadiusJoinBatches(
        query_rows,
        item_rows,
        radii.largest,
        metric=metric,
        **side_keys(query_rows, item_rows, within=within, apart=apart),
        batch_size=batch_size,
        num_threads=num_threads,
    )
    batches = _record_batches(pairs, schema, radii, left_out, progress)
    # When the reader lets go of them, or else while the interpreter can still wait for threads.
    weakref.finalize(batches, pairs.close)
    return pa.RecordBatchReader.from_batches(schema, batches)


def _record_batches(
    pairs: engine.RadiusJoinBatches,
    schema: pa.Schema,
    radii: Radii,
    left_out: Excluded | None,
    progress: Progress,
) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    with reporter(progress, "radius_join_batches") as on_progress:
        while (columns := pairs.next(on_progress)) is not None:
            left, right, distance = columns
            if radii.of_query is not None or left_out is not None:
                kept = radii.have(left, distance)
                if left_out is not None:
                    kept &= ~left_out.has(left, right)
                left, right, distance = left[kept], right[kept], distance[kept]
            yield pa.record_batch([left, right, distance], schema)
