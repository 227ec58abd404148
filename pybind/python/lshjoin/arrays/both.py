"""Two results of the same queries as one: neighbours from here and from there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshjoin.arrays.neighbors import RadiusNeighbors

Nearest = tuple[NDArray[Any], NDArray[np.int64]]


def nearest_of_both(first: Nearest, second: Nearest) -> Nearest:
    """Distances and ids of as many of the nearest in both, nearest first, ties by id."""
    distances = np.concatenate([first[0], second[0]], axis=1)
    ids = np.concatenate([first[1], second[1]], axis=1)
    order = np.lexsort((ids, distances), axis=1)[:, : first[0].shape[1]]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(ids, order, axis=1)


def within_of_both(first: RadiusNeighbors, second: RadiusNeighbors) -> RadiusNeighbors:
    """All neighbours in both, of each query nearest first, ties by id."""
    queries = np.arange(len(first.lims) - 1)
    left = np.concatenate([np.repeat(queries, np.diff(each.lims)) for each in (first, second)])
    distances = np.concatenate([first.distances, second.distances])
    ids = np.concatenate([first.indices, second.indices])
    order = np.lexsort((ids, distances, left))
    return RadiusNeighbors(first.lims + second.lims, distances[order], ids[order])
