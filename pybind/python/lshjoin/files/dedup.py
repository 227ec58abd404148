"""Near-duplicates in files: groups of rows that chains of near pairs hold together."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lshjoin.arrays.groups import Components, first_rows, require_scipy
from lshjoin.arrays.neighbors import Metric
from lshjoin.base.checks import to_radius
from lshjoin.base.columns import taken
from lshjoin.base.paths import result_place
from lshjoin.base.places import Filesystem, StoragePath, shown
from lshjoin.base.progress import Progress
from lshjoin.files.datasets import open_dataset
from lshjoin.files.job import begin
from lshjoin.files.joins import radius_join_files
from lshjoin.files.pairs import ROW_GROUP
from lshjoin.files.results import Format, to_layout, write_tables
from lshjoin.files.sources import Source
from lshjoin.files.stored_ids import check_distinct, row_ids

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class FilesDeduplication:
    """What :func:`dedup_files` came to."""

    #: The file; text where it is not on this machine.
    out: Path | str
    rows: int
    groups: int  #: of more than one row
    kept: int
    seconds: float


def dedup_files(
    items: Source,
    threshold: float,
    *,
    out: StoragePath,
    column: str | None = None,
    id_column: str | None = None,
    filesystem: Filesystem | None = None,
    format: Format | None = None,
    metric: Metric = "euclidean",
    memory_limit: int | str | None = None,
    work_dir: StoragePath | None = None,
    num_threads: int | None = None,
    progress: Progress = None,
) -> FilesDeduplication:
    """Groups of near-duplicates: the connected components of the pairs nearer than a threshold.

    Args:
        items: files of vectors, as for :func:`lshjoin.knn_join_files`.
        threshold: rows nearer than that are duplicates, and so are duplicates of duplicates; in the
            units of the metric.
        out: the file to write, in the format that its name ends with, a row for each of the items:
            its ``id`` (row number without ``id_column``), the ``group``, which is the id of the
            group's first row, and ``keep``, true for first rows.
        column: as for :func:`lshjoin.knn_join_files`.
        id_column: as for :func:`lshjoin.knn_join_files`, each id once.
        filesystem: as for :func:`lshjoin.knn_join_files`.
        format: as for :func:`lshjoin.knn_join_files`.
        metric: as for :func:`lshjoin.radius_join`.
        memory_limit: as for :func:`lshjoin.knn_join_files`; groups need 24 bytes a row besides.
        work_dir: as for :func:`lshjoin.knn_join_files`.
        num_threads: threads to use; all cores if None.
        progress: as for :func:`lshjoin.knn_join`.

    Raises:
        ImportError: without scipy.
        OSError, TypeError, ValueError: as :func:`lshjoin.radius_join_files`; ValueError for an id
            that comes twice, which would be two groups of one name.

    Examples:
        >>> import numpy as np
        >>> import pyarrow.parquet as pq
        >>> from lshjoin import dedup_files
        >>> np.save("items.npy", np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.1], [0.0, 0.2]]))
        >>> dedup_files("items.npy", 0.15, out="groups.parquet").kept
        2
        >>> pq.read_table("groups.parquet").to_pydict()["group"]
        [0, 1, 0, 0]
    """
    require_scipy()
    threshold = to_radius(threshold, "threshold")
    start = time.perf_counter()
    place = result_place(out, filesystem)
    layout = to_layout(place, format)
    dataset = open_dataset(items, column, id_column, filesystem=filesystem)
    work = {
        "command": "dedup",
        "threshold": threshold,
        "metric": metric,
        "items": dataset.identity,
        "layout": asdict(layout),
    }
    with closing(begin(work, place, work_dir)) as job:
        if not job.finished:
            ids = row_ids(job, "items", dataset)
            try:
                check_distinct(ids)
            except ValueError:
                job.finish()  # there is nothing to go on with
                raise
            pairs = job.path("pairs.parquet")
            if not job.done(pairs.name):
                radius_join_files(
                    replace(dataset, id_column=None),
                    radius=threshold,
                    out=pairs,
                    metric=metric,
                    memory_limit=memory_limit,
                    num_threads=num_threads,
                    progress=progress,
                )
            first = _first_of_group(pairs, len(dataset))

            def write(path: Path) -> dict[str, int]:
                schema = _schema(dataset.id_type)
                write_tables(_tables(first, ids, schema), path, schema, layout)
                return _counts(first)

            job.write_result(write)
        job.finish()
    return FilesDeduplication(shown(place), **job.counts, seconds=time.perf_counter() - start)


def _first_of_group(pairs: Path, rows: int) -> NDArray[np.int64]:
    """For each row the first row of its connected component; a row group of pairs at a time."""
    import pyarrow.parquet as pq

    components = Components(rows)
    for batch in pq.ParquetFile(pairs).iter_batches(ROW_GROUP, columns=["query", "item"]):
        components.connect(*(column.to_numpy() for column in batch.columns))
    return first_rows(components.labels)


def _schema(id_type: pa.DataType) -> pa.Schema:
    import pyarrow as pa

    types = {"id": id_type, "group": id_type, "keep": pa.bool_()}
    return pa.schema([pa.field(*column, nullable=False) for column in types.items()])


def _tables(
    first: NDArray[np.int64], ids: pa.Array | None, schema: pa.Schema
) -> Iterator[pa.Table]:
    import pyarrow as pa

    for start in range(0, len(first), ROW_GROUP):
        group = first[start : start + ROW_GROUP]
        rows = np.arange(start, start + len(group))
        named = [pa.array(part) if ids is None else taken(ids, part) for part in (rows, group)]
        yield pa.table([*named, pa.array(rows == group)], schema=schema)


def _counts(first: NDArray[np.int64]) -> dict[str, int]:
    sizes = np.bincount(first, minlength=len(first))
    return {
        "rows": len(first),
        "groups": int((sizes > 1).sum()),
        "kept": int((sizes > 0).sum()),
    }
