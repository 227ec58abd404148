"""The datasets that a join of files is of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lshjoin.arrays.neighbors import BinaryMetric, NearestMetric
from lshjoin.arrays.sides import are_bits
from lshjoin.base.places import Filesystem
from lshjoin.base.plan import JoinPlan
from lshjoin.base.vectors import common_dtype
from lshjoin.files.datasets import Dataset, open_side
from lshjoin.files.groups import Groups
from lshjoin.files.job import Job
from lshjoin.files.keys import NO_KEY, NO_KEYS, Codes, KeyColumns, column_codes, common_type
from lshjoin.files.pairs import Found, pair_tables, pairs_schema
from lshjoin.files.plan import FilesPlan, Rows, plan_files
from lshjoin.files.sources import Source
from lshjoin.files.stored_ids import row_ids

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Sides:
    """The datasets to be joined."""

    queries: Dataset | None
    items: Dataset
    metric: NearestMetric | BinaryMetric
    keys: KeyColumns = NO_KEYS

    @classmethod
    def open(
        cls,
        queries: Source | Dataset | None,
        items: Source | Dataset | None,
        column: str | None,
        ids: str | None,
        filesystem: Filesystem | None = None,
        keys: KeyColumns = NO_KEYS,
        *,
        metric: NearestMetric | BinaryMetric,
    ) -> Sides:
        if items is None:
            queries, items = None, queries
        if items is None:
            raise TypeError("there is nothing to join; pass queries and items, or one of them")
        bits = are_bits(metric)
        of_items = open_side(items, column, ids, filesystem, keys.names(), bits)
        if queries is None:
            return cls(None, of_items, metric, keys)._checked()
        of_queries = open_side(queries, column, ids, filesystem, keys.names(), bits)
        if of_queries.dim != of_items.dim:
            raise ValueError(
                f"queries have {of_queries.dim} dimensions ({of_queries.files[0].path}) but items "
                f"have {of_items.dim} ({of_items.files[0].path})"
            )
        return cls(of_queries, of_items, metric, keys)._checked()

    def _checked(self) -> Sides:
        for name in self.keys.names():
            common_type(name, [*self.all().values()])
        return self

    def all(self) -> dict[str, Dataset]:
        sides = {"queries": self.queries, "items": self.items}
        return {name: side for name, side in sides.items() if side is not None}

    def rows(self) -> int:
        """Of the queries."""
        return len(self.items if self.queries is None else self.queries)

    def dtype(self) -> np.dtype[Any]:
        return common_dtype(side.dtype for side in self.all().values())

    def work(self) -> dict[str, Any]:
        """What tells one job on these from another."""
        return self.keys._asdict() | {name: side.identity for name, side in self.all().items()}

    def files_plan(
        self, join: JoinPlan, k: int | None, memory_limit: int, more: int = 0
    ) -> FilesPlan:
        return plan_files(join, self.shape(), k, memory_limit, more)

    def shape(self) -> Rows:
        queries = None if self.queries is None else len(self.queries)
        dim, dtype = self.items.dim, self.dtype()
        return Rows(queries, len(self.items), dim, dtype, self.metric, self.keys, self.groups)

    @cached_property
    def groups(self) -> Groups | None:
        """Of rows that may be neighbours; None where all may."""
        if self.keys.within is None:
            return None
        codes = column_codes(self.keys.within, [*self.all().values()])
        return Groups.of(codes[0] if len(codes) > 1 else None, codes[-1])

    def apart(self) -> tuple[Codes | None, Codes] | None:
        """The codes of the keys that rows are kept apart by, of queries and of items."""
        if self.keys.apart is None:
            return None
        codes = column_codes(self.keys.apart, [*self.all().values()])
        return (codes[0] if len(codes) > 1 else None), codes[-1]

    def row_keys(self) -> dict[str, Any]:
        """The keys of both sides, by what a join in memory calls them."""
        import pyarrow as pa

        found = {}
        for option, column in self.keys._asdict().items():
            if column is not None:
                codes = column_codes(column, [*self.all().values()])
                keys = tuple(pa.array(side, mask=side == NO_KEY) for side in codes)
                found[option] = keys if len(keys) > 1 else keys[0]
        return found

    def vectors(self) -> tuple[Any, Any]:
        return None if self.queries is None else self.queries.read(), self.items.read()

    def schema(self, nested: bool) -> pa.Schema:
        of_queries = (self.queries or self.items).id_type
        return pairs_schema(of_queries, self.items.id_type, self.dtype(), nested)

    def tables(self, job: Job, found: Iterator[Found], nested: bool) -> Iterator[pa.Table]:
        """Pairs of rows by their ids."""
        ids = {name: row_ids(job, name, side) for name, side in self.all().items()}
        of_queries = ids.get("queries", ids["items"])
        return pair_tables(found, self.schema(nested), of_queries, ids["items"])
