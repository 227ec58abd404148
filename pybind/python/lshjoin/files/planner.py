"""What a join of files would do, and how long it would take: known before it starts."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any, SupportsIndex, cast

import numpy as np

from lshjoin.arrays.knn import knn_join, plan_knn_join
from lshjoin.arrays.neighbors import BinaryMetric, NearestMetric
from lshjoin.base.checks import to_bytes, to_k, to_natural, to_recall
from lshjoin.base.places import Filesystem
from lshjoin.base.plan import JoinPlan
from lshjoin.files.groups import Counts
from lshjoin.files.keys import KeyColumns
from lshjoin.files.plan import FilesPlan, plan_until
from lshjoin.files.sample_join import Search, seconds_out_of_core
from lshjoin.files.sides import Sides
from lshjoin.files.sources import Source

#: Rows that are joined to tell how long a join in memory will take, and the power of the number of
#: items by which a query takes longer: a join by lists grows with the 1.35th power of its rows.
_SAMPLE, _GROWTH = 30_000, 0.35


def plan_knn_join_files(
    queries: Source | None = None,
    items: Source | None = None,
    k: SupportsIndex = 10,
    *,
    column: str | None = None,
    id_column: str | None = None,
    filesystem: Filesystem | None = None,
    metric: NearestMetric | BinaryMetric = "euclidean",
    within: str | None = None,
    apart: str | None = None,
    recall: float = 0.95,
    seed: SupportsIndex = 0,
    memory_limit: int | str | None = None,
) -> FilesPlan:
    """What :func:`knn_join_files` would do for the same arguments.

    The time it gives is that of reading and joining the first rows, here and now on all cores, and
    of as much more as there is to do. Out of core, up to 60,000 rows are joined the way that all
    will go. In memory it is a guess, good for "minutes" or "hours": proportional to the pairs for
    the exact plan, to the queries and the 0.35th power of the items for others.

    Examples:
        >>> import numpy as np
        >>> from lshjoin import plan_knn_join_files
        >>> np.save("items.npy", np.zeros((1000, 64), np.float32))
        >>> print(plan_knn_join_files("items.npy", memory_limit="1GiB"))  # doctest: +ELLIPSIS
        exact...
        rows    1,000 queries, 1,000 items of 64 dimensions, in memory
        memory  203 MB of 1.07 GB: Python 201 MB, vectors 512 kB, codes 160 kB, neighbours 528 kB
        reads   items 256 kB
        writes  pairs 200 kB
        time    about ... seconds
    """
    k, recall, seed = to_k(k), to_recall(recall), to_natural("seed", seed)
    keys = KeyColumns(within, apart)
    sides = Sides.open(queries, items, column, id_column, filesystem, keys, metric=metric)
    join = plan_until(recall, sides.shape(), seed)
    plan = sides.files_plan(join, k, to_bytes(memory_limit))
    if not plan.out_of_core:
        join = plan_knn_join(
            *sides.vectors(), k=k, metric=metric, **sides.row_keys(), recall=recall, seed=seed
        )
        plan = dataclasses.replace(plan, join=join)
    return timed(sides, plan, k, metric)


def timed(
    sides: Sides,
    plan: FilesPlan,
    k: int,
    metric: NearestMetric | BinaryMetric,
    *,
    radius: float | None = None,
    num_threads: int | None = None,
) -> FilesPlan:
    """The plan with the time that it will take, by a join of the first rows.

    It is for the ``k`` nearest or, where there is one, for all within a ``radius``.
    """
    if min(plan.items, plan.queries) == 0:
        seconds = 0.0
    elif plan.chunk is None:
        seconds = _seconds_in_memory(sides, plan, k, metric, num_threads)
    else:
        of_floats = cast(NearestMetric, metric)  # bits are joined in memory
        search = Search(plan.join, k, radius, of_floats, num_threads)
        seconds = seconds_out_of_core(sides, plan, search)
    return dataclasses.replace(plan, seconds=seconds)


def _seconds_in_memory(
    sides: Sides,
    plan: FilesPlan,
    k: int,
    metric: NearestMetric | BinaryMetric,
    num_threads: int | None,
) -> float:
    start = time.perf_counter()
    sample = sides.items.read(0, min(_SAMPLE, plan.items))
    rows = len(sample)
    reading = (time.perf_counter() - start) / sample.nbytes
    numbers = json.loads(plan.join.to_json())
    if "lists" in numbers:
        numbers["lists"] = max(int(numbers["lists"] * (rows / plan.items) ** 0.5), 1)
    join = JoinPlan.from_json(json.dumps(numbers))
    start = time.perf_counter()
    options: Any = {"num_threads": num_threads, "progress": False}
    knn_join(items=sample, k=k, metric=metric, plan=join, **options)
    joining = time.perf_counter() - start
    asked, items = _by_group(sides, plan)
    larger = items / rows
    if join == JoinPlan.exact():
        # One side compares each pair once, two sides both ways.
        more = larger * (1.0 if sides.queries is None else 2.0)
    else:
        more = larger**_GROWTH
    bytes_read = sum(size * times for size, times in plan.reads.values())
    return reading * bytes_read + joining / rows * float((asked * more).sum())


def _by_group(sides: Sides, plan: FilesPlan) -> tuple[Counts, Counts]:
    """How many queries are joined with how many items, in each group of rows that are."""
    if sides.groups is None:
        return np.array([plan.queries]), np.array([plan.items])
    return sides.groups.asked(), sides.groups.items
