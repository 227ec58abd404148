"""Ids by row number, on disk: as many as there are rows, of which few are needed at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lshjoin.job import replacing

if TYPE_CHECKING:
    import pyarrow as pa

    from lshjoin.datasets import Dataset


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

    if pa.types.is_integer(dataset.id_type):
        return pa.Array.from_buffers(dataset.id_type, len(dataset), [None, mapped(path)])
    buffers = [None, mapped(_ends(path)), mapped(path)]
    return pa.Array.from_buffers(pa.large_string(), len(dataset), buffers)


def _ends(path: Path) -> Path:
    return path.with_name(f"{path.name}-ends")
