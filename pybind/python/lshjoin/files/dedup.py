"""Near-duplicates in files: their groups, and which row of each to keep."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lshjoin.arrays.groups import (
    Linkage,
    Rows,
    by_component,
    by_representative,
    check_linkage,
    first_rows,
)
from lshjoin.arrays.neighbors import BinaryMetric, Metric
from lshjoin.arrays.sides import are_bits
from lshjoin.base.checks import to_radius
from lshjoin.base.columns import taken
from lshjoin.base.paths import result_place
from lshjoin.base.places import Filesystem, StoragePath, shown
from lshjoin.base.progress import Progress
from lshjoin.files.datasets import Dataset, open_side
from lshjoin.files.job import begin
from lshjoin.files.joins import radius_join_files
from lshjoin.files.keep import keep_order
from lshjoin.files.keys import KeyColumns
from lshjoin.files.pairs import ROW_GROUP
from lshjoin.files.results import Format, to_layout, write_tables
from lshjoin.files.sides import Sides
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
    groups: int  #: of more than one row, old rows counted
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
    metric: Metric | BinaryMetric = "euclidean",
    within: str | None = None,
    keep: str = "first",
    linkage: Linkage = "component",
    against: Source | None = None,
    memory_limit: int | str | None = None,
    work_dir: StoragePath | None = None,
    num_threads: int | None = None,
    progress: Progress = None,
) -> FilesDeduplication:
    """:func:`lshjoin.dedup` of vectors in files: a row for each of the items, to a file.

    Args:
        items: files of vectors, as for :func:`lshjoin.knn_join_files`.
        threshold: rows nearer than that are duplicates, in the units of the metric.
        out: the file to write, in the format that its name ends with, a row for each of the items:
            its ``id`` (row number without ``id_column``), the ``group``, which is the id of the
            group's first row, and whether to ``keep`` it, true for one row of a group; with
            ``against`` also ``match``, the id of the old row that it is a duplicate of, null where
            there is none.
        column: as for :func:`lshjoin.knn_join_files`.
        id_column: as for :func:`lshjoin.knn_join_files`, each id of items once.
        filesystem: as for :func:`lshjoin.knn_join_files`.
        format: as for :func:`lshjoin.knn_join_files`; with ``against`` not "npz", which has no
            nulls.
        metric: as for :func:`lshjoin.radius_join_files`.
        within: a column of keys, as for :func:`lshjoin.knn_join_files`, also of ``against``: only
            rows of equal keys are duplicates.
        keep: which row of a group: "first"; "last"; "longest", the one with most characters in its
            columns of strings; or a column, the one with the largest value. Of several the first;
            nulls and NaN come last. Columns are of Parquet and Arrow files; their values are read
            into memory.
        linkage: "component", where duplicates of duplicates are in one group, or "representative",
            where all rows of a group are nearer to the kept one than the threshold, as for
            :func:`lshjoin.dedup`; this has all pairs in memory.
        against: files of old rows, with the same columns, that are all kept: of rows near one of
            them none is. With "component", nor are duplicates of these.
        memory_limit: as for :func:`lshjoin.knn_join_files`; groups need some 100 bytes a row
            besides.
        work_dir: as for :func:`lshjoin.knn_join_files`.
        num_threads: threads to use; all cores if None.
        progress: as for :func:`lshjoin.knn_join`.

    Raises:
        ImportError: for "component" without scipy.
        OSError, TypeError, ValueError: as :func:`lshjoin.radius_join_files`; ValueError for an id
            that comes twice, which would be two groups of one name, and a ``keep`` that files have
            no column for; TypeError for values without an order.

    Examples:
        >>> import numpy as np
        >>> import pyarrow.parquet as pq
        >>> from lshjoin import dedup_files
        >>> np.save("items.npy", np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.1], [0.0, 0.2]]))
        >>> dedup_files("items.npy", 0.15, out="groups.parquet").kept
        2
        >>> pq.read_table("groups.parquet").to_pydict()["group"]
        [0, 1, 0, 0]
        >>> np.save("new.npy", np.array([[3.0, 4.05], [7.0, 7.0]]))
        >>> dedup_files("new.npy", 0.15, out="new.parquet", against="items.npy").kept
        1
        >>> pq.read_table("new.parquet").to_pydict()["match"]
        [1, None]
        >>> import pyarrow as pa
        >>> shops = pa.table({"v": [[0.0], [0.1], [0.2]], "shop": ["a", "b", "a"]})
        >>> dedup_files(shops, 0.3, within="shop", out="shops.parquet").kept
        2
    """
    import pyarrow.parquet as pq

    check_linkage(linkage)
    threshold = to_radius(threshold, "threshold")
    start = time.perf_counter()
    place = result_place(out, filesystem)
    layout = to_layout(place, format)
    if against is not None and layout.format == "npz":
        raise ValueError("rows without a match are null, which npz has not; write another format")
    keys, bits = KeyColumns(within), are_bits(metric)
    dataset = open_side(items, column, id_column, filesystem, keys.names(), bits)
    old = None
    if against is not None:
        old = open_side(against, column, id_column, filesystem, keys.names(), bits)
        # Which refuses vectors of another length.
        Sides.open(dataset, old, None, id_column, None, keys, metric=metric)
    work = {
        "command": "dedup",
        "threshold": threshold,
        "metric": metric,
        "within": within,
        "keep": keep,
        "linkage": linkage,
        "items": dataset.identity,
        "against": None if old is None else old.identity,
        "layout": asdict(layout),
    }
    with closing(begin(work, place, work_dir)) as job:
        if not job.finished:
            ids = row_ids(job, "items", dataset)
            old_ids = None if old is None else row_ids(job, "against", old)
            try:
                check_distinct(ids)
                order = keep_order(keep, dataset)
            except (TypeError, ValueError):
                job.finish()  # there is nothing to go on with
                raise

            def near(name: str, others: Dataset | None) -> Iterable[pa.RecordBatch]:
                pairs = job.path(name)
                if not job.done(name):
                    radius_join_files(
                        replace(dataset, id_column=None),
                        None if others is None else replace(others, id_column=None),
                        threshold,
                        out=pairs,
                        metric=metric,
                        within=within,
                        memory_limit=memory_limit,
                        num_threads=num_threads,
                        progress=progress,
                    )
                batches: Iterable[pa.RecordBatch] = pq.ParquetFile(pairs).iter_batches(ROW_GROUP)
                return batches

            pairs = near("pairs.parquet", None)
            old_pairs = () if old is None else near("old-pairs.parquet", old)
            labels, kept, matches = (
                by_component(order, pairs, old_pairs, 0 if old is None else len(old))
                if linkage == "component"
                else by_representative(order, pairs, old_pairs)
            )
            groups = Groups(first_rows(labels), kept, None if old is None else matches)

            def write(path: Path) -> dict[str, int]:
                schema = _schema(dataset.id_type, None if old is None else old.id_type)
                write_tables(_tables(groups, ids, old_ids, schema), path, schema, layout)
                return groups.counts()

            job.write_result(write)
        job.finish()
    return FilesDeduplication(shown(place), **job.counts, seconds=time.perf_counter() - start)


@dataclass(frozen=True, eq=False)
class Groups:
    """For each row by number the first one of its group, the kept one and an old one, or -1."""

    first: Rows
    kept: Rows
    matches: Rows | None

    def counts(self) -> dict[str, int]:
        """What :class:`FilesDeduplication` tells."""
        sizes = np.bincount(self.first, minlength=len(self.first))
        if self.matches is not None:
            sizes[self.first[self.matches >= 0]] += 1  # the old row
        keep = self.kept == np.arange(len(self.kept))
        return {
            "rows": len(self.first),
            "groups": int((sizes > 1).sum()),
            "kept": int(keep.sum()),
        }


def _schema(id_type: pa.DataType, old_type: pa.DataType | None) -> pa.Schema:
    import pyarrow as pa

    types = {"id": id_type, "group": id_type, "keep": pa.bool_()}
    fields = [pa.field(*column, nullable=False) for column in types.items()]
    return pa.schema(fields if old_type is None else [*fields, pa.field("match", old_type)])


def _tables(
    groups: Groups, ids: pa.Array | None, old_ids: pa.Array | None, schema: pa.Schema
) -> Iterator[pa.Table]:
    import pyarrow as pa

    for start in range(0, len(groups.first), ROW_GROUP):
        part = slice(start, start + ROW_GROUP)
        group = groups.first[part]
        rows = np.arange(start, start + len(group))
        named = [pa.array(part) if ids is None else taken(ids, part) for part in (rows, group)]
        columns = [*named, pa.array(groups.kept[part] == rows)]
        if groups.matches is not None:
            match = groups.matches[part]
            found = pa.array(match, mask=match < 0)
            columns.append(found if old_ids is None else old_ids.take(found))
        yield pa.table(columns, schema=schema)
