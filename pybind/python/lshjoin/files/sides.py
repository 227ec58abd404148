"""The datasets that a join of files is of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lshjoin.base.places import Filesystem
from lshjoin.base.plan import JoinPlan
from lshjoin.files.datasets import Dataset, open_dataset
from lshjoin.files.job import Job
from lshjoin.files.pairs import Found, pair_tables, pairs_schema
from lshjoin.files.plan import FilesPlan, plan_files
from lshjoin.files.sources import Source
from lshjoin.files.stored_ids import row_ids

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Sides:
    """The datasets to be joined."""

    queries: Dataset | None
    items: Dataset

    @classmethod
    def open(
        cls,
        queries: Source | Dataset | None,
        items: Source | Dataset | None,
        column: str | None,
        ids: str | None,
        filesystem: Filesystem | None = None,
    ) -> Sides:
        if items is None:
            queries, items = None, queries
        if items is None:
            raise TypeError("there is nothing to join; pass queries and items, or one of them")
        of_items = open_dataset(items, column, ids, filesystem=filesystem)
        if queries is None:
            return cls(None, of_items)
        of_queries = open_dataset(queries, column, ids, filesystem=filesystem)
        if of_queries.dim != of_items.dim:
            raise ValueError(
                f"queries have {of_queries.dim} dimensions ({of_queries.files[0].path}) but items "
                f"have {of_items.dim} ({of_items.files[0].path})"
            )
        return cls(of_queries, of_items)

    def all(self) -> dict[str, Dataset]:
        sides = {"queries": self.queries, "items": self.items}
        return {name: side for name, side in sides.items() if side is not None}

    def rows(self) -> int:
        """Of the queries."""
        return len(self.items if self.queries is None else self.queries)

    def dtype(self) -> np.dtype[Any]:
        return np.result_type(*(side.dtype for side in self.all().values()))

    def work(self) -> dict[str, Any]:
        """What tells one job on these from another."""
        return {name: side.identity for name, side in self.all().items()}

    def files_plan(self, join: JoinPlan, k: int | None, memory_limit: int) -> FilesPlan:
        queries = None if self.queries is None else len(self.queries)
        items, dim = len(self.items), self.items.dim
        return plan_files(join, queries, items, dim, self.dtype(), k, memory_limit)

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
