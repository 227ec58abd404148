"""Vectors in files: Parquet, Arrow IPC and .npy, one or many, read in batches.

Rows are numbered through all files of a dataset, which come in the order of their names.
"""

from __future__ import annotations

import errno
import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lshjoin.errors import NotFiniteError
from lshjoin.ids import are_strings, id_type, plain_ids
from lshjoin.paths import StoragePath, local_path
from lshjoin.vectors import array_matrix, column_matrix, engine_dtype, list_type

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lshjoin._lshjoin import Matrix

#: A file, a folder, a glob pattern, or several of them.
Source = StoragePath | Sequence[StoragePath]

_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "ipc",
    ".feather": "ipc",
    ".ipc": "ipc",
    ".npy": "npy",
}

#: Bytes of vectors that are read at a time.
_PIECE = 16 << 20
_IDS = 1 << 20

#: What pyarrow reads ahead of a column.
_BUFFER = 1 << 20


class Batch(NamedTuple):
    """Some rows that follow each other."""

    first: int  #: the number of the first row in the dataset
    vectors: Matrix


@dataclass(frozen=True)
class VectorFile:
    """One file of a dataset."""

    path: Path
    rows: int
    dim: int | None  #: None where no row says
    dtype: np.dtype[Any]
    id_type: pa.DataType | None


