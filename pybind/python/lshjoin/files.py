"""Joins of files, from disk to disk: a job that is killed goes on where it was."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from lshjoin.arrays import (
    Metric,
    NearestMetric,
    knn_join,
    plan_knn_join,
    radius_join_batches,
)
from lshjoin.checks import to_bytes, to_k, to_natural, to_radius, to_recall
from lshjoin.datasets import Dataset, Source, open_dataset
from lshjoin.files_plan import FilesPlan, partitions_until, plan_files
from lshjoin.ids import load_ids, store_ids
from lshjoin.job import Job
from lshjoin.out_of_core import Columns, DiskJoin, WritePairs
from lshjoin.pairs import PairsFile, concatenate, neighbor_pairs, pairs_schema
from lshjoin.paths import StoragePath, local_path, parquet_path
from lshjoin.plan import JoinPlan
from lshjoin.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

OnPlan = Callable[[FilesPlan], object] | None

#: Rows that are joined to tell how long a join will take, and the power of the number of items by
#: which a query takes longer: a join by cells grows with the 1.35th power of its rows.
_SAMPLE, _GROWTH = 30_000, 0.35


@dataclass(frozen=True)
class FilesJoin:
    """What a join of files came to."""

    out: Path  #: a Parquet file of the columns query, item and distance
    queries: int
    items: int
    pairs: int
    #: "all", and out of core by stage, of the last call alone: an index is made by "learn",
    #: "assign", "store" and "seal"; then come "plan", "join" and "write".
    seconds: dict[str, float]
    plan: FilesPlan


def knn_join_files(
    queries: Source | None = None,
    items: Source | None = None,
    k: SupportsIndex = 10,
    *,
    out: StoragePath,
    column: str | None = None,
    id_column: str | None = None,
    metric: NearestMetric = "euclidean",
    recall: float | None = None,
    plan: JoinPlan | None = None,
    seed: SupportsIndex | None = None,
    memory_limit: int | str | None = None,
    work_dir: StoragePath | None = None,
    num_threads: int | None = None,
    progress: Progress = None,
    on_plan: OnPlan = None,
) -> FilesJoin:
    """:func:`lshjoin.knn_join` of vectors in files, with its pairs written to a Parquet file.

    One source alone is the self-join, as there. The same call goes on with what an earlier one
    left, whatever ended that; a finished job leaves nothing but ``out``.

    Args:
        queries: files of vectors, as for :func:`lshjoin.open_dataset`.
        items: files of vectors; the queries themselves if None.
        k: neighbours a query, at least 1.
        out: the Parquet file to write, of a name that ends with .parquet or .pq: ``query`` and
            ``item``, ids or else row numbers, and ``distance``, nearest first for each query;
            queries in no certain order.
        column: of vectors, in both sides; needed where files have several of lists.
        id_column: of ids, in both sides; row numbers if None.
        metric: as for :func:`lshjoin.knn_join`.
        recall: as for :func:`lshjoin.knn_join`.
        plan: as for :func:`lshjoin.knn_join`, which has the same pairs by the same plan. Out of
            core it is :meth:`JoinPlan.exact` or a :meth:`JoinPlan.partitions`.
        seed: as for :func:`lshjoin.knn_join`.
        memory_limit: bytes that may be in use, or a text like "4GiB"; half of the
            machine's or the container's memory if None.
        work_dir: what is done so far, until it is finished; ``out`` with ".work" at its end if
            None. ``out`` must not be inside.
        num_threads: threads to use; all cores if None.
        progress: as for :func:`lshjoin.knn_join`.
        on_plan: called with the plan, and the time that it will take, before an out-of-core join
            begins.

    Raises:
        BlockingIOError: when another process is at work in ``work_dir`` or about to write ``out``.
        FileExistsError: when ``out`` is there already.
        FileNotFoundError: when there are no such files to read.
        OtherJobError: when ``work_dir`` belongs to another job.
        NotFiniteError: for NaN and infinity, with the row of the file and the dimension.
        TypeError, ValueError: for arguments out of range, files that are not vectors of one
            length.

    Examples:
        >>> import numpy as np
        >>> import pyarrow.parquet as pq
        >>> from lshjoin import knn_join_files
        >>> np.save("items.npy", np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
        >>> knn_join_files("items.npy", k=1, out="nearest.parquet").pairs
        3
        >>> pq.read_table("nearest.parquet").to_pydict()["item"]
        [2, 2, 0]
    """
    k = to_k(k)
    sides = _Sides.open(queries, items, column, id_column)
    work = {"command": "knn", "k": k, "metric": metric, **sides.work()}
    if plan is None:
        recall, seed = to_recall(recall), to_natural("seed", 0 if seed is None else seed)
        join = partitions_until(recall, len(sides.items), seed)
        work |= {"recall": recall, "seed": seed}
    elif recall is not None or seed is not None:
        raise TypeError("pass either a plan or recall and seed: a plan has its own")
    else:
        join = plan
        work["plan"] = plan.to_json()

    def in_memory() -> Iterator[Columns]:
        nonlocal join
        found = knn_join(
            *sides.vectors(),
            k=k,
            metric=metric,
            recall=recall,
            plan=plan,
            seed=seed,
            num_threads=num_threads,
            progress=progress,
        )
        join = found.plan
        return neighbor_pairs(np.arange(len(found.indices)), found.distances, found.indices)

    def from_disk(disk: DiskJoin, write: WritePairs) -> list[Path]:
        nonlocal join
        parts, join = disk.knn(k, write)
        return parts

    files_plan = sides.files_plan(join, k, to_bytes(memory_limit))
    if on_plan and files_plan.out_of_core:
        on_plan(_timed(sides, files_plan, k, metric))
    result = _run(
        sides,
        work,
        files_plan,
        out,
        work_dir,
        in_memory,
        from_disk,
        (metric, num_threads, progress),
    )
    return dataclasses.replace(result, plan=dataclasses.replace(files_plan, join=join))


def radius_join_files(
    queries: Source | None = None,
    items: Source | None = None,
    radius: float | None = None,
    *,
    out: StoragePath,
    column: str | None = None,
    id_column: str | None = None,
    metric: Metric = "euclidean",
    memory_limit: int | str | None = None,
    work_dir: StoragePath | None = None,
    num_threads: int | None = None,
    progress: Progress = None,
    on_plan: OnPlan = None,
) -> FilesJoin:
    """:func:`lshjoin.radius_join` of vectors in files, with its pairs written to a Parquet file.

    Args:
        queries: as for :func:`knn_join_files`.
        items: as for :func:`knn_join_files`; of a self-join each pair comes both ways.
        radius: in the units of the metric; pairs nearer than that are found, all of them. Required.
        out: as for :func:`knn_join_files`; in no certain order.
        column: as for :func:`knn_join_files`.
        id_column: as for :func:`knn_join_files`.
        metric: as for :func:`lshjoin.radius_join`.
        memory_limit: as for :func:`knn_join_files`.
        work_dir: as for :func:`knn_join_files`.
        num_threads: threads to use; all cores if None.
        progress: as for :func:`lshjoin.knn_join`.
        on_plan: as for :func:`knn_join_files`.

    Raises:
        OSError, TypeError, ValueError: as :func:`knn_join_files`.

    Examples:
        >>> import numpy as np
        >>> import pyarrow.parquet as pq
        >>> from lshjoin import radius_join_files
        >>> np.save("items.npy", np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
        >>> radius_join_files("items.npy", radius=2, out="near.parquet").pairs
        2
        >>> sorted(pq.read_table("near.parquet").to_pydict()["query"])
        [0, 2]
    """
    radius = to_radius(radius)
    sides = _Sides.open(queries, items, column, id_column)
    work = {"command": "radius", "radius": radius, "metric": metric, **sides.work()}

    def in_memory() -> Iterator[Columns]:
        batches = radius_join_batches(
            *sides.vectors(),
            radius=radius,
            metric=metric,
            num_threads=num_threads,
            progress=progress,
        )
        for batch in batches:
            queries, items, distances = (column.to_numpy() for column in batch.columns)
            yield queries, items, distances

    files_plan = sides.files_plan(JoinPlan.exact(), None, to_bytes(memory_limit))
    if on_plan and files_plan.out_of_core:
        # All pairs are compared, as they would be for the nearest.
        on_plan(_timed(sides, files_plan, 1, metric))
    return _run(
        sides,
        work,
        files_plan,
        out,
        work_dir,
        in_memory,
        lambda join, write: join.radius(radius, write),
        (metric, num_threads, progress),
    )


def plan_knn_join_files(
    queries: Source | None = None,
    items: Source | None = None,
    k: SupportsIndex = 10,
    *,
    column: str | None = None,
    id_column: str | None = None,
    metric: NearestMetric = "euclidean",
    recall: float = 0.95,
    seed: SupportsIndex = 0,
    memory_limit: int | str | None = None,
) -> FilesPlan:
    """What :func:`knn_join_files` would do for the same arguments.

    The time it gives is that of reading and joining the first 30,000 rows, and of as much more as
    there is to do: proportional to the pairs for the exact plan, to the queries and the 0.35th
    power of the items for others. That is a guess, good for "minutes" or "hours".

    Examples:
        >>> import numpy as np
        >>> from lshjoin import plan_knn_join_files
        >>> np.save("items.npy", np.zeros((1000, 64), np.float32))
        >>> print(plan_knn_join_files("items.npy", memory_limit="1GiB"))  # doctest: +ELLIPSIS
        exact...
        rows    1,000 queries, 1,000 items of 64 dimensions, in memory
        memory  203 MB of 1.07 GB: Python 201 MB, vectors 512 kB, codes 160 kB, neighbours 600 kB
        reads   items 256 kB
        writes  pairs 200 kB
        time    about ... seconds
    """
    k, recall, seed = to_k(k), to_recall(recall), to_natural("seed", seed)
    sides = _Sides.open(queries, items, column, id_column)
    join = partitions_until(recall, len(sides.items), seed)
    plan = sides.files_plan(join, k, to_bytes(memory_limit))
    if not plan.out_of_core:
        join = plan_knn_join(*sides.vectors(), k=k, metric=metric, recall=recall, seed=seed)
        plan = dataclasses.replace(plan, join=join)
    return _timed(sides, plan, k, metric)


def _timed(sides: _Sides, plan: FilesPlan, k: int, metric: NearestMetric) -> FilesPlan:
    """The plan with the time that it will take, by a join of the first rows."""
    start = time.perf_counter()
    sample = sides.items.read(0, min(_SAMPLE, plan.items))
    rows = len(sample)
    if rows == 0:
        return dataclasses.replace(plan, seconds=0.0)
    reading = (time.perf_counter() - start) / sample.nbytes
    numbers = json.loads(plan.join.to_json())
    if "cells" in numbers:
        numbers["cells"] = max(int(numbers["cells"] * (rows / plan.items) ** 0.5), 1)
    join = JoinPlan.from_json(json.dumps(numbers))
    start = time.perf_counter()
    knn_join(items=sample, k=k, metric=metric, plan=join, progress=False)
    joining = time.perf_counter() - start
    larger = plan.items / rows
    if join == JoinPlan.exact():
        # One side in memory meets each pair once, two sides or chunks both ways.
        more = larger * (1 if sides.queries is None and not plan.out_of_core else 2)
    else:
        more = larger**_GROWTH
    bytes_read = sum(size * times for size, times in plan.reads.values())
    seconds = reading * bytes_read + joining * plan.queries / rows * more
    return dataclasses.replace(plan, seconds=seconds)


@dataclass(frozen=True)
class _Sides:
    """The datasets to be joined."""

    queries: Dataset | None
    items: Dataset

    @classmethod
    def open(
        cls, queries: Source | None, items: Source | None, column: str | None, ids: str | None
    ) -> _Sides:
        if items is None:
            queries, items = None, queries
        if items is None:
            raise TypeError("there is nothing to join; pass queries and items, or one of them")
        of_items = open_dataset(items, column, ids)
        if queries is None:
            return cls(None, of_items)
        of_queries = open_dataset(queries, column, ids)
        if of_queries.dim != of_items.dim:
            raise ValueError(
                f"queries have {of_queries.dim} dimensions ({of_queries.files[0].path}) but items "
                f"have {of_items.dim} ({of_items.files[0].path})"
            )
        return cls(of_queries, of_items)

    def all(self) -> dict[str, Dataset]:
        sides = {"queries": self.queries, "items": self.items}
        return {name: side for name, side in sides.items() if side is not None}

    def rows(self) -> int:
        """Of the queries."""
        return len(self.items if self.queries is None else self.queries)

    def dtype(self) -> np.dtype[Any]:
        return np.result_type(*(side.dtype for side in self.all().values()))

    def work(self) -> dict[str, Any]:
        """What tells one job on these from another."""
        return {name: side.identity for name, side in self.all().items()}

    def files_plan(self, join: JoinPlan, k: int | None, memory_limit: int) -> FilesPlan:
        queries = None if self.queries is None else len(self.queries)
        items, dim = len(self.items), self.items.dim
        return plan_files(join, queries, items, dim, self.dtype(), k, memory_limit)

    def vectors(self) -> tuple[Any, Any]:
        return None if self.queries is None else self.queries.read(), self.items.read()

    def schema(self) -> pa.Schema:
        of_queries = (self.queries or self.items).id_type
        return pairs_schema(of_queries, self.items.id_type, self.dtype())

    def write_pairs(self, job: Job, path: Path, found: Iterator[Columns]) -> int:
        """Writes pairs of rows by their ids; returns how many."""
        ids = {name: row_ids(job, name, side) for name, side in self.all().items()}
        of_queries = ids.get("queries", ids["items"])
        with PairsFile(path, self.schema(), of_queries, ids["items"]) as pairs:
            for columns in found:
                pairs.write(*columns)
        return pairs.pairs


def row_ids(job: Job, side: str, dataset: Dataset) -> pa.Array | None:
    """The ids of a dataset, kept in the job's directory; None where rows go by their numbers."""
    if dataset.id_column is None:
        return None
    path = job.path(f"{side}-ids")
    if not path.exists():
        store_ids(dataset, path)
    return load_ids(dataset, path)


def begin(work: dict[str, Any], out: Path, work_dir: StoragePath | None) -> Job:
    """A new job, or the one that was begun before, which may have written ``out`` already."""
    directory = local_path(work_dir or out.with_name(f"{out.name}.work"))
    return Job(directory, work | {"out": str(out.resolve())}, out)


def _run(
    sides: _Sides,
    work: dict[str, Any],
    plan: FilesPlan,
    out: StoragePath,
    work_dir: StoragePath | None,
    in_memory: Callable[[], Iterator[Columns]],
    from_disk: Callable[[DiskJoin, WritePairs], list[Path]],
    options: tuple[NearestMetric, int | None, Progress],
) -> FilesJoin:
    import pyarrow.parquet as pq

    start = time.perf_counter()
    seconds: dict[str, float] = {}
    out = parquet_path(out)
    with closing(begin(work, out, work_dir)) as job:
        write = partial(sides.write_pairs, job)
        if job.finished:
            pass  # and the process ended before it could say so
        elif plan.out_of_core:
            join = DiskJoin(job, sides.queries, sides.items, plan, *options)
            parts = from_disk(join, write)
            begun = time.perf_counter()
            with job.result() as file:
                concatenate(parts, file, sides.schema())
            seconds = join.seconds | {"write": time.perf_counter() - begun}
        else:
            with job.result() as file:
                write(file, in_memory())
        job.finish()
    return FilesJoin(
        out=out,
        queries=sides.rows(),
        items=len(sides.items),
        pairs=pq.read_metadata(out).num_rows,
        seconds={"all": time.perf_counter() - start} | seconds,
        plan=plan,
    )
