"""Joins of files, from disk to disk: a job that is killed goes on where it was."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex, cast

import numpy as np

from lshjoin.arrays.knn import knn_join
from lshjoin.arrays.neighbors import BinaryMetric, Metric, NearestMetric
from lshjoin.arrays.radius import radius_join, radius_join_batches
from lshjoin.base import html
from lshjoin.base.checks import to_bytes, to_k, to_natural, to_radius, to_recall
from lshjoin.base.paths import result_place
from lshjoin.base.places import Filesystem, Place, StoragePath, shown
from lshjoin.base.plan import JoinPlan
from lshjoin.base.progress import Progress, stages
from lshjoin.files.by_query import by_query
from lshjoin.files.disk_join import DiskJoin, WritePairs, most_known
from lshjoin.files.exclude import Known, known_pairs
from lshjoin.files.job import begin
from lshjoin.files.keys import KeyColumns
from lshjoin.files.pairs import Found, of_batches, of_neighbors, of_radius, stored_tables
from lshjoin.files.pieces import ROW, VECTOR, Piece, PiecesJoin
from lshjoin.files.plan import FilesPlan, plan_until, predicted_work
from lshjoin.files.planner import timed
from lshjoin.files.results import Format, Layout, to_layout, write_tables
from lshjoin.files.sides import Sides
from lshjoin.files.sources import Source
from lshjoin.files.spool import Table

OnPlan = Callable[[FilesPlan], object] | None


@dataclass(frozen=True)
class FilesJoin:
    """What a join of files came to."""

    #: The file, or the folder of files; text where it is not on this machine.
    out: Path | str
    queries: int
    items: int
    pairs: int
    #: "all", and out of core by stage, of the last call alone: an index is made by "learn",
    #: "assign" and "store"; then come "plan", "join" and "write".
    seconds: dict[str, float]
    plan: FilesPlan

    def _repr_html_(self) -> str:
        """What notebooks show: the numbers, and a bar for each stage's time."""
        numbers = {"queries": self.queries, "items": self.items, "pairs": self.pairs}
        rows = [("out", str(self.out)), *((name, f"{size:,}") for name, size in numbers.items())]
        rows += [(stage, f"{time:.1f} s") for stage, time in self.seconds.items()]
        return html.table("FilesJoin", rows, html.bars("Seconds of each stage", self.seconds))


