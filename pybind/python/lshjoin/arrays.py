"""Joins of NumPy arrays."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lshjoin import _lshjoin
from lshjoin.progress import Progress, reporter
from lshjoin.vectors import array_matrix, same_dtype

if TYPE_CHECKING:
    from lshjoin._lshjoin import Matrix

Metric = Literal["euclidean", "manhattan", "cosine"]


class Neighbors(NamedTuple):
    """The k nearest of each query, nearest first."""

    distances: NDArray[Any]  #: (queries, k), float32 or float64; inf where there is no neighbour
    indices: NDArray[np.int64]  #: (queries, k), rows of items; -1 where there is no neighbour


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
    metric: Metric = "euclidean",
    num_threads: int | None = None,
    progress: Progress = None,
) -> Neighbors:
    """For every row of ``queries``, the ``k`` nearest rows of ``items``.

    ``items`` alone is the self-join, in which a row is not its own neighbour (its exact duplicates
    are).

    Args:
        queries: (n, d) array-like, one vector a row. float16, float32 and float64 are used as they
            are, without a copy when C-contiguous; 8- and 16-bit integers are widened to float32,
            other integers to float64.
        items: (m, d) array-like.
        k: neighbours a query, at least 1. Queries with fewer are padded with inf and -1.
        metric: "euclidean", "manhattan" or "cosine" (1 - cosine similarity).
        num_threads: threads to use; all cores if None.
        progress: True for a tqdm bar, False for none, or a function of (done, total). None, the
            default, shows a bar on terminals after a second, if tqdm is installed.

    Returns:
        ``distances`` and ``indices``, both (n, k), nearest first, ties by index. Distances are
        float32 for float16 and float32 vectors, else float64.

    Raises:
        TypeError: for arrays that do not hold real numbers.
        ValueError: for NaN or infinity, arrays that are not 2-D, different numbers of columns,
            ``k`` below 1.

    Examples:
        >>> import numpy as np
        >>> from lshjoin import knn_join
        >>> items = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> distances, indices = knn_join(items=items, k=2)
        >>> indices
        array([[2, 1],
               [2, 0],
               [0, 1]])
        >>> knn_join([[3, 3]], items, k=1).distances
        array([[1.]])
    """
    k = operator.index(k)
    if k < 1:
        raise ValueError(f"The number of nearest neighbors cannot be less than 1 (k is {k})")
    query_rows, item_rows = _sides(queries, items)
    # The engine need not write more columns than there are items; NumPy pads the rest.
    columns = min(k, max(len(item_rows), 1))
    with reporter(progress, "knn_join") as on_progress:
        distances, indices = _lshjoin.knn_join(
            query_rows,
            item_rows,
            columns,
            metric=metric,
            num_threads=num_threads,
            on_progress=on_progress,
        )
    if columns == k:
        return Neighbors(distances, indices)
    padding = ((0, 0), (0, k - columns))
    return Neighbors(
        np.pad(distances, padding, constant_values=math.inf),
        np.pad(indices, padding, constant_values=-1),
    )


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

    ``items`` alone is the self-join, in which a row is not its own neighbour (its exact duplicates
    are) and each pair comes both ways.

    Args:
        queries: (n, d) array-like, as for :func:`knn_join`.
        items: (m, d) array-like.
        radius: in the units of the metric; inf for all pairs. Required.
        metric: "euclidean", "manhattan" or "cosine" (1 - cosine similarity).
        num_threads: threads to use; all cores if None.
        progress: as for :func:`knn_join`.

    Returns:
        ``lims``, ``distances`` and ``indices``.

    Raises:
        TypeError: for arrays that do not hold real numbers, or no radius.
        ValueError: for NaN or infinity, arrays that are not 2-D, different numbers of columns, a
            radius that is negative or NaN.

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
    if radius is None:
        raise TypeError("radius_join needs a radius")
    radius = float(radius)
    if not radius >= 0:
        raise ValueError(f"radius must not be negative or NaN, but is {radius}")
    query_rows, item_rows = _sides(queries, items)
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


def _sides(queries: ArrayLike | None, items: ArrayLike | None) -> tuple[Matrix | None, Matrix]:
    if items is None:
        raise TypeError("items are missing; for a self-join pass items=x alone")
    item_rows = array_matrix(items, "items")
    if queries is None:
        return None, item_rows
    query_rows = array_matrix(queries, "queries")
    if query_rows.shape[1] != item_rows.shape[1]:
        raise ValueError(
            f"queries have {query_rows.shape[1]} columns but items have {item_rows.shape[1]}"
        )
    return same_dtype(query_rows, item_rows)
