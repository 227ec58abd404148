"""Where queries and items of a k-NN join are compared: the plan, made on the driver from samples.

Items are cut into parts, one around each centroid of a coarse quantiser (Lu, Shen, Chen and Ooi
2012 cut both sides of a k-NN join so): an item goes to the part of its nearest centroid, a query to
those of its m nearest, its probes, and a sample tells the m that the recall needs. When that would
send queries to as many places, all of B is one part, salted into slices that every query goes to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lshjoin import engine
from lshjoin.arrays.knn import knn_join
from lshjoin.arrays.neighbors import NearestMetric
from lshjoin.base.plan import JoinPlan
from lshjoin.spark.rows import Size, block_bytes, threads
from lshjoin.spark.shuffle import Blocks, Cluster, Ints
from lshjoin.spark.sides import Side

if TYPE_CHECKING:
    from lshjoin._lshjoin import Matrix

# Rows of a side that a plan is made from, and those of them whose neighbours tell the recall.
_SAMPLE_ROWS, _TRIED_ROWS = 20_000, 2_000
# Centroids to a slice's worth of items, since parts are of uneven sizes; and at most.
_CENTROIDS_A_SLICE, _MOST_CENTROIDS = 2, 2_000


@dataclass(frozen=True)
class Plan:
    """Where queries and items are compared."""

    centroids: NDArray[np.float32] | None  #: (parts, dim); None where there is one part
    probes: int  #: parts that a query goes to, those of its nearest centroids
    recall: float  #: inside a block
    metric: NearestMetric
    blocks: Blocks

    @property
    def replicas(self) -> int:
        """Blocks that a query goes to, at most."""
        return self.probes * int(self.blocks.down.max())

    def of_queries(self, vectors: Matrix) -> Ints:
        """The parts (rows, probes) of queries."""
        if self.centroids is None:
            return np.zeros((len(vectors), 1), np.int64)
        return nearest_centroids(vectors, self.centroids, self.probes, self.metric)

    def of_items(self, vectors: Matrix) -> Ints:
        """The parts (rows, 1) of items."""
        if self.centroids is None:
            return np.zeros((len(vectors), 1), np.int64)
        return parts_of_items(vectors, self.centroids, self.metric)


def plan_parts(
    left: Side, right: Side, queries: Size, items: Size, recall: float, metric: NearestMetric
) -> Plan:
    """The plan for sides of these sizes."""
    cluster = Cluster.of(left.rows.sparkSession)
    capacity = max(block_bytes(left.rows) // max(left.row_bytes, right.row_bytes), 1)
    slices = math.ceil(items.rows / capacity)
    if slices > 1 and recall < 1 and queries.rows > 0:
        # What the parts miss and what a search inside them misses add up to what may be missed.
        share = math.sqrt(recall)
        sampled, tried = right.sample(items, _SAMPLE_ROWS), left.sample(queries, _SAMPLE_ROWS)
        count = min(_CENTROIDS_A_SLICE * slices, _MOST_CENTROIDS, len(sampled))
        centroids = engine.kmeans(sampled, count, seed=0, num_threads=threads())
        assigned = parts_of_items(sampled, centroids, metric)
        probes = probes_for(share, tried[:_TRIED_ROWS], sampled, assigned, centroids, metric)
        item_rows = _estimate(assigned, count, items)
        query_parts = nearest_centroids(tried, centroids, probes, metric)
        query_rows = _estimate(query_parts, count, queries) * probes
        down = np.ceil(item_rows / capacity).astype(np.int64).clip(1)
        replicas = (query_rows * down).sum() / queries.rows
        if replicas < slices:
            across = _across(query_rows, capacity, down, cluster)
            work = query_rows * down + item_rows * across
            blocks = Blocks.balanced(across, down, work, cluster)
            return Plan(centroids, probes, share, metric, blocks)
    down = np.array([slices])
    across = _across(np.array([queries.rows]), capacity, down, cluster)
    blocks = Blocks.balanced(across, down, np.ones(1), cluster)
    return Plan(None, 1, recall, metric, blocks)


def _across(query_rows: NDArray[np.float64], capacity: int, down: Ints, cluster: Cluster) -> Ints:
    """Slices of the queries: as many as fit, and enough for every slot to have a block."""
    across = np.ceil(query_rows / capacity).astype(np.int64).clip(1)
    return across * math.ceil(cluster.slots / (across * down).sum())


def parts_of_items(items: Matrix, centroids: NDArray[np.float32], metric: NearestMetric) -> Ints:
    """The parts (rows, 1) of items: those of their nearest centroids.

    By distance where inner products rank the items, of which the longest centroid has the largest
    with nearly all.
    """
    by = "euclidean" if metric == "inner_product" else metric
    return nearest_centroids(items, centroids, 1, by)


def nearest_centroids(
    rows: Matrix, centroids: NDArray[np.float32], probes: int, metric: NearestMetric
) -> Ints:
    """The centroids (rows, probes) that are nearest to each row."""
    return _exact(rows, centroids.astype(rows.dtype), probes, metric)


def probes_for(
    share: float,
    queries: Matrix,
    items: Matrix,
    assigned: Ints,
    centroids: NDArray[np.float32],
    metric: NearestMetric,
) -> int:
    """How many nearest centroids of a query lead to such a share of the nearest items.

    A sample's neighbours are farther than those among all rows, and so the more often elsewhere:
    the number errs towards too many. Items equal to the query, itself it may be, tell nothing.
    """
    nearest = _exact(queries, items, 2, metric)
    told = (nearest >= 0) & (items[nearest] != queries[:, None]).any(axis=2)
    order = nearest_centroids(queries, centroids, len(centroids), metric)
    ranks = np.argsort(order, axis=1)  # of each centroid
    found = np.take_along_axis(ranks, assigned[nearest, 0], axis=1)[told]
    if len(found) == 0:
        return 1
    return 1 + int(np.quantile(found, share, method="higher"))


def _exact(queries: ArrayLike, items: ArrayLike, k: int, metric: NearestMetric) -> Ints:
    return knn_join(
        queries,
        items,
        k,
        metric=metric,
        plan=JoinPlan.exact(),
        num_threads=threads(),
        progress=False,
    ).indices


def _estimate(parts: Ints, count: int, measured: Size) -> NDArray[np.float64]:
    """Rows of each part, by those of a sample, each in as many parts as it has columns."""
    found = np.bincount(parts.ravel(), minlength=count).astype(np.float64)
    return found * (measured.rows / max(parts.size, 1))