def knn_join_files(
    queries: Source | None = None,
    items: Source | None = None,
    k: SupportsIndex = 10,
    *,
    out: StoragePath,
    column: str | None = None,
    id_column: str | None = None,
    filesystem: Filesystem | None = None,
    format: Format | None = None,
    nested: bool = False,
    max_rows_per_file: SupportsIndex | None = None,
    metric: NearestMetric | BinaryMetric = "euclidean",
    within: str | None = None,
    apart: str | None = None,
    exclude: StoragePath | Table | None = None,
    recall: float | None = None,
    plan: JoinPlan | None = None,
    seed: SupportsIndex | None = None,
    memory_limit: int | str | None = None,
    work_dir: StoragePath | None = None,
    num_threads: int | None = None,
    progress: Progress = None,
    on_plan: OnPlan = None,
) -> FilesJoin:
    """:func:`lshjoin.knn_join` of vectors in files, with its pairs written to a file.

    One source alone is the self-join, as there. The same call goes on with what an earlier one
    left, whatever ended that; a finished job leaves nothing but ``out``.

    Args:
        queries: files of vectors, or a table, as for :func:`lshjoin.open_dataset`.
        items: as ``queries``; the queries themselves if None.
        k: neighbours a query, at least 1.
        out: the file to write, in the format that its name ends with: ``query`` and ``item``,
            ids or else row numbers, and ``distance``, nearest first for each query; queries in
            no certain order. At a URL it is there when it is whole, too; until then it is on
            this machine, in ``work_dir``.
        column: of vectors, in both sides; needed where files have several of lists.
        id_column: of ids, in both sides; row numbers if None.
        filesystem: of pyarrow.fs or fsspec, in which all paths of sources are then, and ``out``
            if that is a URL.
        format: "parquet", "arrow" (IPC), "csv" or "npz"; by the name of ``out`` if None, which may
            end with .parquet, .pq, .arrow, .feather, .ipc, .csv or .npz.
        nested: a row for each query, also for one that found nothing, with ``neighbors``, the list
            of its items and distances, in place of a row for each pair. In .npz, ``lims`` has
            where those of query i begin and end, as in :class:`lshjoin.RadiusNeighbors`.
        max_rows_per_file: if given, ``out`` is a folder of files of so many rows at most, on
            this machine.
        metric: as for :func:`lshjoin.knn_join`; columns of packed bits are of lists of uint8, or
            binary. These are joined in memory, or within groups that fit there.
        within: a column of keys, integers or strings, in both sides: only rows of equal keys are
            neighbours, as within a country or a postcode; a row whose key is null has none. Names
            of folders may be keys (``country=at``). Where memory does not hold all rows, groups
            are joined a few at a time, each of these for the recall, and only a group that is
            larger than memory goes out of core.
        apart: a column of keys in both sides: only rows of different keys are neighbours, so that
            none is of the same document or user; a row whose key is null may have any.
        exclude: pairs that are known and are to be left out, by ids or, without ``id_column``, row
            numbers: what a join wrote (Parquet, Arrow, CSV, npz), or another file or a table of
            Arrow columns, of which ``query`` and ``item`` count or else the first two columns; they
            are read into memory. Of one source joined with itself both ways. The next nearest take
            their places: out of core, all rows are joined for as many neighbours more as any of
            them is in pairs.
        recall: as for :func:`lshjoin.knn_join`.
        plan: as for :func:`lshjoin.knn_join`, which has the same pairs by the same plan. Out of
            core it is :meth:`JoinPlan.exact` or a :meth:`JoinPlan.partitions`.
        seed: as for :func:`lshjoin.knn_join`.
        memory_limit: bytes that may be in use, or a text like "4GiB"; half of the
            machine's or the container's memory if None.
        work_dir: what is done so far, until it is finished; ``out`` with ".work" at its end if
            None, and of one at a URL that name in the current directory. ``out`` must not be
            inside.
        num_threads: threads to use; all cores if None.
        progress: as for :func:`lshjoin.knn_join`. Out of core it is of the work that is predicted,
            in thousandths, and the bar names the stage.
        on_plan: called with the plan, and the time that it will take, before an out-of-core join
            begins.

    Raises:
        BlockingIOError: when another process is at work in ``work_dir`` or about to write ``out``.
        FileExistsError: when ``out`` is there already.
        FileNotFoundError: when there are no such files to read.
        OSError: when a file that is elsewhere can't be read or written.
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
        >>> knn_join_files("items.npy", k=2, out="lists.parquet", nested=True).pairs
        6
        >>> pq.read_table("lists.parquet")["neighbors"][0].as_py()
        [{'item': 2, 'distance': 1.0}, {'item': 1, 'distance': 5.0}]

        Within groups, and without the pairs that a join found before:

        >>> import pyarrow as pa
        >>> vectors = [[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]
        >>> places = pa.table({"v": vectors, "country": ["at", "at", "de"]})
        >>> knn_join_files(places, k=1, within="country", out="within.parquet").pairs
        2
        >>> knn_join_files(places, k=1, exclude="within.parquet", out="more.parquet").pairs
        3
        >>> pq.read_table("more.parquet").to_pydict()["item"]
        [2, 2, 0]
    """
    k = to_k(k)
    keys = KeyColumns(within, apart)
    sides = Sides.open(queries, items, column, id_column, filesystem, keys, metric=metric)
    known = known_pairs(exclude, sides, filesystem)
    excluded = None if known is None else known.excluded(sides)
    place = result_place(out, filesystem)
    layout = to_layout(place, format, nested, max_rows_per_file)
    work = {"command": "knn", "k": k, "metric": metric, **sides.work()}
    work["exclude"] = known and known.digest
    if plan is None:
        recall, seed = to_recall(recall), to_natural("seed", 0 if seed is None else seed)
        join = plan_until(recall, sides.shape(), seed)
        work |= {"recall": recall, "seed": seed}
    elif recall is not None or seed is not None:
        raise TypeError("pass either a plan or recall and seed: a plan has its own")
    else:
        join = plan
        work["plan"] = plan.to_json()

    def in_memory(_: Path) -> Iterator[Found]:
        nonlocal join
        found = knn_join(
            *sides.vectors(),
            k=k,
            metric=metric,
            **sides.row_keys(),
            exclude=None if known is None else known.pairs(),
            recall=recall,
            plan=plan,
            seed=seed,
            num_threads=num_threads,
            progress=progress,
        )
        join = found.plan
        return of_neighbors(np.arange(len(found.indices)), found.distances, found.indices)

    def from_disk(disk: DiskJoin, write: WritePairs) -> list[Path]:
        nonlocal join
        parts, join = disk.knn(k, write, excluded)
        return parts

    def of_piece(piece: Piece) -> None:
        knn_join_files(
            piece.queries,
            piece.items,
            k,
            out=piece.out,
            column=VECTOR,
            id_column=ROW,
            metric=metric,
            **piece.keys._asdict(),
            exclude=piece.exclude,
            recall=recall,
            plan=plan,
            seed=seed,
            memory_limit=memory_limit,
            num_threads=num_threads,
            progress=piece.progress,
        )

    files_plan = sides.files_plan(join, k, to_bytes(memory_limit), most_known(excluded))
    if on_plan and files_plan.out_of_core:
        on_plan(timed(sides, files_plan, k, metric, num_threads=num_threads))
    result = _run(
        sides,
        work,
        files_plan,
        place,
        layout,
        work_dir,
        known,
        Ways(in_memory, from_disk, of_piece),
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
    filesystem: Filesystem | None = None,
    format: Format | None = None,
    nested: bool = False,
    max_rows_per_file: SupportsIndex | None = None,
    metric: Metric | BinaryMetric = "euclidean",
    max_neighbors: SupportsIndex | None = None,
    within: str | None = None,
    apart: str | None = None,
    exclude: StoragePath | Table | None = None,
    memory_limit: int | str | None = None,
    work_dir: StoragePath | None = None,
    num_threads: int | None = None,
    progress: Progress = None,
    on_plan: OnPlan = None,
) -> FilesJoin:
    """:func:`lshjoin.radius_join` of vectors in files, with its pairs written to a file.

    Args:
        queries: as for :func:`knn_join_files`.
        items: as for :func:`knn_join_files`; of a self-join each pair comes both ways.
        radius: in the units of the metric; pairs nearer than that are found, all of them. Required.
        out: as for :func:`knn_join_files`; in no certain order.
        column: as for :func:`knn_join_files`.
        id_column: as for :func:`knn_join_files`.
        filesystem: as for :func:`knn_join_files`.
        format: as for :func:`knn_join_files`.
        nested: as for :func:`knn_join_files`.
        max_rows_per_file: as for :func:`knn_join_files`.
        metric: as for :func:`lshjoin.radius_join` and, of packed bits, :func:`knn_join_files`.
        max_neighbors: of those within the radius the nearest so many of each query, at least 1.
        within: as for :func:`knn_join_files`.
        apart: as for :func:`knn_join_files`.
        exclude: as for :func:`knn_join_files`.
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
        >>> radius_join_files("items.npy", radius=9, max_neighbors=1, out="few.parquet").pairs
        3
    """
    radius = to_radius(radius)
    keys = KeyColumns(within, apart)
    sides = Sides.open(queries, items, column, id_column, filesystem, keys, metric=metric)
    known = known_pairs(exclude, sides, filesystem)
    excluded = None if known is None else known.excluded(sides)
    place = result_place(out, filesystem)
    layout = to_layout(place, format, nested, max_rows_per_file)
    nearest = None if max_neighbors is None else to_k(max_neighbors, "max_neighbors")
    work = {"command": "radius", "radius": radius, "k": nearest, "metric": metric, **sides.work()}
    work["exclude"] = known and known.digest

    def in_memory(directory: Path) -> Iterator[Found]:
        options: Any = sides.row_keys() | {"num_threads": num_threads, "progress": progress}
        options |= {"metric": metric, "exclude": None if known is None else known.pairs()}
        if nearest is not None:
            near = radius_join(*sides.vectors(), radius, max_neighbors=nearest, **options)
            return of_radius(np.arange(sides.rows()), near)
        batches = radius_join_batches(*sides.vectors(), radius, **options)
        found = of_batches(batches)
        return by_query(found, sides.rows(), directory) if nested else found

    def from_disk(disk: DiskJoin, write: WritePairs) -> list[Path]:
        if nearest is None:
            return disk.radius(radius, write, excluded)

        def write_near(part: Path, found: Iterator[Found]) -> int:
            limit = np.float64(radius)  # as the engine compares
            return write(part, (piece.only(piece.distances < limit) for piece in found))

        return disk.knn(nearest, write_near, excluded)[0]

    def of_piece(piece: Piece) -> None:
        radius_join_files(
            piece.queries,
            piece.items,
            radius,
            out=piece.out,
            column=VECTOR,
            id_column=ROW,
            metric=metric,
            max_neighbors=max_neighbors,
            **piece.keys._asdict(),
            exclude=piece.exclude,
            memory_limit=memory_limit,
            num_threads=num_threads,
            progress=piece.progress,
        )

    files_plan = sides.files_plan(
        JoinPlan.exact(), nearest, to_bytes(memory_limit), most_known(excluded)
    )
    if on_plan and files_plan.out_of_core:
        limit = radius if nearest is None else None
        on_plan(
            timed(sides, files_plan, nearest or 1, metric, radius=limit, num_threads=num_threads)
        )
    return _run(
        sides,
        work,
        files_plan,
        place,
        layout,
        work_dir,
        known,
        Ways(in_memory, from_disk, of_piece),
        (metric, num_threads, progress),
    )


