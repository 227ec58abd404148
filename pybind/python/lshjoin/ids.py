"""Ids: integers or strings, whatever they are stored as.

Those of files are kept by row number, on disk: as many as there are rows, of which few are needed
at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lshjoin.job import replacing
from lshjoin.pairs import ROW_GROUP
from lshjoin.vectors import refuse_masked

if TYPE_CHECKING:
    import pyarrow as pa

    from lshjoin.datasets import Dataset


def integer_ids(ids: ArrayLike) -> NDArray[np.int64]:
    """The ids of an index: integers of 64 bits, where the engine can read them."""
    refuse_masked(ids, "ids")
    values = np.asarray(ids)
    if values.ndim != 1:
        raise ValueError(f"ids must be 1-D, one an item, but have {values.ndim} dimensions")
    if values.size == 0:
        return np.empty(0, np.int64)
    if values.dtype.kind not in "iu":
        raise TypeError(f"ids must be integers, not {values.dtype}")
    if values.dtype.kind == "u" and values.max() > np.iinfo(np.int64).max:
        raise ValueError(
            f"id {values.max()} is beyond 2**63 - 1, the largest that an index holds; "
            "view such ids as int64, or number the rows"
        )
    return np.require(values, np.int64, ["C_CONTIGUOUS", "ALIGNED"])


def id_type(stored: pa.DataType) -> pa.DataType | None:
    """Integers or strings, as ids that are stored so are written; None for what is neither."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(stored):
        return id_type(stored.value_type)
    if types.is_integer(stored) or types.is_string(stored) or types.is_large_string(stored):
        return stored
    return pa.large_string() if types.is_string_view(stored) else None


def are_strings(*types: pa.DataType) -> bool:
    """Whether ids of all these types are strings."""
    import pyarrow as pa

    return all(pa.types.is_string(one) or pa.types.is_large_string(one) for one in types)


def plain_ids(stored: pa.Array, of_type: pa.DataType) -> pa.Array:
    """Ids in an :func:`id_type`."""
    import pyarrow as pa

    if pa.types.is_dictionary(stored.type):
        return plain_ids(stored.dictionary, of_type).take(stored.indices)
    return stored.cast(of_type)


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
