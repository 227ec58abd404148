"""Where queries and items of a k-NN join are compared: the plan, made on the driver from samples.

The lists of the engine's coarse quantiser are cut into parts, one to a task. Rows of one side go
home, to the part of their nearest list; those of the other one go, as well, wherever they probe a
list (``ListRouter`` in the engine: a sample tells how far rows have to probe for the recall). Where
items probe, each query meets all its neighbours in one place, and nothing has to be merged. Of a
data frame that is joined with itself each row goes once to each of its parts. When rows would go to
as many places as without parts, all of B is one part, salted into slices that every query goes to.

Where rows are kept apart, neighbours are further than the nearest rows of all: lists are learnt for
more neighbours, until those of other keys meet in the sample as often as they have to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lshjoin.arrays.knn import knn_join
from lshjoin.arrays.neighbors import NearestMetric
from lshjoin.engine import ListRouter
from lshjoin.spark.rows import HASH, Size, block_bytes, threads
from lshjoin.spark.shuffle import Blocks, Cluster, Ints, Routes
from lshjoin.spark.sides import Sample, Side

if TYPE_CHECKING:
    from lshjoin._lshjoin import Matrix

Which = Literal["queries", "items"]

#: Rows of a side that a plan is made from, at most.
SAMPLE_ROWS = 40_000
# Parts, at most.
_MOST_PARTS = 4_000
# Items of a part for each neighbour that is asked for, at least.
_ROWS_A_NEIGHBOR = 4
# How often more parts are tried because one has too many rows.
_ATTEMPTS = 3
# Sampled queries whose neighbours of other keys are looked at, and by how much more neighbours
# lists are learnt when these do not meet.
_QUERIES_APART, _MORE_NEIGHBORS = 1_000, 4


@dataclass(frozen=True)
class Search:
    """What every left row wants of the right rows."""

    k: int
    recall: float  #: the share of the true neighbours
    metric: NearestMetric = "euclidean"
    within: str | None = None  #: the column of keys that are equal among neighbours
    apart: str | None = None  #: that of keys which differ

    @property
    def keys(self) -> list[str]:
        """The columns of keys."""
        return [name for name in dict.fromkeys((self.within, self.apart)) if name is not None]


class Routing(Protocol):
    """To which parts rows go."""

    @property
    def probing(self) -> Which:
        """The side whose rows go to all parts that they probe; the others go home."""

    def routes(self, vectors: Matrix, rows: pa.Table, which: Which) -> Routes:
        """The parts of rows of a side, by their vectors or by what else they hold."""


@dataclass(frozen=True)
class OnePart:
    """All rows are in one part."""

    probing: Which = "items"

    def routes(self, vectors: Matrix, rows: pa.Table, which: Which) -> Routes:
        return Routes.of(np.zeros((len(vectors), 1), np.int64))


@dataclass(frozen=True)
class ByLists:
    """By the lists of a coarse quantiser."""

    router: ListRouter
    probing: Which

    def routes(self, vectors: Matrix, rows: pa.Table, which: Which) -> Routes:
        if which == self.probing:
            return Routes(len(vectors), *self.router.probes(vectors, which, num_threads=threads()))
        homes = self.router.homes(vectors, which, num_threads=threads())
        return Routes.of(homes[:, None])


@dataclass(frozen=True)
class Sampled:
    """So many queries and items, of which these are samples."""

    queries: Sample | None  #: None where the items are joined with themselves
    items: Sample
    rows: tuple[int, int]

    def of(self, which: Which) -> Sample:
        """The sample of a side."""
        return self.items if self.queries is None or which == "items" else self.queries

    def in_parts(self, routing: ByLists, which: Which) -> NDArray[np.float64]:
        """Rows of each part, by those of the sample."""
        sample, rows = self.of(which), self.rows[get_args(Which).index(which)]
        routes = routing.routes(sample.vectors, sample.keys, which)
        found = np.bincount(routes.part, minlength=routing.router.parts).astype(np.float64)
        return found * (rows / len(sample))


@dataclass(frozen=True)
class Parts:
    """The parts of a join, and what there is to do in each."""

    routing: Routing
    itself: bool  #: whether the rows of one data frame are both sides, and go once
    across: Ints  #: (parts,) slices of the queries
    down: Ints  #: (parts,) slices of the items
    work: NDArray[np.float64]  #: (parts,) rows that go there


@dataclass(frozen=True)
class Plan:
    """Where queries and items are compared."""

    routing: Routing
    itself: bool  #: whether the rows of one data frame are both sides, and go once
    recall: float  #: inside a block
    blocks: Blocks
    rows: tuple[int, int]  #: of the queries and the items

    @classmethod
    def of(cls, parts: Parts, recall: float, rows: tuple[int, int], cluster: Cluster) -> Plan:
        """Of parts whose blocks are spread over a cluster."""
        blocks = Blocks.balanced(parts.across, parts.down, parts.work, cluster)
        return cls(parts.routing, parts.itself, recall, blocks, rows)

    @property
    def merges(self) -> bool:
        """Whether neighbours of a query come out of several blocks."""
        return self.routing.probing == "queries" or bool((self.blocks.down > 1).any())

    def blocks_of(self, vectors: Matrix, rows: pa.Table, which: Which) -> pa.ListArray:
        """The blocks of rows of a side, which have the hashes of their content."""
        routes = self.routing.routes(vectors, rows, which)
        if self.itself:
            return self.blocks.of_itself(routes)
        place = self.blocks.of_left if which == "queries" else self.blocks.of_right
        return place(routes, rows.column(HASH).to_numpy())


def plan_parts(left: Side, right: Side, queries: Size, items: Size, search: Search) -> Plan:
    """The plan for sides of these sizes."""
    cluster = Cluster.of(left.rows.sparkSession)
    rows = queries.rows, items.rows
    capacity = rows_of_block(left, right)
    whole = all_pairs(*rows, capacity, cluster.slots)
    if search.recall == 1 or min(rows) == 0 or whole.across[0] * whole.down[0] == 1:
        return Plan.of(whole, search.recall, rows, cluster)
    itself = left.rows is right.rows
    of_items = right.sample(items, SAMPLE_ROWS, *search.keys)
    of_queries = None if itself else left.sample(queries, SAMPLE_ROWS, *search.keys)
    sampled = Sampled(of_queries, of_items, rows)
    parts = by_lists(sampled, search, capacity, cluster.slots, once=itself)
    if parts is None:
        return Plan.of(whole, search.recall, rows, cluster)
    return Plan.of(parts, recall_of_each(search), rows, cluster)


def recall_of_each(search: Search) -> float:
    """What parts miss and what a search inside them misses add up to what may be missed."""
    return math.sqrt(search.recall)


def rows_of_block(left: Side, right: Side) -> int:
    """The rows of a side that a block may hold."""
    return max(block_bytes(left.rows) // max(left.row_bytes, right.row_bytes, 1), 1)


def all_pairs(queries: int, items: int, capacity: int, slots: int) -> Parts:
    """One part, in which every query meets all items."""
    down = np.array([math.ceil(items / capacity)]).clip(1)
    across = _across(np.array([queries]), capacity, down, slots)
    return Parts(OnePart(), False, across, down, np.array([queries * down[0] + items * across[0]]))


def by_lists(
    sampled: Sampled, search: Search, capacity: int, slots: int, *, once: bool
) -> Parts | None:
    """Parts of neighbouring lists; of rows that go ``once``, if all parts fit.

    None where rows would go to as many places as without parts, or a query might find too few.
    """
    if min(len(sampled.of("queries")), len(sampled.items)) == 0:
        return None
    whole = all_pairs(*sampled.rows, capacity, slots)
    copies = whole.work[0]
    parts = max(int(whole.down[0]), slots)
    if parts == 1:
        return None
    # So many neighbours in the sample are as near as k among all rows.
    k = max(round(search.k * len(sampled.items) / sampled.rows[1]), 1)
    learnt = _learnt(sampled, search, k, parts, capacity)
    if learnt is None:
        return None
    routing, item_rows = learnt
    if item_rows.min() < _ROWS_A_NEIGHBOR * search.k:
        return None
    down = np.ceil(item_rows / capacity).astype(np.int64).clip(1)
    if once and (down == 1).all():
        found = Parts(routing, True, down, down, item_rows)
    else:
        query_rows = sampled.in_parts(routing, "queries")
        across = _across(query_rows, capacity, down, slots)
        found = Parts(routing, False, across, down, query_rows * down + item_rows * across)
    return found if found.work.sum() < copies else None


def _learnt(
    sampled: Sampled, search: Search, k: int, parts: int, capacity: int
) -> tuple[ByLists, NDArray[np.float64]] | None:
    """Lists by which neighbours meet, and the items of each part: hardly more than fit."""
    probing: Which = "items" if 2 * sampled.rows[0] >= sampled.rows[1] else "queries"
    share, near = recall_of_each(search), k
    while near < len(sampled.items):
        for _ in range(_ATTEMPTS):
            router = ListRouter.learn(
                None if sampled.queries is None else sampled.queries.vectors,
                sampled.items.vectors,
                min(parts, _MOST_PARTS, len(sampled.items)),
                metric=search.metric,
                k=near,
                recall=share,
                probing=probing,
                num_threads=threads(),
            )
            routing = ByLists(router, probing)
            item_rows = sampled.in_parts(routing, "items")
            if item_rows.max() <= capacity:
                break
            parts = math.ceil(1.1 * router.parts * item_rows.max() / capacity)
        if search.apart is None or _met_apart(routing, sampled, k, search) >= share:
            return routing, item_rows
        near *= _MORE_NEIGHBORS
    return None


def _met_apart(routing: ByLists, sampled: Sampled, k: int, search: Search) -> float:
    """The share of neighbours of other keys which come to where their queries are."""
    items, queries = sampled.items, sampled.of("queries")
    queries = queries.take(np.arange(0, len(queries), -(-len(queries) // _QUERIES_APART)))
    near = knn_join(
        queries.vectors,
        items.vectors,
        k,
        metric=search.metric,
        recall=1.0,
        num_threads=threads(),
        progress=False,
        **keys_of(queries.keys, items.keys, replace(search, within=None)),
    ).indices
    query, place = np.nonzero(near >= 0)
    if len(query) == 0:
        return 1.0
    of_queries = routing.routes(queries.vectors, queries.keys, "queries"), query
    of_items = routing.routes(items.vectors, items.keys, "items"), near[query, place]
    probing, home = of_items, of_queries
    if routing.probing == "queries":
        probing, home = home, probing
    (probes, rows), (homes, at) = probing, home
    wanted = rows * routing.router.parts + homes.part[at]
    return float(np.isin(wanted, probes.row * routing.router.parts + probes.part).mean())


def keys_of(queries: pa.Table, items: pa.Table, search: Search) -> dict[str, Any]:
    """The keys of rows as the engine's joins take them."""
    columns = {"within": search.within, "apart": search.apart}
    return {
        name: (queries.column(column), items.column(column))
        for name, column in columns.items()
        if column is not None
    }


def _across(query_rows: NDArray[np.number], capacity: int, down: Ints, slots: int) -> Ints:
    """Slices of the queries: as many as fit, and enough for every slot to have a block."""
    across = np.ceil(query_rows / capacity).astype(np.int64).clip(1)
    return across * math.ceil(slots / (across * down).sum())
