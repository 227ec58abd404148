"""Vectors in files, one or many, read in batches.

Rows are numbered through all files of a dataset, which come in the order of their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lshjoin.base.places import Filesystem, state
from lshjoin.base.vectors import common_dtype
from lshjoin.errors import NotFiniteError
from lshjoin.files.formats import VectorFile, open_file
from lshjoin.files.ids import are_strings, plain_ids
from lshjoin.files.sources import Source, source_files

if TYPE_CHECKING:
    import pyarrow as pa

    from lshjoin._lshjoin import Matrix


#: Bytes of vectors that are read at a time.
_PIECE = 16 << 20
#: Ids that are read at a time.
_IDS = 1 << 20


class Batch(NamedTuple):
    """Some rows that follow each other."""

    first: int  #: the number of the first row in the dataset
    vectors: Matrix


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
    keys: tuple[str, ...]  #: columns that can be keys of the rows
    dim: int
    #: int8, uint8, float16, float32 or float64: the narrowest that holds all values of the files
    dtype: np.dtype[Any]
    bits: bool  #: whether rows are packed bits, of uint8, for a join

    def __len__(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def id_type(self) -> pa.DataType:
        """Of integers or strings, as what :meth:`ids` gives; int64 for row numbers."""
        import pyarrow as pa

        if self.id_column is None:
            return pa.int64()
        types = {file.id_type for file in self.files}
        return pa.large_string() if len(types) > 1 else types.pop()

    @property
    def row_bytes(self) -> int:
        """Of one vector in memory."""
        return self.dim * self.dtype.itemsize

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What tells whether it is still the same: files, sizes and times of change, columns."""
        files = [state(file.path) for file in self.files]
        columns = {"column": self.column, "ids": self.id_column, "keys": [*self.keys]}
        return {"files": files, **columns}

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
                for vectors in file.vectors(first, last, rows, self.dim):
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
        for file, first, stored in self.values(self.id_column):
            ids = plain_ids(stored, self.id_type)
            if ids.null_count:
                row = first + ids.is_null().index(True).as_py()
                raise ValueError(
                    f"{file.path}: column {self.id_column} is null in row {row}; "
                    "every row needs an id"
                )
            yield ids

    def values(self, name: str) -> Iterator[tuple[VectorFile, int, pa.Array]]:
        """A column of ids or keys as it is stored, in pieces, with file and first row there."""
        for file in self.files:
            first = 0
            for piece in file.values(name, _IDS):
                yield file, first, piece
                first += len(piece)
            if first != file.rows:
                raise ValueError(
                    f"{file.path}: column {name} has {first} of {file.rows} values; "
                    "the file is damaged, or was changed while it was read"
                )

    def _check_finite(self, file: VectorFile, first: int, vectors: Matrix) -> None:
        finite = np.isfinite(vectors)
        if finite.all():
            return
        row, dimension = divmod(int(np.argmin(finite)), self.dim)
        column = "" if file.column is None else f" of column {file.column}"
        raise NotFiniteError(
            f"{file.path}: row {first + row}{column} holds {_name(vectors[row, dimension])} at "
            f"dimension {dimension}; remove or replace values that are not finite",
            first + row,
            dimension,
        )


def ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same, each of them read while the one before is in use."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = reader.submit(next, batches, None)
            yield batch


def step_of(rows: int, most: int) -> int:
    """The step at which so many rows make a sample of ``most`` at most."""
    return -(-rows // most) or 1


def open_dataset(
    source: Source | Dataset,
    column: str | None = None,
    id_column: str | None = None,
    *,
    filesystem: Filesystem | None = None,
) -> Dataset:
    """The vectors of files, here or elsewhere, or of a table.

    Args:
        source: a file, a folder, a glob pattern, or several of them: .parquet, .arrow (also
            .feather, .ipc) and .npy files. Folders are searched for them to any depth, names that
            start with a dot or underscore left out. URLs such as ``s3://``, ``gs://``,
            ``abfss://`` and ``hf://`` are read by pyarrow and fsspec; a folder that is a Delta
            table, by deltalake. Or a table: a dataset or table of pyarrow, a DuckDB relation, a
            dataset of Hugging Face, a frame of polars (lazy, too) or pandas. What is not in files
            is written to a temporary one first, and only with the columns that are needed. A
            ``Dataset`` is returned as it is.
        column: of lists, list views, fixed-size lists or tensors of one dimension, of int8, uint8,
            float16, float32 or float64 (wider integers become floats), all of one length; needed
            where there are several. A .npy file is 2-D and has none.
        id_column: of integers or strings, dictionaries of them among these; or what names of
            folders say, "day" of ``day=1/part.parquet``. Row numbers if None.
        filesystem: of pyarrow.fs or fsspec, in which all paths of ``source`` are then.

    Raises:
        FileNotFoundError: when there is no such file.
        ImportError: for a URL or Delta table that needs a package which is not there.
        OSError: when a file that is elsewhere can't be read.
        TypeError, ValueError: for files that are not readable as vectors of one length; names
            the file and column and says what to do.

    Examples:
        >>> import numpy as np
        >>> from lshjoin import open_dataset
        >>> for part in range(3):
        ...     np.save(f"vectors-{part}.npy", np.zeros((100, 64), np.float16))
        >>> dataset = open_dataset("vectors-*.npy")
        >>> len(dataset), len(dataset.files)
        (300, 3)
    """
    return open_side(source, column, id_column, filesystem)


def open_side(
    source: Source | Dataset,
    column: str | None,
    id_column: str | None,
    filesystem: Filesystem | None,
    keys: Sequence[str] = (),
    bits: bool = False,
) -> Dataset:
    """:func:`open_dataset` for a join, with columns of keys, of vectors or packed ``bits``."""
    if isinstance(source, Dataset):
        of_its_own = column in (None, source.column) and id_column == source.id_column
        if not of_its_own or not set(keys) <= set(source.keys):
            raise ValueError(f"a dataset that is open has columns of its own: {source}")
        if source.bits != bits:
            raise TypeError("a dataset that is open holds vectors: for packed bits pass its files")
        return source
    files: list[VectorFile] = []
    for found in source_files(source, filesystem, column, id_column, keys, bits):
        files.append(open_file(found.place, column, id_column, keys, found.said, bits))
        column = column or files[-1].column
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
        keys=tuple(keys),
        dim=(of_dim[0].dim if of_dim else None) or 1,
        dtype=common_dtype(file.dtype for file in files),
        bits=bits,
    )


def _name(value: Any) -> str:
    return "NaN" if np.isnan(value) else "infinity" if value > 0 else "-infinity"
