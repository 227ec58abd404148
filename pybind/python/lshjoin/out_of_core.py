"""Joins of more vectors than memory holds: stretch by stretch against an index on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshjoin import _lshjoin
from lshjoin.datasets import Dataset
from lshjoin.files_plan import FilesPlan
from lshjoin.job import Job, replacing
from lshjoin.pairs import neighbor_pairs
from lshjoin.plan import JoinPlan
from lshjoin.progress import Progress, reporter

#: Rows of queries, rows of items, distances.
Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]
#: Writes them to a file, and returns how many pairs there were.
WritePairs = Callable[[Path, Iterator[Columns]], int]

#: Queries of the first stretch of a radius join, whose pairs tell how many there will be.
_FIRST = 4096
_PAIR_BYTES = 96

#: Queries whose sample tells how far all have to look.
_SAMPLE = 512


class DiskJoin:
    """The join of an index on disk with itself, or with queries from files.

    Each stretch of queries is a part in the job's directory, named by where it starts and stops.
    """

    def __init__(
        self,
        job: Job,
        queries: Dataset | None,
        items: Dataset,
        plan: FilesPlan,
        metric: str,
        num_threads: int | None,
        progress: Progress,
    ) -> None:
        self._job = job
        self._queries = queries
        self._items = items
        self._metric = metric
        self._plan = plan
        self._threads = num_threads
        self._progress = progress
        self.seconds: dict[str, float] = {}  #: by stage

    def knn(self, k: int, write: WritePairs) -> list[Path]:
        """The parts of a k-nearest-neighbour join, made where they are not there yet."""
        index = self._index()
        plan = self._fixed_plan(index, k)
        start = time.perf_counter()
        stretch = self._plan.stretch or 1

        def join(first: int, last: int, on_progress: Any) -> Iterator[Columns]:
            options = {"num_threads": self._threads, "on_progress": on_progress}
            if self._queries is None:
                rows, (distances, indices) = index.knn_of_stretch(
                    first, last, k, plan, memory=self._plan.panels, **options
                )
            else:
                rows = np.arange(first, last)
                queries = _float32(self._queries.read(first, last))
                distances, indices = index.knn(queries, k, plan, **options)
            return neighbor_pairs(rows, distances, indices)

        parts = self._parts(join, write, lambda _: stretch)
        self.seconds["join"] = time.perf_counter() - start
        return parts

    def radius(self, radius: float, write: WritePairs) -> list[Path]:
        """The parts of a radius join, made where they are not there yet."""
        index = self._index()
        start = time.perf_counter()
        room = (self._plan.stretch or 1) * _PAIR_BYTES

        def join(first: int, last: int, on_progress: Any) -> Iterator[Columns]:
            options = {"num_threads": self._threads, "on_progress": on_progress}
            if self._queries is None:
                rows, found = index.radius_of_stretch(first, last, radius, **options)
            else:
                rows = np.arange(first, last)
                queries = _float32(self._queries.read(first, last))
                found = index.radius(queries, radius, **options)
            lims, distances, indices = found
            yield np.repeat(rows, np.diff(lims)), indices, distances

        def stretch(pairs_of_query: float) -> int:
            most = self._plan.stretch or 1
            if pairs_of_query < 0:
                return min(most, _FIRST)
            return max(min(most, int(room / (_PAIR_BYTES * (pairs_of_query + 1)))), 1)

        parts = self._parts(join, write, stretch)
        self.seconds["join"] = time.perf_counter() - start
        return parts

    def _parts(
        self,
        join: Callable[[int, int, Any], Iterator[Columns]],
        write: WritePairs,
        stretch: Callable[[float], int],
    ) -> list[Path]:
        """``stretch`` is told the pairs of a query so far, -1 at first."""
        parts, first = [], 0
        for part in sorted(self._job.directory.glob("pairs-*.parquet")):
            start, stop = (int(row) for row in part.stem.split("-")[1:])
            if start == first:
                parts.append(part)
                first = stop
        begun, pairs = first, 0
        with reporter(self._progress, "join") as told:
            while first < self._plan.queries:
                of_query = pairs / (first - begun) if first > begun else -1
                last = min(first + stretch(of_query), self._plan.queries)
                part = self._job.path(f"pairs-{first:012}-{last:012}.parquet")
                on_progress = told and _part_of(told, first, last, self._plan.queries)
                found = join(first, last, on_progress)
                with replacing(part) as temporary:
                    pairs += write(temporary, found)
                parts.append(part)
                first = last
        return parts

    def _index(self) -> _lshjoin.Index:
        """The index of the items by row number, built if it is not there yet."""
        start = time.perf_counter()
        path = self._job.path("index")
        if not (path / "manifest.json").exists():
            self._build(path)
        index = _lshjoin.Index.load(path, mmap=True)
        self.seconds["index"] = time.perf_counter() - start
        return index

    def _build(self, path: Path) -> None:
        join = self._plan.join
        rows = len(self._items)
        builder = _lshjoin.IndexBuilder(
            rows,
            self._items.dim,
            metric=self._metric,
            plan=None if join == JoinPlan.exact() else join.to_json(),
            seed=0,
            path=path,
        )
        passes = builder.PASSES
        with reporter(self._progress, "index") as told:
            for number in range(passes):
                for first, batch in self._items.batches(self._plan.batch):
                    ids = np.arange(first, first + len(batch))
                    builder.push(_float32(batch), ids, num_threads=self._threads)
                    if told:
                        told(number * rows + first + len(batch), passes * rows)
            builder.finish(num_threads=self._threads)

    def _fixed_plan(self, index: _lshjoin.Index, k: int) -> str:
        """The join's plan with as many probes as its recall needs, the same for all stretches."""
        start = time.perf_counter()
        path = self._job.path("plan.json")
        if not path.exists():
            sample = None
            if self._queries is not None:
                step = -(-len(self._queries) // _SAMPLE) or 1
                rows = [batch[-first % step :: step] for first, batch in self._queries.batches()]
                sample = _float32(np.concatenate(rows))
            count = self._plan.queries
            plan = index.fixed_plan(
                sample, count, k, self._plan.join.to_json(), num_threads=self._threads
            )
            with replacing(path) as temporary:
                temporary.write_text(plan)
        self.seconds["plan"] = time.perf_counter() - start
        return path.read_text()


def _float32(vectors: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(vectors, dtype=np.float32)


def _part_of(told: Callable[[int, int], object], first: int, last: int, all_: int) -> Any:
    def on_progress(done: int, total: int) -> None:
        told(first + (last - first) * done // max(total, 1), all_)

    return on_progress
