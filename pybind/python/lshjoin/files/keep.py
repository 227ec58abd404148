"""Which row of a group of near-duplicates is kept, by the columns of files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lshjoin.arrays.keep import LONGEST, by_place, characters, is_text, largest_first
from lshjoin.files.datasets import Dataset
from lshjoin.files.formats import VectorFile, column_pieces, field_of, schema_of
from lshjoin.files.spool import SpooledFile

if TYPE_CHECKING:
    import pyarrow as pa

#: Values that are read at a time.
_VALUES = 1 << 16


def keep_order(keep: str, dataset: Dataset) -> NDArray[np.int64]:
    """The rows of a dataset, those first that are rather kept; needs memory for their values."""
    order = by_place(keep, len(dataset))
    if order is not None:
        return order
    import pyarrow as pa

    read = _lengths if keep == LONGEST else _values
    parts = [part for file in dataset.files for part in read(_with_columns(file, keep), keep)]
    types = {part.type for part in parts}
    if len(types) > 1:
        raise TypeError(
            f"column {keep} holds {' and '.join(sorted(map(str, types)))}; write files of one type"
        )
    return largest_first(pa.chunked_array(parts, types.pop() if types else pa.int64()))


def _with_columns(file: VectorFile, keep: str) -> VectorFile:
    if file.column is None:
        raise ValueError(
            f"keep must be 'first' or 'last', not {keep!r}: {file.path} has no columns"
        )
    if isinstance(file.path, SpooledFile):
        raise ValueError(
            f"keep={keep!r} is for files, of which columns are read; a {file.path} is not in one: "
            "write it to a Parquet file, or use lshjoin.dedup, which takes data frames"
        )
    return file


def _values(file: VectorFile, name: str) -> Iterator[pa.Array]:
    import pyarrow as pa

    stored = field_of(schema_of(file.path), name, file.path).type
    for values in column_pieces(file.path, name, 0, file.rows, _VALUES):
        # Strings are one kind, however long they may get.
        yield values.cast(pa.large_string()) if is_text(stored) else values


def _lengths(file: VectorFile, _: str) -> Iterator[pa.Array]:
    names = [field.name for field in schema_of(file.path) if is_text(field.type)]
    if not names:
        raise ValueError(f"keep='longest' is for columns of strings; {file.path} has none")
    columns = [column_pieces(file.path, name, 0, file.rows, _VALUES) for name in names]
    return (characters(pieces) for pieces in zip(*columns, strict=True))
