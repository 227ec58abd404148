"""Tables that are not in files, written to one: read more than once, and by row number.

What DuckDB or polars computes may come in another order each time.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from lshjoin.base.keys import keys_as
from lshjoin.base.places import StoredFile
from lshjoin.files.formats import column_rows, field_of, ids_of, keys_of, only_vector_column
from lshjoin.files.ids import plain_ids

if TYPE_CHECKING:
    import pyarrow as pa

#: What hands over Arrow batches: a pyarrow table or dataset, a DuckDB relation, a frame of polars
#: or pandas; and polars' lazy frames and Hugging Face's datasets.
Table = Any

#: Rows that are asked for at a time, where that is asked.
_ROWS = 1 << 14


@dataclass(frozen=True)
class SpooledFile(StoredFile):
    """A table's file, which is deleted with the last that refers to it."""

    digest: str = ""  #: of its values

    def __str__(self) -> str:
        return self.before

    def open(self) -> pa.NativeFile:
        import pyarrow as pa

        return pa.memory_map(self.path)

    def state(self) -> dict[str, Any]:
        return {"path": str(self), "digest": self.digest}


def spooled(
    table: Table, column: str | None, id_column: str | None, keys: Sequence[str], bits: bool
) -> SpooledFile:
    """The vectors, or packed ``bits``, ids and keys of a table in a file of ``tempfile``.

    Raises:
        TypeError, ValueError: for what is no table, has no such columns or other vectors.
    """
    import pyarrow.fs as pafs

    directory = mkdtemp(prefix="lshjoin-")
    path = Path(directory, "table.arrow")
    try:
        digest = _write(table, column, id_column, keys, bits, path)
    except BaseException:
        shutil.rmtree(directory)
        raise
    file = SpooledFile(pafs.LocalFileSystem(), str(path), type(table).__name__, ".arrow", digest)
    weakref.finalize(file, shutil.rmtree, directory, ignore_errors=True)
    return file


def _write(
    table: Table,
    column: str | None,
    id_column: str | None,
    keys: Sequence[str],
    bits: bool,
    path: Path,
) -> str:
    """Writes a table's vectors, ids and keys; returns the digest of them."""
    import pyarrow as pa

    name, computed = type(table).__name__, path.with_name("computed.arrow")
    wanted = [*dict.fromkeys(one for one in (column, id_column, *keys) if one)] if column else None
    schema, batches = _batches(table, wanted, computed)
    column = column or only_vector_column(schema, name)
    types = keys_of(schema, keys, name)
    if id_column:
        types[id_column] = ids_of(schema, id_column, name)
    # Without rows there are vectors of any length.
    empty = pa.schema({column: field_of(schema, column, name).type, **types})
    digests = {one: hashlib.blake2b() for one in empty.names}
    writer, rows, dim = None, 0, None
    for batch in batches:
        if len(batch) == 0:
            continue
        cells = pa.chunked_array([batch.column(schema.get_field_index(column))])
        vectors = column_rows(cells, f"{column} of {name}", dim, rows, bits=bits)
        rows, dim = rows + len(vectors), vectors.shape[1]
        digests[column].update(vectors.data)
        columns = {column: pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim)}
        for of_rows, kind in types.items():
            stored = batch.column(schema.get_field_index(of_rows))
            if of_rows == id_column:
                values = plain_ids(stored, kind)
            else:
                values = keys_as(stored, kind, f"column {of_rows} of {name}")
            digests[of_rows].update("".join(f"{one!r}," for one in values.to_pylist()).encode())
            columns[of_rows] = values
        written = pa.record_batch(columns)
        writer = writer or pa.ipc.new_file(path, written.schema)
        writer.write_batch(written)
    (writer or pa.ipc.new_file(path, empty)).close()
    with suppress(OSError):  # that it is not there, or Windows has it still open
        computed.unlink()
    return "".join(of_column.hexdigest() for of_column in digests.values())


def _batches(
    table: Table, columns: list[str] | None, computed: Path
) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    """Of these columns at least, of all if None; a lazy frame's by way of a file of its own."""
    import pyarrow as pa
    import pyarrow.dataset as pads
    import pyarrow.ipc

    if isinstance(table, pads.Dataset):
        reader = table.scanner(columns=_there(columns, table.schema.names)).to_reader()
        return reader.schema, reader
    if _is_a(table, "polars", "LazyFrame"):
        names = _there(columns, table.collect_schema().names())
        (table.select(names) if names else table).sink_ipc(computed)
        file = pa.ipc.open_file(pa.memory_map(str(computed)))
        return file.schema, (file.get_batch(number) for number in range(file.num_record_batches))
    if _is_a(table, "datasets", "DatasetDict", "IterableDatasetDict"):
        raise TypeError(f"choose one of the splits of the dataset: {', '.join(table)}")
    if _is_a(table, "datasets", "Dataset", "IterableDataset"):
        names = _there(columns, table.column_names or [])
        chosen = table.select_columns(names) if names else table
        chosen = chosen.with_format("arrow")
        tables = chosen.iter(batch_size=_ROWS)
        first = next(tables, None)
        if first is None:
            return chosen.features.arrow_schema, ()
        return first.schema, (batch for part in (first, *tables) for batch in part.to_batches())
    if hasattr(table, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(table)
        return reader.schema, reader
    raise TypeError(
        f"a source is a {type(table).__name__}; pass a path or URL, a dataset or table of pyarrow, "
        "or what hands over Arrow batches; for NumPy arrays use lshjoin.knn_join"
    )


def _is_a(table: Table, library: str, *classes: str) -> bool:
    """Whether it is of a library, which is not imported for that."""
    module = sys.modules.get(library)
    return any(isinstance(table, getattr(module, name, ())) for name in classes)


def _there(columns: list[str] | None, names: list[str]) -> list[str] | None:
    """The columns to ask for; all if one is missing, which is then told."""
    return columns if columns and set(columns) <= set(names) else None
