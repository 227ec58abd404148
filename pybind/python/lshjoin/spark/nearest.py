"""Nearest neighbours: of one key, and of every row.

Two small sides are joined on the driver (``local.py``). Where the items fit into every task, each
task joins its queries with them. Else the two sides are
cut into parts (``parts.py``, and ``groups.py`` within groups), in each of which a task compares the
queries with the items. Only vectors travel, keys, and what their rows are known by: ids, or hashes,
by which Spark then fetches the rows, of which it reads only the columns that somebody asks for. The
neighbours that a part has of a query are one array; Spark merges those of all parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Window
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    DoubleType,
    StructField,
    StructType,
)

from lshjoin.arrays.knn import knn_join
from lshjoin.arrays.neighbors import Neighbors
from lshjoin.spark.groups import plan_groups
from lshjoin.spark.hashing import Functions, Hasher
from lshjoin.spark.local import MOST_COMPARED, local_relation, may_be_local
from lshjoin.spark.pairs import Ids, Pairs, Structs, check_free
from lshjoin.spark.parts import Plan, Search, Which, keys_of, plan_parts
from lshjoin.spark.rows import (
    HASH,
    HIGH,
    LOW,
    Batches,
    Measured,
    Size,
    broadcast_bytes,
    collect,
    content_hash,
    gathered,
    map_in_arrow,
    naming_rows,
    quoted,
    threads,
    with_column,
    with_field,
)
from lshjoin.spark.shuffle import by_block, exchanged
from lshjoin.spark.sides import RowKey, Side, Vectors, routed

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from lshjoin._lshjoin import Matrix

# Items that every task may compare with all its queries.
_FEW_ITEMS = 200_000
# Neighbours that go back at a time: Spark's side holds a batch in memory, of whole rows at times.
_FOUND_ROWS = 8_192

# Which of several rows with the same two hashes, from 1.
_COPY = "__lshjoin_copy"
# The array of neighbours, and the field by which Spark sorts it.
_NEIGHBORS, _DISTANCE = "neighbors", "distance"


def nearest_to_key(
    hasher: Hasher[Functions], dataset: DataFrame, key: Any, k: int, dist_col: str
) -> DataFrame:
    """The rows nearest to one key, of those that share a bucket with it."""
    hasher.functions.check_key(key, dataset, hasher.features)

    def search(batches: Batches) -> Batches:
        for rows in gathered(batches, hasher.functions.row_bytes):
            query, items = hasher.functions.query_and_rows(
                hasher.functions.query(key), hasher.read(rows)
            )
            with naming_rows(rows, hasher.features, "items"):
                distances, found = hasher.functions.native.nearest_neighbors(
                    query, items, min(k, len(items)), num_threads=threads()
                )
            some = found[0] >= 0
            nearest = hasher.hashed(rows.take(found[0][some]))
            column = pa.array(distances[0][some].astype(np.float64))
            yield from with_column(nearest, dist_col, column).to_batches()

    field = StructField(dist_col, DoubleType(), nullable=False)
    schema = with_field(hasher.hashed_schema(dataset.schema), field)
    return map_in_arrow(dataset, search, schema).orderBy(quoted(dist_col)).limit(k)


@dataclass(frozen=True)
class Known:
    """What rows are known by in what is found: its names there, for columns of a side."""

    left: dict[str, str]
    right: dict[str, str]

    def schema(self, left: StructType, right: StructType) -> StructType:
        """For a left row what it is known by, and the array of its neighbours."""
        neighbor = StructType([StructField(_DISTANCE, DoubleType(), False)])
        for name, column in self.right.items():
            neighbor = neighbor.add(name, right[column].dataType, right[column].nullable)
        schema = StructType()
        for name, column in self.left.items():
            schema = schema.add(name, left[column].dataType, left[column].nullable)
        return schema.add(_NEIGHBORS, ArrayType(neighbor, False), False)

    def lists(self, queries: pa.Table, items: pa.Table, near: Neighbors) -> Batches:
        """The neighbours of some queries among some items, as rows of this schema.

        A query that has none is left out.
        """
        right = [items.column(column).combine_chunks() for column in self.right.values()]
        names = [_DISTANCE, *self.right]
        step = max(_FOUND_ROWS // near.indices.shape[1], 1)
        for start in range(0, len(queries), step):
            some = slice(start, start + step)
            found = near.indices[some] >= 0
            others = pa.array(near.indices[some][found])
            distances = pa.array(near.distances[some][found].astype(np.float64))
            neighbors = pa.StructArray.from_arrays(
                [distances, *(column.take(others) for column in right)], names
            )
            counts = found.sum(axis=1)
            rows = queries.slice(start, step).select(list(self.left.values()))
            if not counts.all():
                rows, counts = rows.filter(pa.array(counts > 0)), counts[counts > 0]
            ends = np.append(0, np.cumsum(counts)).astype(np.int32)
            table = rows.rename_columns(list(self.left))
            yield from table.append_column(
                _NEIGHBORS, pa.ListArray.from_arrays(pa.array(ends), neighbors)
            ).to_batches()


def _known_by(left: RowKey, right: RowKey) -> Known:
    """By their hashes; of items that may agree in these the copies are told apart."""
    names = [*right.hashes(), *([] if right.unique else [_COPY])]
    return Known({name: name for name in left.hashes()}, {name: name for name in names})


def nearest_rows(left: Side, right: Side, search: Search, pairs: Structs) -> DataFrame:
    """For every left row its nearest right rows, as pairs."""
    schema = pairs.schema(left.rows.schema, right.rows.schema)
    items = right.measured(_FEW_ITEMS)
    plan = planned(left, right, search, items.size)
    if plan is not None:
        key_of_right = right.row_key(plan.rows[1], *search.keys)
        key_of_left = key_of_right
        if left.rows is not right.rows:
            key_of_left = left.row_key(plan.rows[0], *search.keys)
        keys = key_of_left, key_of_right
        found = _found(left, right, search, plan, _known_by(*keys), keys)
        return _fetched(found, left, right, keys, pairs)

    a, b = pairs.sides
    known = Known({a: a}, {b: b})

    def lists(queries: pa.Table, items: pa.Table, near: Neighbors) -> Batches:
        rows = pa.table({a: pairs.column(queries)})
        return known.lists(rows, pa.table({b: pairs.column(items)}), near)

    return _a_row_each(
        _broadcast(left, right, items, search, lists, known.schema(schema, schema)), pairs
    )


def nearest_ids(left: Side, right: Side, search: Search, ids: Ids, nested: bool) -> DataFrame:
    """For every left row the ids of its nearest right rows: a row each, or one with them all."""
    id_a, id_b = ids.sides
    check_free(ids.dist_col, id_a, id_b)
    known = Known({id_a: ids.id_col}, {id_b: ids.id_col})
    items = right.measured(_FEW_ITEMS)
    plan = planned(left, right, search, items.size)
    if plan is None:
        schema = known.schema(left.rows.schema, right.rows.schema)
        found = _broadcast(left, right, items, search, known.lists, schema)
    else:
        keys = None
        if plan.merges:  # of rows with the same id each has neighbours of its own
            key = RowKey((left.vectors.name, ids.id_col, *search.keys), unique=False)
            copies = _known_by(key, key).right
            keys, known = (key, key), Known(known.left | copies, known.right)
        found = _found(left, right, search, plan, known, keys, ids.id_col)
    if nested:
        return found.select(
            id_a,
            F.transform(
                F.sort_array(_NEIGHBORS),
                lambda at: F.struct(at[id_b].alias(id_b), at[_DISTANCE].alias(ids.dist_col)),
            ).alias(_NEIGHBORS),
        )
    return _a_row_each(found, ids)


def _a_row_each(found: DataFrame, pairs: Pairs) -> DataFrame:
    """Lists of neighbours as pairs: until here what is given of a left row comes once."""
    a, b = pairs.sides
    return found.select(a, F.explode(_NEIGHBORS).alias("at")).select(
        a, f"at.{b}", F.col(f"at.{_DISTANCE}").alias(pairs.dist_col)
    )


def planned(left: Side, right: Side, search: Search, items: Size) -> Plan | None:
    """Where rows are compared; None where the items go to every task."""
    if items.bytes <= broadcast_bytes(right.rows) and items.rows <= _FEW_ITEMS:
        return None
    queries = items if right.rows is left.rows else left.size()
    plan = plan_parts if search.within is None else plan_groups
    return plan(left, right, queries, items, search)


def _broadcast(
    left: Side,
    right: Side,
    measured: Measured,
    search: Search,
    give: Callable[[pa.Table, pa.Table, Neighbors], Batches],
    schema: StructType,
) -> DataFrame:
    items = collect(right.rows) if measured.rows is None else measured.rows
    vectors = left.vectors, right.vectors
    search = replace(search, recall=1.0)

    def join(batches: Batches) -> Batches:
        if items is None or len(items) == 0:
            return
        for queries in gathered(batches, vectors[0].bytes):
            yield from give(queries, items, _nearest(queries, items, vectors, search))

    few = None
    if items is not None and may_be_local(left.rows.sparkSession, schema):
        few = _few_queries(left, right, items)
    if few is not None:
        rows = few.to_batches()
        found = local_relation(left.rows.sparkSession, lambda: join(iter(rows)), schema)
        if found is not None:
            return found
    return map_in_arrow(left.rows, join, schema)


def _few_queries(left: Side, right: Side, items: pa.Table) -> pa.Table | None:
    """The queries, where the driver may compare all of them with the items."""
    most = MOST_COMPARED // len(items)
    queries = items if left.rows is right.rows else left.few(most)
    return queries if queries is not None and len(queries) <= most else None


def _nearest(
    queries: pa.Table, items: pa.Table, vectors: tuple[Vectors, Vectors], search: Search
) -> Neighbors:
    rows = vectors[0].read(queries), vectors[1].read(items)
    with (
        naming_rows(queries, vectors[0].name, "queries"),
        naming_rows(items, vectors[1].name, "items"),
    ):
        return knn_join(
            *rows,
            min(search.k, len(items)),
            metric=search.metric,
            recall=search.recall,
            num_threads=threads(),
            progress=False,
            **keys_of(queries, items, search),
        )


def _found(
    left: Side,
    right: Side,
    search: Search,
    plan: Plan,
    known: Known,
    keys: tuple[RowKey, RowKey] | None,
    *carried: str,
) -> DataFrame:
    """The nearest right rows of each left one, by what both are known by."""
    key_of_left, key_of_right = keys or (None, None)

    def of_side(side: Side, which: Which, key: RowKey | None) -> DataFrame:
        def blocks_of(vectors: Matrix, rows: pa.Table) -> pa.ListArray:
            return plan.blocks_of(vectors, rows, which)

        columns = [*carried, *search.keys]
        return routed(side, columns, blocks_of, known=key, within=search.within)

    routed_left = of_side(left, "items" if plan.itself else "queries", key_of_left)
    routed_right = None if plan.itself else of_side(right, "items", key_of_right)
    vectors, inside = (left.packed, right.packed), replace(search, recall=plan.recall)
    itself = plan.itself

    def join(batches: Batches) -> Batches:
        for _, lefts, rights in by_block(batches):
            if itself:
                rights = pa.concat_tables([lefts, rights])
            if len(lefts) == 0 or len(rights) == 0:
                continue
            if key_of_right is not None and not key_of_right.unique:
                rights = _with_copies(rights)
            if key_of_left is not None and not key_of_left.unique:
                lefts = _with_copies(lefts)
                if _COPY not in known.left:
                    lefts = lefts.filter(pc.field(_COPY) == 1)
            yield from known.lists(lefts, rights, _nearest(lefts, rights, vectors, inside))

    schemas = [_with_copy(side.schema) for side in (routed_left, routed_right or routed_left)]
    found = exchanged(routed_left, routed_right, plan.blocks).mapInArrow(
        join, known.schema(*schemas)
    )
    if not plan.merges:
        return found
    merged = F.sort_array(F.flatten(F.collect_list(_NEIGHBORS)))
    return found.groupBy(*known.left).agg(F.slice(merged, 1, search.k).alias(_NEIGHBORS))


def _with_copy(schema: StructType) -> StructType:
    return StructType([*schema.fields]).add(_COPY, "integer")


def _with_copies(table: pa.Table) -> pa.Table:
    """With which row of its hashes each row of a block is: those are next to each other."""
    high, low = (table.column(name).to_numpy() for name in (HIGH, LOW))
    new = np.ones(len(table), np.bool_)
    new[1:] = (np.diff(high) != 0) | (np.diff(low) != 0)
    places = np.arange(len(table))
    copies = places - np.maximum.accumulate(np.where(new, places, 0)) + 1
    return table.append_column(_COPY, pa.array(copies.astype(np.int32)))


def _fetched(
    found: DataFrame, left: Side, right: Side, keys: tuple[RowKey, RowKey], pairs: Structs
) -> DataFrame:
    """The rows that were found to be neighbours."""
    key_of_left, key_of_right = keys
    hashes = {f"left{name}": hashed for name, hashed in key_of_left.hashes().items()}
    pair = found.select(
        *(F.col(name).alias(f"left{name}") for name in key_of_left.hashes()),
        F.explode(_NEIGHBORS).alias("at"),
    ).select(*hashes, "at.*")
    # Renamed, so that the structs are made last and columns that nobody asks for are not read.
    queries = left.rows.select(
        *(hashed.alias(name) for name, hashed in hashes.items()), *_renamed(left.rows, "a")
    )
    of_items = key_of_right.hashes()
    named, added = [*of_items], [hashed.alias(name) for name, hashed in of_items.items()]
    if not key_of_right.unique:
        added.append(content_hash(right.rows, right.vectors.name).alias(HASH))
    items = right.rows.select(*added, *_renamed(right.rows, "b"))
    if not key_of_right.unique:
        # Rows with one vector are at one distance: which of them is meant does not matter, as long
        # as it is the same one when Spark does it again.
        order = Window.partitionBy(*named).orderBy(HASH)
        items = items.withColumn(_COPY, F.row_number().over(order))
        named.append(_COPY)
    return (
        pair.join(queries, [*hashes])
        .join(items, named)
        .select(
            _struct(left.rows, "a").alias(pairs.sides[0]),
            _struct(right.rows, "b").alias(pairs.sides[1]),
            F.col(_DISTANCE).alias(pairs.dist_col),
        )
    )


def _renamed(dataset: DataFrame, prefix: str) -> list[Column]:
    return [
        F.col(quoted(name)).alias(f"{prefix}{place}") for place, name in enumerate(dataset.columns)
    ]


def _struct(dataset: DataFrame, prefix: str) -> Column:
    columns = enumerate(dataset.columns)
    return F.struct(*[F.col(f"{prefix}{place}").alias(name) for place, name in columns])
