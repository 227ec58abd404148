"""Where queries and items of a k-NN join are compared: the plan, made on the driver from samples.

The lists of the engine's coarse quantiser are cut into parts, one to a task. Rows of one side go
home, to the part of their nearest list; those of the other one go, as well, wherever they probe a
list (``ListRouter`` in the engine: a sample tells how far rows have to probe for the recall). Where
items probe, each query meets all its neighbours in one place, and nothing has to be merged. Of a
data frame that is joined with itself each row goes once to each of its parts. When rows would go to
as many places as without parts, all of B is one part, salted into slices that every query goes to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lshjoin.arrays.neighbors import NearestMetric
from lshjoin.engine import ListRouter
from lshjoin.spark.rows import Size, block_bytes, threads
from lshjoin.spark.shuffle import Blocks, Cluster, Ints, Routes
from lshjoin.spark.sides import Side

if TYPE_CHECKING:
    from lshjoin._lshjoin import Matrix

Which = Literal["queries", "items"]

# Rows of a side that a plan is made from, and parts, at most.
_SAMPLE_ROWS, _MOST_PARTS = 40_000, 4_000
# Items of a part for each neighbour that is asked for, at least.
_ROWS_A_NEIGHBOR = 4
# How often more parts are tried because one has too many rows.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Search:
    """What every left row wants of the right rows."""

    k: int
    recall: float  #: the share of the true neighbours
    metric: NearestMetric = "euclidean"


@dataclass(frozen=True)
class Plan:
    """Where queries and items are compared."""

    router: ListRouter | None  #: None where there is one part
    probing: Which  #: the side whose rows go to all parts that they probe; the others go home
    itself: bool  #: whether the rows of one data frame are both sides, and go once
    recall: float  #: inside a block
    blocks: Blocks

    @property
    def merges(self) -> bool:
        """Whether neighbours of a query come out of several blocks."""
        return self.probing == "queries" or bool((self.blocks.down > 1).any())

    def routes(self, vectors: Matrix, which: Which) -> Routes:
        """The parts of rows of a side."""
        if self.router is None:
            return Routes.of(np.zeros((len(vectors), 1), np.int64))
        if which == self.probing:
            return Routes(len(vectors), *self.router.probes(vectors, which, num_threads=threads()))
        homes = self.router.homes(vectors, which, num_threads=threads())
        return Routes.of(homes[:, None])

    def blocks_of(self, vectors: Matrix, hashes: Ints, which: Which) -> pa.ListArray:
        """The blocks of rows of a side, by their vectors and the hashes of their content."""
        routes = self.routes(vectors, which)
        if self.itself:
            return self.blocks.of_itself(routes)
        place = self.blocks.of_left if which == "queries" else self.blocks.of_right
        return place(routes, hashes)


def plan_parts(left: Side, right: Side, queries: Size, items: Size, search: Search) -> Plan:
    """The plan for sides of these sizes."""
    cluster = Cluster.of(left.rows.sparkSession)
    capacity = max(block_bytes(left.rows) // max(left.row_bytes, right.row_bytes), 1)
    slices = math.ceil(items.rows / capacity)
    down, sliced = np.array([slices]), np.array([queries.rows])
    across = _across(sliced, capacity, down, cluster)
    blocks = Blocks.balanced(across, down, np.ones(1), cluster)
    all_pairs = Plan(None, "items", False, search.recall, blocks)
    copies = queries.rows * slices + items.rows * int(across[0])
    if search.recall == 1 or min(queries.rows, items.rows) == 0 or slices * across[0] == 1:
        return all_pairs
    itself = left.rows is right.rows
    probing: Which = "items" if 2 * queries.rows >= items.rows else "queries"
    # What the parts miss and what a search inside them misses add up to what may be missed.
    share = math.sqrt(search.recall)
    of_items = right.sample(items, _SAMPLE_ROWS)
    of_queries = of_items if itself else left.sample(queries, _SAMPLE_ROWS)
    if min(len(of_items), len(of_queries)) == 0:
        return all_pairs
    # So many neighbours in the sample are as near as k among all rows.
    k = max(round(search.k * len(of_items) / items.rows), 1)
    parts = max(slices, cluster.slots)
    for _ in range(_ATTEMPTS):
        router = ListRouter.learn(
            None if itself else of_queries,
            of_items,
            min(parts, _MOST_PARTS, len(of_items)),
            metric=search.metric,
            k=k,
            recall=share,
            probing=probing,
            num_threads=threads(),
        )
        plan = Plan(router, probing, itself, share, all_pairs.blocks)
        item_rows = _estimate(plan.routes(of_items, "items"), router.parts, items)
        if item_rows.max() <= capacity:
            break
        parts = math.ceil(1.1 * router.parts * item_rows.max() / capacity)
    if item_rows.min() < _ROWS_A_NEIGHBOR * search.k:
        return all_pairs  # a query might find fewer than k
    down = np.ceil(item_rows / capacity).astype(np.int64).clip(1)
    if itself and (down == 1).all():
        across = down
        if item_rows.sum() >= copies:
            return all_pairs
        work = item_rows
    else:
        plan = replace(plan, itself=False)
        query_rows = _estimate(plan.routes(of_queries, "queries"), router.parts, queries)
        across = _across(query_rows, capacity, down, cluster)
        if query_rows @ down + item_rows @ across >= copies:
            return all_pairs
        work = query_rows * down + item_rows * across
    return replace(plan, blocks=Blocks.balanced(across, down, work, cluster))


def _across(query_rows: NDArray[np.float64], capacity: int, down: Ints, cluster: Cluster) -> Ints:
    """Slices of the queries: as many as fit, and enough for every slot to have a block."""
    across = np.ceil(query_rows / capacity).astype(np.int64).clip(1)
    return across * math.ceil(cluster.slots / (across * down).sum())


def _estimate(routes: Routes, parts: int, measured: Size) -> NDArray[np.float64]:
    """Rows of each part, by those of a sample."""
    found = np.bincount(routes.part, minlength=parts).astype(np.float64)
    return found * (measured.rows / routes.rows)
