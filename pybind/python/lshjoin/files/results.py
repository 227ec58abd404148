"""How a join's result is written: Parquet, Arrow IPC, CSV or NumPy's .npz; a file or a folder.

Tables are written as they come. pyarrow's dataset writer would make folders, too, but holds up to 8
million rows on the way, whatever the memory limit.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from lshjoin.base.checks import to_natural
from lshjoin.base.places import Place, StoredFile, readable
from lshjoin.files.npz import npz_writer
from lshjoin.files.pairs import NEIGHBORS, ROW_GROUP, number_of_pairs

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["parquet", "arrow", "csv", "npz"]

#: What is written, by how the name ends.
SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".csv": "csv",
    ".npz": "npz",
}

FORMATS = tuple(dict.fromkeys(SUFFIXES.values()))


@dataclass(frozen=True)
class Layout:
    """What a result is on disk."""

    format: Format
    nested: bool = False  #: a row a query, with the list of its neighbours; else a row a pair
    max_rows_per_file: int | None = None  #: of the files of a folder; None for one file

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of files."""
        return self.max_rows_per_file is not None


def to_layout(
    out: Place,
    format: Format | None = None,
    nested: bool = False,
    max_rows_per_file: SupportsIndex | None = None,
) -> Layout:
    """The layout that a user asked for; ValueError where it can't be, or ``out`` contradicts."""
    by_name = SUFFIXES.get(out.suffix.lower())
    if format is not None and format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {format!r}")
    if format is not None and by_name not in (None, format):
        raise ValueError(f"{out} is named as {by_name}, but format is {format}; change one of them")
    format = format or by_name
    if format is None:
        raise ValueError(
            f"{out} does not say in which format it is to be written; give it a name that ends "
            f"with one of {', '.join(SUFFIXES)}, or pass format"
        )
    if nested and format == "csv":
        raise ValueError("nested neighbours are lists, which CSV has not; write another format")
    if max_rows_per_file is not None:
        max_rows_per_file = to_natural("max_rows_per_file", max_rows_per_file)
        if max_rows_per_file == 0:
            raise ValueError("max_rows_per_file must be at least 1, not 0")
        if isinstance(out, StoredFile):
            raise ValueError(
                f"{out} is not on this machine, and a folder of files would be there before it is "
                "whole; leave out max_rows_per_file, or write it here and upload it"
            )
    return Layout(format, nested, max_rows_per_file)


def write_tables(tables: Iterable[pa.Table], path: Path, schema: pa.Schema, layout: Layout) -> int:
    """Writes tables of pairs to a file or folder; returns how many pairs there were."""
    pairs = 0
    with _writer(path, schema, layout) as writer:
        for table in tables:
            writer.write_table(table)
            pairs += number_of_pairs(table)
    return pairs


def read_pairs(
    place: Place, layout: Layout
) -> Iterator[tuple[pa.Array, NDArray[np.int64], NDArray[Any]]]:
    """Queries, how many pairs each has there, and the distances, in pieces.

    Of pairs that are not nested, a query comes once for each.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.dataset as ds

    files: list[Place] = [place]
    if layout.is_folder and isinstance(place, Path):
        files = [*sorted(place.iterdir())]
    if layout.format == "npz":
        for file in files:
            with np.load(readable(file)) as arrays:
                queries = pa.array(arrays["query"])
                ones = np.ones(len(queries), np.int64)
                counts = np.diff(arrays["lims"]) if layout.nested else ones
                yield queries, counts, arrays["distance"]
        return
    # As text, ids of CSV are whatever they are.
    texts = pa.csv.ConvertOptions(column_types={"query": pa.string()})
    kinds = {"arrow": "ipc", "csv": ds.CsvFileFormat(convert_options=texts)}
    format = kinds.get(layout.format, layout.format)
    columns = ["query", NEIGHBORS if layout.nested else "distance"]
    paths = [file.path if isinstance(file, StoredFile) else str(file) for file in files]
    elsewhere = place.filesystem if isinstance(place, StoredFile) else None
    dataset = ds.dataset(paths, format=format, filesystem=elsewhere)
    for batch in dataset.to_batches(columns=columns):
        queries, values = batch.columns
        counts = np.ones(len(queries), np.int64)
        if layout.nested:
            counts = values.value_lengths().to_numpy().astype(np.int64)
            values = values.flatten().field("distance")
        yield queries, counts, values.to_numpy()


class _Writer(Protocol):
    def write_table(self, table: pa.Table) -> None: ...


def _writer(path: Path, schema: pa.Schema, layout: Layout) -> AbstractContextManager[_Writer]:
    if layout.max_rows_per_file is None:
        return _File(path, schema, layout.format)
    return _Folder(path, schema, layout.format, layout.max_rows_per_file)


class _Open(AbstractContextManager[_Writer]):
    """Files under way, which are closed in the end."""

    def __init__(self) -> None:
        self._files = ExitStack()

    def __exit__(self, *error: Any) -> None:
        self._files.__exit__(*error)


def _has_text(values: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_nested(values):
        return any(_has_text(values.field(at).type) for at in range(values.num_fields))
    return bool(pa.types.is_string(values) or pa.types.is_large_string(values))


class _File(_Open):
    """One file under way."""

    def __init__(self, path: Path, schema: pa.Schema, format: Format) -> None:
        import pyarrow as pa
        import pyarrow.csv
        import pyarrow.parquet as pq

        super().__init__()
        sink = self._files.enter_context(path.open("wb"))
        writer: Any
        if format == "parquet":
            # Numbers take half the time without, and less room.
            dictionary = any(_has_text(field.type) for field in schema)
            writer = pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=dictionary)
        elif format == "arrow":
            writer = pa.ipc.new_file(sink, schema)
        elif format == "csv":
            writer = pa.csv.CSVWriter(sink, schema)
        else:
            writer = npz_writer(sink, schema, path.parent)
        self._writer = self._files.enter_context(writer)

    def write_table(self, table: pa.Table) -> None:
        self._writer.write_table(table, ROW_GROUP)


class _Folder(_Open):
    """A folder of files under way, each full but the last, in the order of their names.

    One there is at least: of a result without rows it has the columns.
    """

    def __init__(self, path: Path, schema: pa.Schema, format: Format, most: int) -> None:
        super().__init__()
        self._path, self._schema, self._format, self._most = path, schema, format, most
        self._number = 0
        if path.exists():  # since a run was killed
            shutil.rmtree(path)
        path.mkdir()
        self._begin()

    def _begin(self) -> None:
        self._files.close()
        path = self._path / f"part-{self._number:06}.{self._format}"
        self._file = self._files.enter_context(_File(path, self._schema, self._format))
        self._number, self._room = self._number + 1, self._most

    def write_table(self, table: pa.Table) -> None:
        while len(table):
            if self._room == 0:
                self._begin()
            part = table[: self._room]
            self._file.write_table(part)
            self._room -= len(part)
            table = table[len(part) :]
