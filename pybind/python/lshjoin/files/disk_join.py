"""Joins of more vectors than memory holds: chunk by chunk against an index on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshjoin.arrays.exclude import Excluded
from lshjoin.arrays.neighbors import NearestMetric
from lshjoin.base.atomic import replacing
from lshjoin.base.plan import JoinPlan
from lshjoin.base.progress import OnProgress, Progress
from lshjoin.files.datasets import Dataset, ahead, step_of
from lshjoin.files.job import Job
from lshjoin.files.keys import Codes
from lshjoin.files.pairs import Found, of_neighbors
from lshjoin.files.plan import FilesPlan, chunk_rows
from lshjoin.index import Index

#: Writes them to a file, and returns how many pairs there were.
WritePairs = Callable[[Path, Iterator[Found]], int]

#: Queries of the first chunk of a radius join, whose pairs tell how many there will be.
_FIRST = 4096

#: What building an index is spent on: two passes over the items, and writing them by list.
_PASSES = "learn", "assign"
_BUILD = *_PASSES, "store"

#: Queries that tell how far all have to look: those that a join in memory asks.
SAMPLE = 512


class DiskJoin:
    """The join of an index on disk with itself, or with queries from files.

    Each chunk of queries is a part in the job's directory, named by where it starts and stops.
    """

    def __init__(
        self,
        job: Job,
        queries: Dataset | None,
        items: Dataset,
        apart: tuple[Codes | None, Codes] | None,
        plan: FilesPlan,
        metric: NearestMetric,
        num_threads: int | None,
        begin: Callable[[str], OnProgress],
    ) -> None:
        self._job = job
        self._queries = queries
        self._items = items
        self._apart = apart  # keys of both, where rows of equal ones are kept apart
        self._metric = metric
        self._plan = plan
        self._threads = num_threads
        self._begin = begin  # a stage, by its name
        self.seconds: dict[str, float] = {}  #: by stage

    def knn(self, k: int, write: WritePairs, known: Excluded | None) -> tuple[list[Path], JoinPlan]:
        """The parts of a k-nearest-neighbour join, made where they are missing; its fixed plan.

        Without the pairs that are known: each row is joined for as many neighbours more as any of
        them is in pairs.
        """
        wanted, k = k, k + most_known(known)
        index = self._index()
        plan = self._fixed_plan(index, k)
        chunk = chunk_rows(self._plan, plan, k, self._queries is None)

        def join(first: int, last: int, progress: Progress) -> Iterator[Found]:
            if self._queries is None:
                rows, found = index.knn_of_chunk(
                    range(first, last),
                    k,
                    plan=plan,
                    num_threads=self._threads,
                    progress=progress,
                )
            else:
                rows, queries = np.arange(first, last), self._queries.read(first, last)
                found = self._asked(index, slice(first, last)).knn(
                    queries,
                    k,
                    plan=plan,
                    num_threads=self._threads,
                    progress=progress,
                )
            near = found.distances, found.indices
            if known is not None:
                near = known.left_out(rows, near, wanted)
            return of_neighbors(rows, *near)

        return self._parts(join, write, lambda _: chunk), plan

    def radius(self, radius: float, write: WritePairs, known: Excluded | None) -> list[Path]:
        """The parts of a radius join, without pairs that are known, made where they are missing."""
        index = self._index()
        most = self._plan.chunk or 1

        def join(first: int, last: int, progress: Progress) -> Iterator[Found]:
            threads = self._threads
            if self._queries is None:
                rows, found = index.radius_of_chunk(
                    range(first, last), radius, num_threads=threads, progress=progress
                )
            else:
                rows, queries = np.arange(first, last), self._queries.read(first, last)
                asked = self._asked(index, slice(first, last))
                found = asked.radius(queries, radius, num_threads=threads, progress=progress)
            near = Found(rows, np.diff(found.lims), found.indices, found.distances)
            yield near if known is None else near.only(~known.has(near.left(), near.items))

        def chunk(pairs_of_query: float | None) -> int:
            if pairs_of_query is None:
                return min(most, _FIRST)
            return max(int(most / (pairs_of_query + 1)), 1)

        return self._parts(join, write, chunk)

    def _parts(
        self,
        join: Callable[[int, int, Progress], Iterator[Found]],
        write: WritePairs,
        chunk: Callable[[float | None], int],
    ) -> list[Path]:
        """``chunk`` is told how many pairs a query has had so far."""
        start = time.perf_counter()
        parts, first = [], 0
        for part in sorted(self._job.directory.glob("pairs-*.parquet")):
            begin, end = (int(row) for row in part.stem.split("-")[1:])
            if begin == first:
                parts.append(part)
                first = end
        begun, pairs, queries = first, 0, self._plan.queries
        told = self._begin("join")
        while first < queries:
            of_query = pairs / (first - begun) if first > begun else None
            last = min(first + chunk(of_query), queries)
            part = self._job.path(f"pairs-{first:012}-{last:012}.parquet")
            progress = told and _of_chunk(told, first, last, queries)
            found = join(first, last, progress or False)
            with replacing(part) as temporary:
                pairs += write(temporary, found)
            parts.append(part)
            first = last
        self.seconds["join"] = time.perf_counter() - start
        return parts

    def _index(self) -> Index:
        """The index of the items by row number, built if it is not there yet."""
        path = self._job.path("index")
        if not (path / "manifest.json").exists():
            join, begun, passes = self._plan.join, time.perf_counter(), list[float]()

            def batches(start: int) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
                first_of_pass = time.perf_counter()
                # Where a build goes on, it may be learning or not.
                rows = (self._plan.batches or (1, 1))[1 if passes else 0]
                for first, vectors in ahead(self._items.batches(rows, start)):
                    yield vectors, np.arange(first, first + len(vectors))
                passes.append(time.perf_counter() - first_of_pass)

            Index.build_on_disk(
                path,
                batches,
                count=len(self._items),
                dim=self._items.dim,
                metric=self._metric,
                plan=None if join == JoinPlan.exact() else join,
                resume=True,
                num_threads=self._threads,
                progress=_of_build(self._begin),
            )
            # A resumed build has fewer passes.
            self.seconds |= zip(_PASSES[len(_PASSES) - len(passes) :], passes, strict=True)
            self.seconds["store"] = time.perf_counter() - begun - sum(passes)
        # Opened anew: what was read to write the index is no longer mapped.
        index = Index.load(path)
        return self._asked(index, slice(None)) if self._queries is None else index

    def _asked(self, index: Index, queries: slice) -> Index:
        """The index for these queries, or for a join with itself."""
        if self._apart is None:
            return index
        of_queries, of_items = self._apart
        return index._kept_apart(None if of_queries is None else of_queries[queries], of_items)

    def _fixed_plan(self, index: Index, k: int) -> JoinPlan:
        """The join's plan with as many probes as its recall needs, the same for all chunks."""
        start = time.perf_counter()
        path = self._job.path("plan.json")
        if not path.exists():
            if self._queries is not None:
                step = step_of(len(self._queries), SAMPLE)
                index = self._asked(index, slice(None, None, step))
            plan = index.fixed_plan(
                k,
                queries=None if self._queries is None else self._queries.sample(SAMPLE),
                count=self._plan.queries,
                plan=self._plan.join,
                num_threads=self._threads,
                progress=self._begin("plan") or False,
            )
            with replacing(path) as temporary:
                temporary.write_text(plan.to_json())
        self.seconds["plan"] = time.perf_counter() - start
        try:
            return JoinPlan.from_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}; delete it, and run it again") from None


def most_known(known: Excluded | None) -> int:
    """In how many of these pairs a row is, at most."""
    return 0 if known is None else int(known.counts.max(initial=0))


def _of_build(begin: Callable[[str], OnProgress]) -> Callable[[int, int], object]:
    """What is done of an index, which counts each item in each stage, told by stage."""
    at, told = -1, None

    def progress(done: int, total: int) -> None:
        nonlocal at, told
        count = max(total // len(_BUILD), 1)
        if (now := min(done // count, len(_BUILD) - 1)) != at:
            at, told = now, begin(_BUILD[now])
        if told:
            told(done - at * count, count)

    return progress


def _of_chunk(
    told: Callable[[int, int], object], first: int, last: int, queries: int
) -> Callable[[int, int], object]:
    """What is done of a chunk, told as queries done of all."""
    most = first

    def progress(done: int, total: int) -> None:
        nonlocal most
        # More to do may turn up on the way.
        most = max(most, first + (last - first) * done // max(total, 1))
        told(most, queries)

    return progress
