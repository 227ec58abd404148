"""Pairs of rows of files that are known beforehand, and are left out of what a join finds."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lshjoin.arrays.exclude import Excluded, excluded_rows
from lshjoin.arrays.neighbors import Edges
from lshjoin.base.checks import short
from lshjoin.base.places import Filesystem, Place, place, readable
from lshjoin.files.datasets import Dataset
from lshjoin.files.ids import are_strings, plain_ids
from lshjoin.files.results import SUFFIXES
from lshjoin.files.sides import Sides

if TYPE_CHECKING:
    import pyarrow as pa

Rows = NDArray[np.int64]

#: What joins write, and what the columns are taken for where they are called otherwise.
QUERY, ITEM = "query", "item"


@dataclass(frozen=True, eq=False)
class Known:
    """Pairs of rows."""

    queries: Rows
    items: Rows

    @property
    def digest(self) -> str:
        """What tells them from others."""
        return hashlib.blake2b(np.concatenate([self.queries, self.items]).tobytes()).hexdigest()

    def pairs(self) -> Rows:
        """(pairs, 2), as joins of arrays take them."""
        return np.column_stack([self.queries, self.items])

    def excluded(self, sides: Sides) -> Excluded:
        """As a join of these sides leaves them out."""
        queries = None if sides.queries is None else len(sides.queries)
        return excluded_rows(self.queries, self.items, queries, len(sides.items))


class KnownOfIndex(NamedTuple):
    """Pairs of a query, by row, and an item of an index, by id."""

    rows: Rows  #: rising
    ids: Rows

    def of(self, first: int, last: int) -> Edges:
        """Those of the queries from ``first`` to ``last``, whose rows are counted from there."""
        part = slice(*np.searchsorted(self.rows, (first, last)))
        return Edges(self.rows[part] - first, self.ids[part], np.empty(0))


def known_pairs(exclude: Any, sides: Sides, filesystem: Filesystem | None) -> Known | None:
    """The rows of pairs of ids, or row numbers, that a user passed.

    Args:
        exclude: a file that a join wrote, or another one with two columns; a table of Arrow
            columns; None for no pairs.
        sides: what is to be joined.
        filesystem: in which paths are.

    Raises:
        TypeError: for what is no table, and ids of another kind than those of the rows.
        ValueError: for an id that no row has, or two have, and for nulls.
    """
    if exclude is None:
        return None
    queries, items = _columns(exclude, filesystem)
    of_queries = sides.items if sides.queries is None else sides.queries
    return Known(_rows(queries, of_queries), _rows(items, sides.items))


def known_of_index(
    exclude: Any, queries: Dataset, filesystem: Filesystem | None
) -> KnownOfIndex | None:
    """The same for queries of an index, which need not have such an item."""
    if exclude is None:
        return None
    import pyarrow as pa

    left, right = _columns(exclude, filesystem)
    rows, ids = _rows(left, queries), _as_ids(right, pa.int64()).to_numpy()
    order = np.argsort(rows, kind="stable")
    return KnownOfIndex(rows[order], ids[order])


def _columns(exclude: Any, filesystem: Filesystem | None) -> tuple[pa.Array, pa.Array]:
    import pyarrow as pa
    import pyarrow.dataset as pads

    if isinstance(exclude, (str, os.PathLike)):
        table = _read(place(exclude, filesystem))
    elif isinstance(exclude, pads.Dataset):
        table = exclude.to_table()
    elif hasattr(exclude, "__arrow_c_stream__"):
        table = pa.table(exclude)
    else:
        raise TypeError(
            f"exclude is a {type(exclude).__name__}; pass a path, or a table of Arrow columns"
        )
    if table.num_columns < 2:
        raise ValueError(
            f"exclude must have two columns, of queries and of items, not {table.column_names}"
        )
    named = {QUERY, ITEM} <= {*table.column_names}
    names = (QUERY, ITEM) if named else table.column_names[:2]
    queries, items = (table[name].combine_chunks() for name in names)
    return queries, items


def _read(file: Place) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.feather
    import pyarrow.parquet as pq

    kind = SUFFIXES.get(file.suffix.lower())
    if isinstance(file, Path) and not file.exists():
        raise FileNotFoundError(f"there is no file {file} of pairs to exclude")
    try:
        if kind == "parquet":
            return pq.read_table(readable(file))
        if kind == "arrow":
            return pa.feather.read_table(readable(file), memory_map=False)
        if kind == "csv":  # whose values are texts until it is known what ids are
            names = pa.csv.open_csv(readable(file)).schema.names
            texts = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
            return pa.csv.read_csv(readable(file), convert_options=texts)
        if kind == "npz":
            with np.load(readable(file)) as arrays:
                return pa.table({name: pa.array(arrays[name]) for name in (QUERY, ITEM)})
    except (pa.ArrowException, KeyError) as error:
        raise ValueError(f"{file} holds no pairs to exclude: {error}") from None
    raise ValueError(f"{file} is of no kind that is read here: {', '.join(SUFFIXES)}")


def _rows(ids: pa.Array, dataset: Dataset) -> Rows:
    """The rows of these ids, each of which one row has."""
    import pyarrow.compute as pc

    asked = _as_ids(ids, dataset.id_type)
    if dataset.id_column is None:
        rows: Rows = asked.to_numpy()
        if len(unknown := rows[(rows < 0) | (rows >= len(dataset))]):
            raise _no_row(int(unknown[0]))
        return rows
    wanted = pc.unique(asked)
    row_of, first = np.full(len(wanted), -1), 0
    for piece in dataset.ids():
        places = pc.index_in(piece, value_set=wanted)
        found = np.flatnonzero(places.is_valid())
        places = places.drop_null().to_numpy()
        known, counts = np.unique(places, return_counts=True)
        twice = known[(counts > 1) | (row_of[known] >= 0)]
        if len(twice):
            raise ValueError(
                f"exclude: id {wanted[twice[0]]} is that of two rows; pairs are of ids that are "
                "those of one"
            )
        row_of[places] = first + found
        first += len(piece)
    if (row_of < 0).any():
        raise _no_row(wanted[int(np.argmin(row_of))].as_py())
    of_pairs: Rows = row_of[pc.index_in(asked, value_set=wanted).to_numpy()]
    return of_pairs


def _as_ids(ids: pa.Array, kind: pa.DataType) -> pa.Array:
    """The same ids as this kind of them, none of them null."""
    import pyarrow as pa

    try:
        asked = plain_ids(ids, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        asked = None
    # Text may be of CSV, whose numbers are texts, too; numbers are no text.
    if asked is None or (are_strings(kind) and pa.types.is_integer(ids.type)):
        raise TypeError(f"exclude has {ids.type} where ids are {kind}") from None
    if asked.null_count:
        row = asked.is_null().index(True).as_py()
        raise ValueError(f"exclude: row {row} has a null; every pair needs two ids")
    return asked


def _no_row(id_: object) -> ValueError:
    return ValueError(f"exclude: no row has the id {short(repr(id_))}")
