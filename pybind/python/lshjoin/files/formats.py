"""One file of vectors: Parquet, Arrow IPC or .npy, what is in it, and its columns in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lshjoin.base.keys import key_type
from lshjoin.base.places import Place, readable
from lshjoin.base.vectors import (
    array_matrix,
    column_matrix,
    list_type,
    packed_bits,
    packed_column,
    readable_dtype,
)
from lshjoin.files.ids import id_type
from lshjoin.files.npy import npy_header, npy_rows

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

#: What pyarrow reads at once of a column: here, and where each time takes a round trip.
_BUFFER, _REMOTE_BUFFER = 1 << 20, 16 << 20

#: What is decoded at once: blocks of 1 MB go back to the system when the command line frees them,
#: and new memory each time takes longer to get than to fill.
_DECODED = 3 << 18


@dataclass(frozen=True)
class VectorFile:
    """One file of a dataset."""

    path: Place
    column: str | None  #: of vectors; None in .npy, which has no columns
    rows: int
    dim: int | None  #: None where no row says
    dtype: np.dtype[Any]
    bits: bool  #: whether rows are packed bits, of bytes, and no vectors
    id_type: pa.DataType | None
    key_types: Mapping[str, pa.DataType]  #: by column of keys
    said: Mapping[str, pa.Scalar]  #: values of all its rows, of columns that the file has not

    def vectors(self, first: int, last: int, rows: int, dim: int) -> Iterator[Matrix]:
        """Rows ``first`` to ``last``, of ``dim`` elements each, at most ``rows`` at a time."""
        import pyarrow as pa

        if self.column is None:
            for start in range(first, last, rows):
                array = npy_rows(self.path, start, min(start + rows, last))
                name = str(self.path)
                yield packed_bits(array, name) if self.bits else array_matrix(array, name)
            return
        name = f"{self.column} of {self.path}"
        rows = min(rows, max(_DECODED // (dim * self.dtype.itemsize), 1))
        for cells in column_pieces(self.path, self.column, first, last, rows):
            yield column_rows(pa.chunked_array([cells]), name, dim, first, bits=self.bits)
            first += len(cells)

    def values(self, name: str, rows: int) -> Iterator[pa.Array]:
        """The ids or keys of all rows, at most so many at a time."""
        import pyarrow as pa

        if name not in self.said:
            yield from column_pieces(self.path, name, 0, self.rows, rows)
            return
        for start in range(0, self.rows, rows):
            yield pa.repeat(self.said[name], min(rows, self.rows - start))


def column_rows(
    column: pa.ChunkedArray, name: str, dim: int | None = None, first_row: int = 0, *, bits: bool
) -> Matrix:
    """The vectors of a column, or packed ``bits``, as :func:`column_matrix`."""
    read = packed_column if bits else column_matrix
    return read(column, name, dim, first_row)


def open_file(
    path: Place,
    column: str | None,
    id_column: str | None,
    keys: Sequence[str],
    said: Mapping[str, pa.Scalar],
    bits: bool,
) -> VectorFile:
    """What is in a file; without ``column`` its vectors are those of the only one of lists.

    ``said`` has ids or keys of all rows, where the file has no such column.

    Raises:
        TypeError, ValueError: for a file that is not readable as vectors; names the file and the
            column and says what to do.
    """
    if _format(path) == "npy":
        return _npy_file(path, id_column, keys, said, bits)
    return _arrow_file(path, column, id_column, keys, said, bits)


def _format(path: Place) -> str:
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        known = ", ".join(FORMATS)
        raise ValueError(f"{path} is of no kind that is read here: {known}") from None


def _npy_file(
    path: Place,
    id_column: str | None,
    keys: Sequence[str],
    said: Mapping[str, pa.Scalar],
    bits: bool,
) -> VectorFile:
    for name in keys if id_column is None else (id_column, *keys):
        if name not in said:
            raise ValueError(
                f"{path} has no column {name}: .npy holds vectors only, whose rows go by number"
            )
    shape, stored = npy_header(path)
    if len(shape) != 2 or shape[1] == 0:
        raise ValueError(f"{path} must be 2-D, one vector a row, but has shape {shape}")
    if bits:
        dtype = packed_bits(np.empty((0, 1), stored), str(path)).dtype  # or an error
    else:
        dtype = readable_dtype(stored, f"{path} must hold real numbers but holds {stored}")
    types = {name: key_type(said[name].type, name) for name in keys}
    of_ids = None if id_column is None else said[id_column].type
    return VectorFile(path, None, shape[0], shape[1], dtype, bits, of_ids, types, said)


@contextmanager
def _reading(path: Place) -> Iterator[None]:
    """Errors of pyarrow as errors of the file."""
    import pyarrow as pa

    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and not isinstance(path, Path):  # the file may be sound
            raise OSError(f"{path} could not be read: {error}") from None
        raise ValueError(f"{path} is not a readable {_format(path)} file: {error}") from None


def _open_parquet(path: Place) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    # Columns in pieces, not whole: row groups may be larger than the memory there is.
    buffer = _BUFFER if isinstance(path, Path) else _REMOTE_BUFFER
    return pq.ParquetFile(readable(path), buffer_size=buffer, pre_buffer=False)


def _open_ipc(path: Place) -> pa.NativeFile:
    """A file of record batches, whose columns are all read where it is not mapped.

    pyarrow could read some of them, but then takes a read that comes short for a whole one.
    """
    import pyarrow as pa

    return pa.memory_map(str(path)) if isinstance(path, Path) else path.open()


def _schema_and_rows(path: Place) -> tuple[pa.Schema, int]:
    import pyarrow as pa
    import pyarrow.ipc

    with _reading(path):
        if _format(path) == "parquet":
            file = _open_parquet(path)
            return file.schema_arrow, file.metadata.num_rows
        file = pa.ipc.open_file(_open_ipc(path))
        _ = file.schema.names  # which are decoded only here
        batches = (file.get_batch(number) for number in range(file.num_record_batches))
        return file.schema, sum(batch.num_rows for batch in batches)


def schema_of(path: Place) -> pa.Schema:
    """The columns of a file that has some."""
    return _schema_and_rows(path)[0]


def column_pieces(path: Place, name: str, first: int, last: int, rows: int) -> Iterator[pa.Array]:
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


def _from_row(path: Place, name: str, first: int, rows: int) -> Iterator[pa.Array]:
    """A column from its first row on; values before ``first`` need not be its own."""
    import pyarrow as pa

    if _format(path) == "ipc":
        batches = pa.ipc.open_file(_open_ipc(path))
        for number in range(batches.num_record_batches):
            yield batches.get_batch(number).column(batches.schema.get_field_index(name))
        return
    file = _open_parquet(path)
    lengths = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    skipped = 0
    while skipped < len(lengths) and lengths[skipped] <= first:
        yield pa.nulls(lengths[skipped])  # not read
        first -= lengths[skipped]
        skipped += 1
    groups = list(range(skipped, len(lengths)))
    for batch in file.iter_batches(rows, row_groups=groups, columns=[name], use_threads=False):
        yield batch.column(0)


def _arrow_file(
    path: Place,
    column: str | None,
    id_column: str | None,
    keys: Sequence[str],
    said: Mapping[str, pa.Scalar],
    bits: bool,
) -> VectorFile:
    import pyarrow as pa

    schema, rows = _schema_and_rows(path)
    column = column or only_vector_column(schema, path)
    vectors, name = field_of(schema, column, path).type, f"{column} of {path}"
    # A column of no rows tells whether the type is one of vectors, and of which.
    dtype = column_rows(pa.chunked_array([], vectors), name, bits=bits).dtype
    lists = list_type(vectors)
    dim = lists.list_size if lists and pa.types.is_fixed_size_list(lists) else None
    if dim is None and rows:
        cell = next(column_pieces(path, column, 0, 1, 1))
        dim = column_rows(pa.chunked_array([cell]), name, bits=bits).shape[1]
    said = {name: value for name, value in said.items() if name not in schema.names}
    for name, value in said.items():
        schema = schema.append(pa.field(name, value.type))
    of_ids, of_keys = ids_of(schema, id_column, path), keys_of(schema, keys, path)
    return VectorFile(path, column, rows, dim, dtype, bits, of_ids, of_keys, said)


def ids_of(schema: pa.Schema, name: str | None, source: object) -> pa.DataType | None:
    """The type of ids of a column, None without a column. TypeError for other values."""
    if name is None:
        return None
    stored = field_of(schema, name, source).type
    of_ids = id_type(stored)
    if of_ids is None:
        raise TypeError(f"column {name} of {source} holds {stored}; ids are integers or strings")
    return of_ids


def keys_of(schema: pa.Schema, names: Sequence[str], source: object) -> dict[str, pa.DataType]:
    """The types of keys by column. TypeError for other values."""
    return {
        name: key_type(field_of(schema, name, source).type, f"column {name} of {source}")
        for name in names
    }


def field_of(schema: pa.Schema, name: str, source: object) -> pa.Field:
    """The only column of a name. ValueError when there is none, or two."""
    if schema.names.count(name) != 1:
        raise ValueError(
            f"{source} has {schema.names.count(name) or 'no'} column {name}; "
            f"its columns are {', '.join(schema.names)}"
        )
    return schema.field(name)


def only_vector_column(schema: pa.Schema, source: object) -> str:
    """The only column of lists. ValueError when there is none, or two."""
    lists = [field.name for field in schema if list_type(field.type)]
    if len(lists) != 1:
        raise ValueError(
            f"{source} has {len(lists) or 'no'} columns of lists{': ' if lists else ''}"
            f"{', '.join(lists)}; say which column holds the vectors"
        )
    name: str = lists[0]
    return name
