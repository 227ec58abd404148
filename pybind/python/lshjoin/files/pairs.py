"""Pairs as tables: query, item and distance, or a query and the list of its neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lshjoin.arrays.neighbors import RadiusNeighbors
from lshjoin.base.columns import taken

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows that a row group has at most: what a reader has to hold at a time.
ROW_GROUP = 1 << 20

#: The column of lists where pairs are nested.
NEIGHBORS = "neighbors"


class Found(NamedTuple):
    """The pairs of some queries."""

    queries: NDArray[np.int64]  #: (n,), rows; of pairs to be nested, each once
    counts: NDArray[np.int64]  #: (n,), how many pairs each has
    items: NDArray[np.int64]  #: (pairs,), rows, by query
    distances: NDArray[Any]  #: (pairs,)

    def left(self) -> NDArray[np.int64]:
        """(pairs,), the query of each pair."""
        return np.repeat(self.queries, self.counts)

    def only(self, kept: NDArray[np.bool_]) -> Found:
        """The pairs that are kept, of the same queries."""
        before = np.concatenate([[0], np.cumsum(kept)])
        ends = np.concatenate([[0], np.cumsum(self.counts)])
        counts = np.diff(before[ends])
        return Found(self.queries, counts, self.items[kept], self.distances[kept])


def pairs_schema(
    query_type: pa.DataType, item_type: pa.DataType, vectors: np.dtype[Any], nested: bool = False
) -> pa.Schema:
    """Ids of queries and items, and distances of vectors of this dtype."""
    import pyarrow as pa

    distance = pa.float64() if vectors == np.float64 else pa.float32()
    query = pa.field("query", query_type, nullable=False)
    neighbor = [
        pa.field("item", item_type, nullable=False),
        pa.field("distance", distance, nullable=False),
    ]
    if not nested:
        return pa.schema([query, *neighbor])
    lists = pa.list_(pa.field("element", pa.struct(neighbor), nullable=False))
    return pa.schema([query, pa.field(NEIGHBORS, lists, nullable=False)])


def of_neighbors(
    queries: NDArray[np.int64], distances: NDArray[Any], indices: NDArray[np.int64]
) -> Iterator[Found]:
    """The pairs of a k-nearest-neighbour join, (queries, k), in pieces.

    Who is infinitely far is nobody: of ids, any number may be somebody's.
    """
    rows = max(ROW_GROUP // distances.shape[1], 1)
    for start in range(0, len(queries), rows):
        part = slice(start, start + rows)
        found = distances[part] < np.inf
        yield Found(queries[part], found.sum(axis=1), indices[part][found], distances[part][found])


def of_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[Found]:
    """The pairs of a radius join in memory: a query comes once for each of its own."""
    for batch in batches:
        queries, items, distances = (column.to_numpy() for column in batch.columns)
        yield Found(queries, np.ones(len(queries), np.int64), items, distances)


def of_radius(queries: NDArray[np.int64], near: RadiusNeighbors) -> Iterator[Found]:
    """The pairs of a radius join of all these queries."""
    yield Found(queries, np.diff(near.lims), near.indices, near.distances)


def pair_tables(
    found: Iterable[Found], schema: pa.Schema, query_ids: pa.Array | None, item_ids: pa.Array | None
) -> Iterator[pa.Table]:
    """Tables of a :func:`pairs_schema`, with the ids of rows; None for those that have none."""
    for piece in found:
        for first, last, begin, end in ranges(piece.counts):
            part = Found(
                piece.queries[first:last],
                piece.counts[first:last],
                piece.items[begin:end],
                piece.distances[begin:end],
            )
            yield _table(part, schema, query_ids, item_ids)


def ranges(counts: NDArray[np.int64]) -> Iterator[tuple[int, int, int, int]]:
    """First and last of queries that have about a row group of pairs, and of these pairs."""
    ends = np.concatenate([[0], np.cumsum(counts)])
    first = 0
    while first < len(counts):
        begin = ends[first]
        last = max(int(np.searchsorted(ends, begin + ROW_GROUP, "right")) - 1, first + 1)
        yield first, last, begin, ends[last]
        first = last


def _table(
    found: Found, schema: pa.Schema, query_ids: pa.Array | None, item_ids: pa.Array | None
) -> pa.Table:
    import pyarrow as pa

    def named(rows: NDArray[np.int64], ids: pa.Array | None, type: pa.DataType) -> pa.Array:
        return pa.array(rows) if ids is None else taken(ids, rows).combine_chunks().cast(type)

    nested = NEIGHBORS in schema.names
    fields = schema.field(NEIGHBORS).type.value_type if nested else schema
    items = named(found.items, item_ids, fields.field("item").type)
    # Of no pairs it is not known what the distances would have been.
    distances = pa.array(found.distances).cast(fields.field("distance").type)
    queries = found.queries if nested else found.left()
    columns = [named(queries, query_ids, schema.field("query").type), items, distances]
    if nested:
        ends = np.concatenate([[0], np.cumsum(found.counts)]).astype(np.int32)
        neighbors = pa.StructArray.from_arrays(columns[1:], fields=list(fields))
        lists = schema.field(NEIGHBORS).type
        columns[1:] = [pa.ListArray.from_arrays(pa.array(ends), neighbors, type=lists)]
    return pa.table(columns, schema=schema)


def number_of_pairs(table: pa.Table) -> int:
    """Of a table of a :func:`pairs_schema`."""
    import pyarrow.compute as pc

    if NEIGHBORS not in table.column_names:
        return len(table)
    return pc.sum(pc.list_value_length(table[NEIGHBORS])).as_py() or 0


def stored_tables(parts: list[Path], schema: pa.Schema) -> Iterator[pa.Table]:
    """The tables in Parquet files, in their order.

    Raises:
        ValueError: for a file that is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part in parts:
        try:
            file = pq.ParquetFile(part)
            for group in range(file.num_row_groups):
                yield file.read_row_group(group).cast(schema)
        except MemoryError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{part} is damaged: {error}; delete it, and run it again") from None
