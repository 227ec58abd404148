"""Joins within groups of rows: the rows of a group travel together.

Small groups are spread over parts by a hash of their key, and need not be known one by one: the
engine compares no rows of two groups. Those that would fill a part unevenly are counted, and each
has a part of its own. A group that is too large for a block, or for one of the tasks that run at a
time, is cut into parts by lists of its own, as all rows are where there are no groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import functions as F
from pyspark.sql.types import AtomicType, FractionalType

from lshjoin.spark.parts import (
    SAMPLE_ROWS,
    OnePart,
    Parts,
    Plan,
    Routing,
    Sampled,
    Search,
    Which,
    all_pairs,
    by_lists,
    recall_of_each,
    rows_of_block,
)
from lshjoin.spark.rows import GROUP, Size, collect, quoted
from lshjoin.spark.shuffle import Cluster, Ints, Routes
from lshjoin.spark.sides import Sample, Side
from lshjoin.spark.vectors import check_exists

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from lshjoin._lshjoin import Matrix

# A group of more rows than one in so many of what a part may hold has a part of its own.
_SHARE = 4
# Rows of a group that a task takes no long time for.
_ROWS_OF_TASK = 50_000
# Rows of all groups that their lists are learnt from, at most.
_SAMPLED = 5 * SAMPLE_ROWS


@dataclass(frozen=True)
class ByGroups:
    """By keys: a part for each of some groups, or several, and some for the rest of them."""

    column: str
    keys: pa.Array  #: of the groups that have parts of their own
    of_group: list[Routing]  #: for each of these how its rows go to its parts
    first: Ints  #: for each of these its first part
    rest: int  #: parts of all others, which are the first ones
    probing: Which

    def routes(self, vectors: Matrix, rows: pa.Table, which: Which) -> Routes:
        """As the keys say and their hashes, and in a large group the vectors."""
        own = np.full(len(rows), -1)
        if len(self.keys):
            own = pc.index_in(rows.column(self.column), self.keys).fill_null(-1).to_numpy()
        others = np.flatnonzero(own < 0)
        row, part = [others], [rows.column(GROUP).to_numpy()[others] % self.rest]
        for group in np.unique(own[own >= 0]):
            of_group = np.flatnonzero(own == group)
            found = self.of_group[group].routes(
                vectors[of_group], rows.take(pa.array(of_group)), which
            )
            row.append(of_group[found.row])
            part.append(self.first[group] + found.part)
        order = np.argsort(np.concatenate(row), kind="stable")
        return Routes(len(vectors), np.concatenate(row)[order], np.concatenate(part)[order])


def check_keys(column: str, *datasets: DataFrame) -> None:
    """Refuses columns that hold no keys, or each keys of another type."""
    for dataset in datasets:
        check_exists(dataset, column)
    types = [dataset.schema[column].dataType for dataset in datasets]
    for of_keys in types:
        if not isinstance(of_keys, AtomicType) or isinstance(of_keys, FractionalType):
            raise TypeError(
                f"Column {column} must hold keys, which are integers, strings or the like, "
                f"but was actually {of_keys.simpleString()}."
            )
    if any(of_keys != types[0] for of_keys in types):
        raise TypeError(
            f"Column {column} must be of one type on both sides, but was actually "
            f"{' and '.join(of_keys.simpleString() for of_keys in types)}; cast one of them."
        )


def in_groups(dataset: DataFrame, within: str | None) -> DataFrame:
    """Without the rows that are in none."""
    return dataset if within is None else dataset.where(F.isnotnull(quoted(within)))


def plan_groups(left: Side, right: Side, queries: Size, items: Size, search: Search) -> Plan:
    """The plan for sides of these sizes; see :func:`plan_parts`."""
    assert search.within is not None
    cluster = Cluster.of(left.rows.sparkSession)
    itself = left.rows is right.rows
    capacity = rows_of_block(left, right)
    most = min(capacity, max(math.ceil(items.rows / cluster.slots), _ROWS_OF_TASK))
    sides = [left.rows] if itself else [left.rows, right.rows]
    keys, counts = _groups_of_more(sides, search.within, most // _SHARE)
    of_queries, of_items = counts[0], counts[-1]
    large = np.flatnonzero((of_items > most) | (of_queries > capacity))
    some_items = _samples(right, keys, of_items, large, search)
    some_queries = {} if itself else _samples(left, keys, of_queries, large, search)
    of_group, by_own_lists = [], False
    for group, rows in enumerate(zip(of_queries.tolist(), of_items.tolist(), strict=True)):
        slots, found = 1, None
        if group in large:
            slots = max(round(cluster.slots * rows[1] / items.rows), 1)
        if group in some_items:
            sampled = Sampled(some_queries.get(group), some_items[group], rows)
            found = by_lists(sampled, search, capacity, slots, once=False)
            by_own_lists |= found is not None
        of_group.append(found or all_pairs(*rows, capacity, slots))
    rest = _rest(queries.rows - int(of_queries.sum()), items.rows - int(of_items.sum()), most)
    parts = _together(search.within, keys, of_group, rest, itself)
    recall = recall_of_each(search) if by_own_lists else search.recall
    return Plan.of(parts, recall, (queries.rows, items.rows), cluster)


def group_grids(side: Side, column: str, rows: int, most: int) -> Parts:
    """Parts for the pairs of so many rows within groups, of which slices have at most so many."""
    keys, (counts,) = _groups_of_more([side.rows], column, most // _SHARE)
    of_group = []
    for count in counts.tolist():
        slices = np.array([math.ceil(count / most)])
        of_group.append(Parts(OnePart(), False, slices, slices, np.array([count * slices[0]])))
    rest = rows - int(counts.sum())
    return _together(column, keys, of_group, _rest(rest, rest, most), itself=False)


def _groups_of_more(sides: list[DataFrame], column: str, rows: int) -> tuple[pa.Array, list[Ints]]:
    """The keys of groups of more rows than that in a side, and how many each side has."""
    names = [f"rows{place}" for place in range(len(sides))]
    ones = [
        side.select(
            F.col(quoted(column)).alias("key"),
            *(F.lit(int(name == own)).alias(name) for name in names),
        )
        for own, side in zip(names, sides, strict=True)
    ]
    counted = reduce(lambda one, other: one.union(other), ones).groupBy("key")
    sums = counted.agg(*(F.sum(name).alias(name) for name in names))
    found = collect(sums.where(" OR ".join(f"{name} > {rows}" for name in names)))
    if found is None:
        return pa.array([], pa.int64()), [np.empty(0, np.int64)] * len(sides)
    keys = found.column("key").combine_chunks()
    return keys, [found.column(name).to_numpy() for name in names]


def _samples(
    side: Side, keys: pa.Array, rows: Ints, groups: Ints, search: Search
) -> dict[int, Sample]:
    """Some rows of each of these groups, by one job for all; where lists are to be learnt."""
    if len(groups) == 0 or search.recall == 1:
        return {}
    assert search.within is not None
    most = min(SAMPLE_ROWS, _SAMPLED // len(groups))
    share = F.when(F.lit(False), 0.0)
    for group in groups.tolist():
        is_of_group = F.col(quoted(search.within)) == F.lit(keys[group].as_py())
        share = share.when(is_of_group, most / max(int(rows[group]), 1))
    some = side.rows.where(F.rand(0) < share.otherwise(0.0))
    found = replace(side, rows=some).collected(*search.keys)
    if len(found) == 0:
        return dict.fromkeys(groups.tolist(), found)
    own = pc.index_in(found.keys.column(search.within), keys).to_numpy()
    return {group: found.take(np.flatnonzero(own == group)) for group in groups.tolist()}


def _rest(queries: int, items: int, most: int) -> Parts:
    """Parts for groups of few rows each, by their hashes."""
    parts = max(math.ceil(_SHARE * max(queries, items) / most), 1)
    one = np.ones(parts, np.int64)
    return Parts(OnePart(), True, one, one, np.full(parts, (queries + items) / parts))


def _together(
    column: str, keys: pa.Array, of_group: list[Parts], rest: Parts, itself: bool
) -> Parts:
    """The parts of all groups, those of the rest first."""
    every = [rest, *of_group]
    across, down, work = (
        np.concatenate([getattr(parts, name) for parts in every])
        for name in ("across", "down", "work")
    )
    ends = np.cumsum([len(parts.down) for parts in every])
    probing: Which = "items"
    if any(parts.routing.probing == "queries" for parts in of_group):
        probing = "queries"
    routing = ByGroups(
        column, keys, [parts.routing for parts in of_group], ends[:-1], len(rest.down), probing
    )
    once = itself and all(
        isinstance(parts.routing, OnePart) and (parts.across * parts.down == 1).all()
        for parts in every
    )
    return Parts(routing, once, across, down, work)
