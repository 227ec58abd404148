"""Pairs in Parquet files: query, item, distance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lshjoin.base.columns import taken

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows of queries, rows of items, distances.
Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]

#: Rows that a row group has at most: what a reader has to hold at a time.
ROW_GROUP = 1 << 20


def pairs_schema(
    query_type: pa.DataType, item_type: pa.DataType, vectors: np.dtype[Any]
) -> pa.Schema:
    """Ids of queries and items, and distances of vectors of this dtype."""
    import pyarrow as pa

    distance = pa.float64() if vectors == np.float64 else pa.float32()
    types = {"query": query_type, "item": item_type, "distance": distance}
    return pa.schema([pa.field(*column, nullable=False) for column in types.items()])


def neighbor_pairs(
    queries: NDArray[np.int64], distances: NDArray[Any], indices: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]]:
    """The columns of a k-nearest-neighbour join, (queries, k), in pieces.

    Who is infinitely far is nobody: of ids, any number may be somebody's.
    """
    rows = max(ROW_GROUP // distances.shape[1], 1)
    for start in range(0, len(queries), rows):
        part = slice(start, start + rows)
        found = distances[part] < np.inf
        of_query = np.repeat(queries[part], found.sum(axis=1))
        yield of_query, indices[part][found], distances[part][found]


class PairsFile:
    """A Parquet file of pairs under way."""

    def __init__(
        self, path: Path, schema: pa.Schema, query_ids: pa.Array | None, item_ids: pa.Array | None
    ) -> None:
        import pyarrow.parquet as pq

        self._schema = schema
        self._ids = query_ids, item_ids
        self._file = pq.ParquetWriter(path, schema, compression="zstd")
        self.pairs = 0

    def write(
        self, queries: NDArray[np.int64], items: NDArray[np.int64], distances: NDArray[Any]
    ) -> None:
        """Adds pairs of rows, of which it writes the ids."""
        import pyarrow as pa

        sides = zip((queries, items), self._ids, strict=True)
        columns = [pa.array(rows) if ids is None else taken(ids, rows) for rows, ids in sides]
        table = pa.table([*columns, pa.array(distances)], schema=self._schema)
        self._file.write_table(table, row_group_size=ROW_GROUP)
        self.pairs += len(table)

    def __enter__(self) -> PairsFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def concatenate(parts: list[Path], path: Path, schema: pa.Schema) -> int:
    """One file of the pairs of all parts, in their order; returns how many."""
    import pyarrow.parquet as pq

    pairs = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as file:
        for part in parts:
            for table in _tables(part, schema):
                file.write_table(table, ROW_GROUP)
                pairs += len(table)
    return pairs


def _tables(part: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    """What was written to a part; that there is no room to write it again is no damage."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(part).iter_batches(ROW_GROUP):
            yield pa.Table.from_batches([batch], schema)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{part} is damaged: {error}; delete it, and run it again") from None
