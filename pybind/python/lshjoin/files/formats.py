"""One file of vectors: Parquet, Arrow IPC or .npy, what is in it, and its columns in pieces."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lshjoin.base.vectors import array_matrix, column_matrix, engine_dtype, list_type
from lshjoin.files.ids import id_type

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lshjoin._lshjoin import Matrix


#: What is read, by how the name ends.
FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "ipc",
    ".feather": "ipc",
    ".ipc": "ipc",
    ".npy": "npy",
}

#: What pyarrow reads ahead of a column.
_BUFFER = 1 << 20


@dataclass(frozen=True)
class VectorFile:
    """One file of a dataset."""

    path: Path
    column: str | None  #: of vectors; None in .npy, which has no columns
    rows: int
    dim: int | None  #: None where no row says
    dtype: np.dtype[Any]
    id_type: pa.DataType | None

    def vectors(self, first: int, last: int, rows: int, dim: int) -> Iterator[Matrix]:
        """Rows ``first`` to ``last``, of ``dim`` elements each, at most ``rows`` at a time."""
        import pyarrow as pa

        if self.column is None:
            for start in range(first, last, rows):
                # Mapped anew for each batch, so that what was read does not stay resident.
                array = _map_npy(self.path)[start : min(start + rows, last)]
                yield array_matrix(np.array(array), str(self.path))
            return
        name = f"{self.column} of {self.path}"
        for cells in column_pieces(self.path, self.column, first, last, rows):
            yield column_matrix(pa.chunked_array([cells]), name, dim, first)
            first += len(cells)


def open_file(path: Path, column: str | None, id_column: str | None) -> VectorFile:
    """What is in a file; without ``column`` its vectors are those of the only one of lists.

    Raises:
        TypeError, ValueError: for a file that is not readable as vectors; names the file and the
            column and says what to do.
    """
    if _format(path) == "npy":
        return _npy_file(path, id_column)
    return _arrow_file(path, column or _only_vector_column(path), id_column)


def _format(path: Path) -> str:
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        known = ", ".join(FORMATS)
        raise ValueError(f"{path} is of no kind that is read here: {known}") from None


def _map_npy(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except MemoryError:
        raise
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError(f"there is no memory to map {path}") from None
        raise
    except Exception as error:  # of all kinds, of NumPy's reading of a header that is damaged
        raise ValueError(f"{path} is not a readable .npy file: {error}") from None
    return array


def _npy_file(path: Path, id_column: str | None) -> VectorFile:
    if id_column is not None:
        raise ValueError(f"{path} has no column {id_column}: rows of .npy go by their number")
    array = _map_npy(path)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{path} must be 2-D, one vector a row, but has shape {array.shape}")
    dtype = engine_dtype(array.dtype, f"{path} must hold real numbers but holds {array.dtype}")
    return VectorFile(path, None, array.shape[0], array.shape[1], dtype, None)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Errors of pyarrow as errors of the file."""
    import pyarrow as pa

    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a readable {_format(path)} file: {error}") from None


def _open(path: Path) -> pq.ParquetFile | pa.ipc.RecordBatchFileReader:
    import pyarrow as pa
    import pyarrow.ipc
    import pyarrow.parquet as pq

    if _format(path) == "parquet":
        # Columns in pieces, not whole: row groups may be larger than the memory there is.
        return pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
    return pa.ipc.open_file(pa.memory_map(str(path)))


def _schema_and_rows(path: Path) -> tuple[pa.Schema, int]:
    with _reading(path):
        file = _open(path)
        if _format(path) == "parquet":
            return file.schema_arrow, file.metadata.num_rows
        _ = file.schema.names  # which are decoded only here
        batches = (file.get_batch(number) for number in range(file.num_record_batches))
        return file.schema, sum(batch.num_rows for batch in batches)


def column_pieces(path: Path, name: str, first: int, last: int, rows: int) -> Iterator[pa.Array]:
    """Rows ``first`` to ``last`` of one column, at most so many at a time."""
    with _reading(path):
        before = 0
        for column in _from_row(path, name, first, rows):
            start, stop = (min(max(row - before, 0), len(column)) for row in (first, last))
            for at in range(start, stop, rows):
                piece = column[at : min(at + rows, stop)]
                if _format(path) == "ipc":  # which is read as it lies, wherever its offsets lead
                    piece.validate(full=True)
                yield piece
            before += len(column)
            if before >= last:
                return


def _from_row(path: Path, name: str, first: int, rows: int) -> Iterator[pa.Array]:
    """A column from its first row on; values before ``first`` need not be its own."""
    import pyarrow as pa

    file = _open(path)
    if _format(path) != "parquet":
        for number in range(file.num_record_batches):
            yield file.get_batch(number).column(file.schema.get_field_index(name))
        return
    lengths = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    skipped = 0
    while skipped < len(lengths) and lengths[skipped] <= first:
        yield pa.nulls(lengths[skipped])  # not read
        first -= lengths[skipped]
        skipped += 1
    groups = list(range(skipped, len(lengths)))
    for batch in file.iter_batches(rows, row_groups=groups, columns=[name], use_threads=False):
        yield batch.column(0)


def _arrow_file(path: Path, column: str, id_column: str | None) -> VectorFile:
    import pyarrow as pa

    schema, rows = _schema_and_rows(path)
    vectors = _field(schema, column, path).type
    # A column of no rows tells whether the type is one of vectors, and of which.
    dtype = column_matrix(pa.chunked_array([], vectors), f"{column} of {path}").dtype
    lists = list_type(vectors)
    dim = lists.list_size if lists and pa.types.is_fixed_size_list(lists) else None
    if dim is None and rows:
        cell = next(column_pieces(path, column, 0, 1, 1))
        dim = column_matrix(pa.chunked_array([cell]), f"{column} of {path}").shape[1]
    of_ids = None
    if id_column is not None:
        stored = _field(schema, id_column, path).type
        of_ids = id_type(stored)
        if of_ids is None:
            raise TypeError(
                f"column {id_column} of {path} holds {stored}; ids are integers or strings"
            )
    return VectorFile(path, column, rows, dim, dtype, of_ids)


def _field(schema: pa.Schema, name: str, path: Path) -> pa.Field:
    if schema.names.count(name) != 1:
        raise ValueError(
            f"{path} has {schema.names.count(name) or 'no'} column {name}; "
            f"its columns are {', '.join(schema.names)}"
        )
    return schema.field(name)


def _only_vector_column(path: Path) -> str:
    schema, _ = _schema_and_rows(path)
    lists = [field.name for field in schema if list_type(field.type)]
    if len(lists) != 1:
        raise ValueError(
            f"{path} has {len(lists) or 'no'} columns of lists{': ' if lists else ''}"
            f"{', '.join(lists)}; say which column holds the vectors"
        )
    name: str = lists[0]
    return name