@dataclass(frozen=True)
class Dataset:
    """The vectors, and ids, of some files.

    Examples:
        >>> import numpy as np
        >>> from lshjoin import open_dataset
        >>> np.save("vectors.npy", np.eye(3, dtype=np.float32))
        >>> dataset = open_dataset("vectors.npy")
        >>> len(dataset), dataset.dim, dataset.dtype
        (3, 3, dtype('float32'))
        >>> [batch.vectors.shape for batch in dataset.batches(rows=2)]
        [(2, 3), (1, 3)]
    """

    files: tuple[VectorFile, ...]
    column: str | None  #: of vectors; None where all files are .npy
    id_column: str | None
    dim: int
    dtype: np.dtype[Any]  #: float16, float32 or float64: the widest of the files'

    def __len__(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def id_type(self) -> pa.DataType:
        """Of integers or strings, as what :meth:`ids` gives; int64 for row numbers."""
        import pyarrow as pa

        types = {file.id_type or pa.int64() for file in self.files}
        return pa.large_string() if len(types) > 1 else types.pop()

    @property
    def row_bytes(self) -> int:
        """Of one vector in memory."""
        return self.dim * self.dtype.itemsize

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What tells whether it is still the same: files, sizes and times of change, columns."""
        states = [(file.path.resolve(), file.path.stat()) for file in self.files]
        files = [
            {"path": str(path), "size": state.st_size, "changed": state.st_mtime_ns}
            for path, state in states
        ]
        return {"files": files, "column": self.column, "ids": self.id_column}

    def batches(
        self, rows: int | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[Batch]:
        """Rows in order, ``rows`` at a time, all of them finite and of one dtype.

        Args:
            rows: some 16 MB of them if None; the last batch may be smaller.
            start: the first row.
            stop: the row after the last.

        Raises:
            NotFiniteError: for NaN and infinity, with file and row.
            ValueError: for nulls, or rows of another length, with file and row.
        """
        rows = rows or self._piece_rows
        stop = len(self) if stop is None else stop

        def empty() -> Matrix:
            return np.empty((min(rows, stop - start), self.dim), self.dtype)

        batch, filled = empty(), 0
        for vectors in self._pieces(start, stop, min(rows, self._piece_rows)):
            taken = 0
            while taken < len(vectors):
                part = vectors[taken : taken + len(batch) - filled]
                batch[filled : filled + len(part)] = part
                taken, filled = taken + len(part), filled + len(part)
                if filled == len(batch):
                    yield Batch(start, batch)
                    start += filled
                    batch, filled = empty(), 0

    def read(self, start: int = 0, stop: int | None = None) -> Matrix:
        """The vectors of some rows at once, of all by default."""
        stop = len(self) if stop is None else stop
        for _, vectors in self.batches(max(stop - start, 1), start, stop):
            return vectors
        return np.empty((0, self.dim), self.dtype)

    def sample(self, most: int) -> Matrix:
        """Rows at equal steps, the first one of them, ``most`` of them at most."""
        step = step_of(len(self), most)
        rows = [vectors[-first % step :: step] for first, vectors in self.batches()]
        return np.concatenate([np.empty((0, self.dim), self.dtype), *rows])

    @property
    def _piece_rows(self) -> int:
        return max(_PIECE // self.row_bytes, 1)

    def _pieces(self, start: int, stop: int, rows: int) -> Iterator[Matrix]:
        before = 0
        for file in self.files:
            first, last = (min(max(row - before, 0), file.rows) for row in (start, stop))
            if first < last:
                for vectors in self._vectors(file, first, last, rows):
                    self._check_finite(file, first, vectors)
                    yield vectors
                    first += len(vectors)
                if first != last:
                    raise ValueError(
                        f"{file.path} held {file.rows} rows but now holds {first}; "
                        "leave files as they are while they are read"
                    )
            before += file.rows

    def ids(self) -> Iterator[pa.Array]:
        """The id column, in pieces of its type, whatever files have. ValueError for a null."""
        assert self.id_column is not None
        for file in self.files:
            first = 0
            for stored in _column(file.path, self.id_column, 0, file.rows, _IDS):
                ids = plain_ids(stored, self.id_type)
                if ids.null_count:
                    row = first + ids.is_null().index(True).as_py()
                    raise ValueError(
                        f"{file.path}: column {self.id_column} is null in row {row}; "
                        "every row needs an id"
                    )
                yield ids
                first += len(ids)
            if first != file.rows:
                raise ValueError(
                    f"{file.path}: column {self.id_column} has {first} of {file.rows} ids; "
                    "the file is damaged, or was changed while it was read"
                )

    def _vectors(self, file: VectorFile, first: int, last: int, rows: int) -> Iterator[Matrix]:
        if _format(file.path) == "npy":
            for start in range(first, last, rows):
                # Mapped anew for each batch, so that what was read does not stay resident.
                array = _open_npy(file.path)[start : min(start + rows, last)]
                yield array_matrix(np.array(array), str(file.path))
            return
        assert self.column is not None
        name = f"{self.column} of {file.path}"
        for cells in _column(file.path, self.column, first, last, rows):
            yield column_matrix(_chunked(cells), name, self.dim, first)
            first += len(cells)

    def _check_finite(self, file: VectorFile, first: int, vectors: Matrix) -> None:
        finite = np.isfinite(vectors)
        if finite.all():
            return
        row, dimension = divmod(int(np.argmin(finite)), self.dim)
        column = "" if self.column is None else f" of column {self.column}"
        raise NotFiniteError(
            f"{file.path}: row {first + row}{column} holds {_name(vectors[row, dimension])} at "
            f"dimension {dimension}; remove or replace values that are not finite",
            first + row,
            dimension,
        )


def step_of(rows: int, most: int) -> int:
    """The step at which so many rows make a sample of ``most`` at most."""
    return -(-rows // most) or 1


def open_dataset(
    source: Source, column: str | None = None, id_column: str | None = None
) -> Dataset:
    """The vectors of a file, a folder, a glob pattern, or several of them.

    Args:
        source: of .parquet, .arrow (also .feather, .ipc) and .npy files; folders are searched
            for them to any depth, names that start with a dot or underscore left out.
        column: of lists, list views, fixed-size lists or tensors of one dimension, of float16,
            float32 or float64 (integers are widened), all of one length; needed where there are
            several. A .npy file is 2-D and has none.
        id_column: of integers or strings, dictionaries of them among these. Row numbers if None.

    Raises:
        FileNotFoundError: when there is no such file.
        TypeError, ValueError: for files that are not readable as vectors of one length; names
            the file and column and says what to do.
    """
    paths = _paths(source)
    files = []
    for path in paths:
        if _format(path) == "npy":
            files.append(_npy_file(path, id_column))
        else:
            column = column or _only_vector_column(path)
            files.append(_arrow_file(path, column, id_column))
    for file in files:
        # Strings are one kind, however long they may get.
        if file.id_type != files[0].id_type and not are_strings(file.id_type, files[0].id_type):
            raise TypeError(
                f"column {id_column} holds {files[0].id_type} in {files[0].path} but "
                f"{file.id_type} in {file.path}; write ids of one type"
            )
    of_dim = [file for file in files if file.dim is not None]
    for file in of_dim:
        if file.dim != of_dim[0].dim:
            raise ValueError(
                f"vectors have {of_dim[0].dim} dimensions in {of_dim[0].path} but {file.dim} in "
                f"{file.path}; all must have the same"
            )
    return Dataset(
        files=tuple(files),
        column=column,
        id_column=id_column,
        dim=(of_dim[0].dim if of_dim else None) or 1,
        dtype=np.result_type(*(file.dtype for file in files)),
    )


def _paths(source: Source) -> list[Path]:
    if isinstance(source, Sequence) and not isinstance(source, str):
        paths = [path for part in source for path in _paths(part)]
        if not paths:
            raise FileNotFoundError("no files are given; pass a file, a folder or a glob pattern")
        return paths
    path = local_path(source)
    if path.is_dir():
        found = [
            file
            for file in path.rglob("*")
            if file.suffix.lower() in _FORMATS
            and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
        ]
        if not found:
            raise FileNotFoundError(f"{path} holds no file that ends with {_suffixes()}")
        return sorted(found)
    if path.exists():
        return [path]
    found = [Path(file) for file in glob.glob(str(source), recursive=True)]
    if not found:
        raise FileNotFoundError(f"there is no file, folder or match of the pattern {source}")
    return [file for match in sorted(found) for file in _paths(match)]


def _format(path: Path) -> str:
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        raise ValueError(f"{path} is of no kind that is read here: {_suffixes()}") from None


def _suffixes() -> str:
    return ", ".join(_FORMATS)


def _open_npy(path: Path) -> NDArray[Any]:
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
    array = _open_npy(path)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{path} must be 2-D, one vector a row, but has shape {array.shape}")
    dtype = engine_dtype(array.dtype, f"{path} must hold real numbers but holds {array.dtype}")
    return VectorFile(path, array.shape[0], array.shape[1], dtype, None)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Errors of pyarrow as errors of the file."""
    import pyarrow as pa

    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
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
        if _format(path) == "parquet":
            file = _open(path)
            return file.schema_arrow, file.metadata.num_rows
        file = _open(path)
        batches = (file.get_batch(number) for number in range(file.num_record_batches))
        return file.schema, sum(batch.num_rows for batch in batches)


def _column(path: Path, name: str, first: int, last: int, rows: int) -> Iterator[pa.Array]:
    """Rows ``first`` to ``last`` of one column, at most so many at a time."""
    with _reading(path):
        before = 0
        for column in _pieces(path, name, first, rows):
            start, stop = (min(max(row - before, 0), len(column)) for row in (first, last))
            for at in range(start, stop, rows):
                piece = column[at : min(at + rows, stop)]
                if _format(path) == "ipc":  # which is read as it lies, wherever its offsets lead
                    piece.validate(full=True)
                yield piece
            before += len(column)
            if before >= last:
                return


def _pieces(path: Path, name: str, first: int, rows: int) -> Iterator[pa.Array]:
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
        cell = next(_column(path, column, 0, 1, 1))
        dim = column_matrix(_chunked(cell), f"{column} of {path}").shape[1]
    of_ids = None
    if id_column is not None:
        stored = _field(schema, id_column, path).type
        of_ids = id_type(stored)
        if of_ids is None:
            raise TypeError(
                f"column {id_column} of {path} holds {stored}; ids are integers or strings"
            )
    return VectorFile(path, rows, dim, dtype, of_ids)


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


def _chunked(array: pa.Array) -> pa.ChunkedArray:
    import pyarrow as pa

    return pa.chunked_array([array])


def _name(value: Any) -> str:
    return "NaN" if np.isnan(value) else "infinity" if value > 0 else "-infinity"
