"""The ids of a dataset by row number, on disk: as many as rows, of which few are needed at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lshjoin.base.atomic import replacing
from lshjoin.files.datasets import Dataset
from lshjoin.files.job import Job
from lshjoin.files.pairs import ROW_GROUP

if TYPE_CHECKING:
    import pyarrow as pa


def row_ids(job: Job, side: str, dataset: Dataset) -> pa.Array | None:
    """The ids of a dataset, kept in the job's directory; None where rows go by their numbers."""
    if dataset.id_column is None:
        return None
    path = job.path(f"{side}-ids")
    if not path.exists():
        store_ids(dataset, path)
    return load_ids(dataset, path)


def check_distinct(ids: pa.Array | None) -> None:
    """ValueError naming an id that comes twice; row numbers, None, do not."""
    import pyarrow.compute as pc

    if ids is None:
        return
    order = pc.sort_indices(ids)
    for start in range(0, len(ids), ROW_GROUP):
        # One more than the piece, so that equal ids do not fall between two.
        part = ids.take(order[start : start + ROW_GROUP + 1])
        twice = pc.index(pc.equal(part[1:], part[:-1]), True).as_py()
        if twice >= 0:
            rows = sorted(order[start + twice : start + twice + 2].to_pylist())
            raise ValueError(
                f"id {part[twice]} is that of rows {rows[0]} and {rows[1]}; every row needs an id "
                "of its own"
            )


def store_ids(dataset: Dataset, path: Path) -> None:
    """Writes the buffers of one Arrow array: to ``path`` its values, strings' ends beside it."""
    import pyarrow as pa

    # Strings' values are there before their ends: the last file makes both valid.
    if pa.types.is_integer(dataset.id_type):
        with replacing(path) as temporary, temporary.open("wb") as values:
            for ids in dataset.ids():
                values.write(ids.to_numpy().tobytes())
        return
    end = np.zeros(1, np.int64)
    with (
        replacing(_ends(path)) as of_ends,
        replacing(path) as of_values,
        of_ends.open("wb") as ends,
        of_values.open("wb") as values,
    ):
        ends.write(end.tobytes())
        for ids in dataset.ids():
            ids = ids.cast(pa.large_string())
            limits = np.frombuffer(ids.buffers()[1], np.int64)[ids.offset :][: len(ids) + 1]
            ends.write((limits[1:] - limits[0] + end).tobytes())
            values.write(ids.buffers()[2][limits[0] : limits[-1]])
            end += limits[-1] - limits[0]


def load_ids(dataset: Dataset, path: Path) -> pa.Array:
    """What :func:`store_ids` wrote, mapped into memory."""
    import pyarrow as pa

    def mapped(path: Path) -> pa.Buffer:
        return pa.memory_map(str(path)).read_buffer() if path.stat().st_size else pa.py_buffer(b"")

    rows = len(dataset)
    if pa.types.is_integer(dataset.id_type):
        files, type_, size = [path], dataset.id_type, rows * dataset.id_type.bit_width // 8
    else:
        files, type_, size = [_ends(path), path], pa.large_string(), 8 * (rows + 1)
    buffers = [mapped(file) for file in files]
    try:
        if buffers[0].size != size:  # of which Arrow would read past the end
            raise pa.ArrowInvalid(f"it has {buffers[0].size} bytes, not {size}")
        ids = pa.Array.from_buffers(type_, rows, [None, *buffers])
        ids.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{files[0]} is damaged: {error}; delete it, and run it again") from None
    return ids


def _ends(path: Path) -> Path:
    return path.with_name(f"{path.name}-ends")
