"""How long a join out of core takes, by one of its first rows that goes the same way in memory."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lshjoin.arrays.neighbors import NearestMetric
from lshjoin.base.plan import JoinPlan
from lshjoin.files.plan import FilesPlan, plan_until
from lshjoin.files.sides import Sides
from lshjoin.index import Index

if TYPE_CHECKING:
    from lshjoin._lshjoin import Matrix

#: Rows that are joined, and bytes of them, at most.
_ROWS, _BYTES = 60_000, 128 << 20
#: To find the list of a row takes so much for each list, and for each value and list, where to
#: prepare and write the row takes 1 for each value.
_LIST, _LIST_VALUE = 0.03, 1.5e-4
#: Lists, at most, that an index has which is not for the nearest, and that a row is compared with
#: where there are more: unless neighbours are in all directions, which no sample tells.
_COMPARED = 4096
#: Seconds to write a byte of the index, or of rows that are put aside for it; and to write a pair
#: to the file of its chunk, and from there to that of all.
_WRITTEN, _PAIR = 1e-9, 2e-7
#: Within a radius, how long a query takes among half of the items: where it is less than this share
#: of what it takes among all, all pairs are compared.
_BY_LISTS = 0.7


class Search(NamedTuple):
    """What is asked for."""

    plan: JoinPlan
    k: int
    radius: float | None  #: all within it, in place of the k nearest
    metric: NearestMetric
    num_threads: int | None


@dataclass(frozen=True)
class _SampleJoin:
    """A join by an index that was made for it. Times are in seconds."""

    building: float  #: for each item
    planning: float  #: for each item
    joining: float  #: for each query
    lists: int
    by_lists: bool  #: not of all pairs, as far as the plan tells

    @classmethod
    def of(cls, items: Matrix, queries: Matrix | None, search: Search) -> _SampleJoin:
        options: Any = {"num_threads": search.num_threads, "progress": False}
        times = [time.perf_counter()]
        index = Index.build(items, metric=search.metric, **options)
        times.append(time.perf_counter())
        plan = _with_lists(search.plan, index.plan)
        if search.radius is None:
            plan = index.fixed_plan(search.k, queries=queries, plan=plan, **options)
        times.append(time.perf_counter())
        chunk = range(len(items))
        if search.radius is None:
            if queries is None:
                index.knn_of_chunk(chunk, search.k, plan=plan, **options)
            else:
                index.knn(queries, search.k, plan=plan, **options)
        elif queries is None:
            index.radius_of_chunk(chunk, search.radius, **options)
        else:
            index.radius(queries, search.radius, **options)
        times.append(time.perf_counter())
        building, planning, joining = np.diff(times)
        asked = len(items if queries is None else queries)
        return cls(
            building=building / len(items),
            planning=planning / len(items),
            joining=joining / asked,
            lists=_lists(index.plan),
            by_lists=plan != JoinPlan.exact(),
        )


def seconds_out_of_core(sides: Sides, plan: FilesPlan, search: Search) -> float:
    """What a join of the first rows takes, and as much more as there is to do.

    To bring a row to its list takes longer where there are more lists, and to join it, with the
    square root of the rows of a list or, where all pairs are compared, with the items.
    """
    most = min(_ROWS, max(_BYTES // sides.items.row_bytes, 1))
    start = time.perf_counter()
    items = sides.items.read(0, min(most, plan.items))
    of_byte = (time.perf_counter() - start) / items.nbytes
    queries = None if sides.queries is None else sides.queries.read(0, min(most, plan.queries))
    sample = _SampleJoin.of(items, queries, search)
    by_lists = sample.by_lists
    if search.radius is not None:
        half = _SampleJoin.of(items[::2], queries, search)
        by_lists = half.joining > _BY_LISTS * sample.joining
    usual = plan_until(0.9, sides.shape(), 0)
    is_exact = plan.join == JoinPlan.exact()
    lists = min(_lists(usual), _COMPARED) if is_exact else _lists(plan.join)

    def of_item(lists: int) -> float:
        return plan.dim + min(lists, _COMPARED) * (_LIST + _LIST_VALUE * plan.dim)

    more = plan.items / len(items)
    build = sample.building * of_item(lists) / of_item(sample.lists)
    join = sample.joining * (math.sqrt(more * sample.lists / lists) if by_lists else more)
    read = [size * times for size, times in (plan.reads[side] for side in sides.all())]
    written = [size for what, size in plan.writes.items() if what != "pairs"]
    return (
        of_byte * sum(read)
        + _WRITTEN * sum(written)
        + plan.items * (build + sample.planning)
        + plan.queries * (join + _PAIR * (plan.k or 0))
    )


def _lists(plan: JoinPlan) -> int:
    return int(json.loads(plan.to_json())["lists"])


def _with_lists(plan: JoinPlan, other: JoinPlan) -> JoinPlan:
    """A plan with the lists of another, if it has some."""
    if plan == JoinPlan.exact():
        return plan
    numbers = json.loads(other.to_json())
    of_lists = {name: numbers[name] for name in ("seed", "lists")}
    return JoinPlan.from_json(json.dumps(json.loads(plan.to_json()) | of_lists))