class Ways(NamedTuple):
    """How a join is done, by where its rows have room."""

    in_memory: Callable[[Path], Iterator[Found]]  #: with a directory for what has no room there
    from_disk: Callable[[DiskJoin, WritePairs], list[Path]]
    of_piece: Callable[[Piece], object]  #: a join of its own, of files, where groups have room


def _run(
    sides: Sides,
    work: dict[str, Any],
    plan: FilesPlan,
    out: Place,
    layout: Layout,
    work_dir: StoragePath | None,
    known: Known | None,
    ways: Ways,
    options: tuple[NearestMetric | BinaryMetric, int | None, Progress],
) -> FilesJoin:
    start = time.perf_counter()
    seconds: dict[str, float] = {}
    schema = sides.schema(layout.nested)
    work = work | {"layout": asdict(layout)}

    def write_part(path: Path, found: Iterator[Found]) -> int:
        tables = sides.tables(job, found, layout.nested)
        return write_tables(tables, path, schema, Layout("parquet", layout.nested))

    def write(path: Path) -> dict[str, int]:
        if not plan.out_of_core:
            tables = sides.tables(job, ways.in_memory(job.directory), layout.nested)
            return {"pairs": write_tables(tables, path, schema, layout)}
        metric, threads, progress = options
        join: PiecesJoin | DiskJoin
        with stages(progress, work["command"], predicted_work(plan, work.get("k"))) as begin_stage:
            if plan.pieces is None:
                of_floats = cast(NearestMetric, metric)  # bits are joined in memory
                join = DiskJoin(
                    job,
                    sides.queries,
                    sides.items,
                    sides.apart(),
                    plan,
                    of_floats,
                    threads,
                    begin_stage,
                )
                tables = stored_tables(ways.from_disk(join, write_part), schema)
            else:
                join = PiecesJoin(job, sides, plan, known, begin_stage)
                found = join.pairs(ways.of_piece)
                if layout.nested:
                    found = by_query(found, sides.rows(), job.directory)
                tables = sides.tables(job, found, layout.nested)
            begun, told = time.perf_counter(), begin_stage("write")
            pairs = write_tables(tables, path, schema, layout)
            if told:
                told(1, 1)
        seconds.update(join.seconds, write=time.perf_counter() - begun)
        return {"pairs": pairs}

    with closing(begin(work, out, work_dir)) as job:
        if not job.finished:  # else the process ended before it could say so
            job.write_result(write)
        job.finish()
    return FilesJoin(
        out=shown(out),
        queries=sides.rows(),
        items=len(sides.items),
        pairs=job.counts["pairs"],
        seconds={"all": time.perf_counter() - start} | seconds,
        plan=plan,
    )
