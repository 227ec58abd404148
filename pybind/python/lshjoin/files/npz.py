"""Results as NumPy's .npz: an array a column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from lshjoin.files.ids import are_strings
from lshjoin.files.pairs import NEIGHBORS

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


@contextmanager
def npz_writer(sink: Any, schema: pa.Schema, directory: Path) -> Iterator[pq.ParquetWriter]:
    """Takes tables, and has written their columns in the end; of nested pairs ``lims``, too.

    The file holds array after array, but tables come row after row. So they go to a Parquet file
    without a name first, from which each array is written in pieces.

    Args:
        sink: an open file to write.
        schema: of the tables to come.
        directory: which has room for all of them.
    """
    import pyarrow.parquet as pq

    with TemporaryFile(dir=directory) as rows:
        with pq.ParquetWriter(rows, schema, compression="zstd") as tables:
            yield tables
        rows.seek(0)
        stored = pq.ParquetFile(rows)
        with ZipFile(sink, "w") as file:
            for name in schema.names:
                if name == NEIGHBORS:
                    _write_array(file, "lims", partial(_lims, stored))
                    for inner in ("item", "distance"):
                        _write_array(file, inner, partial(_column, stored, inner))
                else:
                    _write_array(file, name, partial(_column, stored, name))


def _write_array(file: ZipFile, name: str, pieces: Callable[[], Iterator[NDArray[Any]]]) -> None:
    """Two times through the pieces: its length and, of strings, the width come first."""
    sizes, dtypes = zip(*((len(piece), piece.dtype) for piece in pieces()), strict=True)
    dtype = np.result_type(*dtypes)
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (sum(sizes),),
    }
    with file.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for piece in pieces():
            member.write(piece.astype(dtype, copy=False).tobytes())


def _tables(tables: pq.ParquetFile, column: str) -> Iterator[pa.ListArray | pa.Array]:
    """A column in pieces, of which the first is empty: that there is one tells the type."""
    groups = (tables.read_row_group(group, [column]) for group in range(tables.num_row_groups))
    for table in chain([tables.schema_arrow.empty_table()], groups):
        yield table[column].combine_chunks()


def _column(tables: pq.ParquetFile, name: str) -> Iterator[NDArray[Any]]:
    """The values of a column, which may be inside the nested one."""
    nested = name not in tables.schema_arrow.names
    for column in _tables(tables, NEIGHBORS if nested else name):
        values = column.flatten().field(name) if nested else column
        if are_strings(values.type):
            yield np.array(values.to_pylist(), np.str_)
        else:
            yield values.to_numpy(zero_copy_only=False)  # which booleans are not


def _lims(tables: pq.ParquetFile) -> Iterator[NDArray[np.int64]]:
    """Where the pairs of each query begin and end, as in :class:`lshjoin.RadiusNeighbors`."""
    last = 0
    yield np.zeros(1, np.int64)
    for column in _tables(tables, NEIGHBORS):
        ends = last + np.cumsum(column.value_lengths().to_numpy(), dtype=np.int64)
        last = ends[-1] if len(ends) else last
        yield ends
