"""Indexes of items in files, and queries from files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex, cast

import numpy as np
from numpy.typing import NDArray

from lshjoin import engine
from lshjoin.arrays.neighbors import BinaryMetric, NearestMetric
from lshjoin.arrays.sides import are_bits
from lshjoin.base.checks import to_bytes
from lshjoin.base.paths import local_path, result_place
from lshjoin.base.places import Filesystem, StoragePath, shown
from lshjoin.base.plan import JoinPlan
from lshjoin.base.progress import Progress, reporter
from lshjoin.base.vectors import integer_ids
from lshjoin.files.datasets import ahead, open_side
from lshjoin.files.disk_join import SAMPLE
from lshjoin.files.exclude import known_of_index
from lshjoin.files.job import Job, creating
from lshjoin.files.pairs import Found, of_neighbors, pair_tables, pairs_schema
from lshjoin.files.plan import Rows, batch_rows, beside_python, plan_files
from lshjoin.files.results import Format, to_layout, write_tables
from lshjoin.files.sources import Source
from lshjoin.files.spool import Table
from lshjoin.index import Index

#: Queries that are joined at a time, at least: for all of them the index is gone through once.
_LEAST = 1024


@dataclass(frozen=True)
class FoundInIndex:
    """What :func:`query_index` came to."""

    #: The file, or the folder of files; text where it is not on this machine.
    out: Path | str
    queries: int
    items: int
    pairs: int
    seconds: float
    plan: JoinPlan


def build_index(
    items: Source,
    *,
    out: StoragePath,
    column: str | None = None,
    id_column: str | None = None,
    filesystem: Filesystem | None = None,
    metric: NearestMetric | BinaryMetric = "euclidean",
    memory_limit: int | str | None = None,
    num_threads: int | None = None,
    progress: Progress = None,
) -> Index:
    """:meth:`lshjoin.Index.build_on_disk` of vectors in files.

    What is done is kept in the directory ``OUT.work``: the same call goes on where it ended. Packed
    bits are read into memory.

    Args:
        items: files of vectors, as for :func:`lshjoin.knn_join_files`.
        out: the directory of the index; an index in it is replaced when the new one is whole.
        column: as for :func:`lshjoin.knn_join_files`.
        id_column: of integers; row numbers if None.
        filesystem: of pyarrow.fs or fsspec, in which all paths of ``items`` are then.
        metric: as for :meth:`lshjoin.Index.build`; columns of packed bits are as for
            :func:`lshjoin.knn_join_files`.
        memory_limit: as for :func:`lshjoin.knn_join_files`.
        num_threads: threads to use; all cores if None.
        progress: as for :func:`lshjoin.knn_join`.

    Raises:
        TypeError, ValueError, OSError: as :func:`lshjoin.knn_join_files`, for ids that are no
            integers or come twice, and when ``out`` holds anything but a sound index.

    Examples:
        >>> import numpy as np
        >>> from lshjoin import build_index
        >>> np.save("items.npy", np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
        >>> build_index("items.npy", out="items.index")
        <lshjoin.Index: 3 items, 2 dimensions, euclidean>
        >>> np.save("bits.npy", np.packbits([[1, 1, 1, 0], [1, 1, 0, 0]], axis=1))
        >>> build_index("bits.npy", out="bits.index", metric="hamming")
        <lshjoin.Index: 2 items, 8 dimensions, hamming>
    """
    import pyarrow as pa

    out = local_path(out)
    if out.exists() and any(out.iterdir()):
        Index.load(out)  # which tells, before hours of work, whether it is one
    bits = are_bits(metric)
    dataset = open_side(items, column, id_column, filesystem, bits=bits)
    if bits:  # an error where memory does not hold them
        rows_of_bits = Rows(None, len(dataset), dataset.dim, dataset.dtype, metric)
        plan_files(JoinPlan.exact(), rows_of_bits, None, to_bytes(memory_limit))
    if not pa.types.is_integer(dataset.id_type):
        raise TypeError(
            f"column {id_column} holds {dataset.id_type}; the ids of an index are integers"
        )
    ids = np.arange(len(dataset))
    if id_column is not None:
        ids = np.concatenate([ids[:0], *(integer_ids(part.to_numpy()) for part in dataset.ids())])
    rows = batch_rows(len(dataset), dataset.dim, to_bytes(memory_limit))

    def batches(start: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        for first, vectors in ahead(dataset.batches(rows, start)):
            yield vectors, ids[first : first + len(vectors)]

    work = {"command": "index build", "metric": metric, "items": dataset.identity}
    with closing(Job(out.with_name(f"{out.name}.work"), work)) as job:
        index, manifest = job.path("index"), "manifest.json"
        if not job.made(out / manifest):  # else the process ended before it could say so
            common: Any = {"num_threads": num_threads, "progress": progress}
            if not (index / manifest).exists() and bits:
                built = Index.build(dataset.read(), ids=ids, metric=metric, **common)
                built.save(index, **common)
            elif not (index / manifest).exists():
                Index.build_on_disk(
                    index,
                    batches,
                    count=len(dataset),
                    dim=dataset.dim,
                    metric=cast(NearestMetric, metric),
                    resume=True,
                    **common,
                )
            if out.exists():
                Index.load(index).save(out, **common)
            else:
                job.ready(index / manifest)
                index.rename(out)
        job.finish()
    return Index.load(out)


def query_index(
    path: StoragePath,
    queries: Source,
    k: int = 10,
    *,
    out: StoragePath,
    exclude: StoragePath | Table | None = None,
    recall: float | None = None,
    plan: JoinPlan | None = None,
    column: str | None = None,
    id_column: str | None = None,
    filesystem: Filesystem | None = None,
    format: Format | None = None,
    nested: bool = False,
    max_rows_per_file: SupportsIndex | None = None,
    memory_limit: int | str | None = None,
    num_threads: int | None = None,
    progress: Progress = None,
) -> FoundInIndex:
    """:meth:`lshjoin.Index.knn` of queries in files, with its pairs written to a file.

    Args:
        path: the directory of the index.
        queries: files of vectors, as for :func:`lshjoin.knn_join_files`.
        k: neighbours a query, at least 1.
        out: as for :func:`lshjoin.knn_join_files`; queries in their order.
        exclude: pairs that are known and are to be left out, as for :func:`lshjoin.knn_join_files`,
            of a query and the id of an item, which need not be there. The next nearest take their
            places.
        recall: as for :meth:`lshjoin.Index.knn`.
        plan: as for :meth:`lshjoin.Index.knn`, such as that of an earlier result.
        column: as for :func:`lshjoin.knn_join_files`.
        id_column: of the queries; row numbers if None.
        filesystem: as for :func:`lshjoin.knn_join_files`.
        format: as for :func:`lshjoin.knn_join_files`.
        nested: as for :func:`lshjoin.knn_join_files`.
        max_rows_per_file: as for :func:`lshjoin.knn_join_files`.
        memory_limit: as for :func:`lshjoin.knn_join_files`.
        num_threads: threads to use; all cores if None.
        progress: as for :func:`lshjoin.knn_join`.

    Raises:
        BlockingIOError: when another process is about to write ``out``.
        FileExistsError: when ``out`` is there already.
        TypeError, ValueError, OSError: as :func:`lshjoin.knn_join_files`, and for a damaged index.

    Examples:
        >>> import numpy as np
        >>> import pyarrow.parquet as pq
        >>> from lshjoin import Index, query_index
        >>> Index.build([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], ids=[7, 8, 9]).save("few.index")
        >>> np.save("queries.npy", np.array([[0.0, 0.0], [3.0, 3.0]]))
        >>> query_index("few.index", "queries.npy", k=1, out="found.parquet").pairs
        2
        >>> pq.read_table("found.parquet").to_pydict()["item"]
        [7, 8]
        >>> known = {"exclude": "found.parquet", "out": "more.parquet"}
        >>> query_index("few.index", "queries.npy", k=1, **known).pairs
        2
        >>> pq.read_table("more.parquet").to_pydict()["item"]
        [9, 9]
    """
    import pyarrow as pa

    start = time.perf_counter()
    place = result_place(out, filesystem)
    layout = to_layout(place, format, nested, max_rows_per_file)
    index = Index.load(path)
    bits = are_bits(index.metric)
    dataset = open_side(queries, column, id_column, filesystem, bits=bits)
    known = known_of_index(exclude, dataset, filesystem)
    plan = index.fixed_plan(
        k,
        queries=dataset.sample(SAMPLE),
        count=len(dataset),
        recall=recall,
        plan=plan,
        num_threads=num_threads,
        progress=False,
    )
    join = engine.FileJoin(len(dataset), len(index), dataset.dim, k=k)
    rows = max(join.chunk(beside_python(to_bytes(memory_limit))), _LEAST)
    of_queries = dataset.id_type
    ids = None
    if id_column is not None:
        ids = pa.chunked_array(dataset.ids(), of_queries).combine_chunks()
    schema = pairs_schema(of_queries, pa.int64(), np.dtype(np.float32), nested)

    def found() -> Iterator[Found]:
        for first, vectors in ahead(dataset.batches(rows)):
            last = first + len(vectors)
            few = index.knn(
                vectors,
                k,
                exclude=None if known is None else known.of(first, last),
                plan=plan,
                num_threads=num_threads,
                progress=False,
            )
            yield from of_neighbors(np.arange(first, last), few.distances, few.indices)
            if told:
                told(last, len(dataset))

    with (
        creating(place) as file,
        reporter(progress, "query_index") as told,
    ):
        pairs = write_tables(pair_tables(found(), schema, ids, None), file, schema, layout)
    seconds = time.perf_counter() - start
    return FoundInIndex(shown(place), len(dataset), len(index), pairs, seconds, plan)
