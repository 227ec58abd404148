"""Plans of joins of files: what is compared, what stays in memory, what is read and written."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lshjoin.base.plan import JoinPlan

#: Python, its libraries and threads, with nothing to do.
_BASE = 192 << 20

#: What an out-of-core join has to have room for beside all that it must hold, and what more does
#: not speed up: bytes of a batch of vectors on the way to the index.
_BATCH = 1 << 20, 256 << 20
#: Near cells that an index lists for each cell, at most.
_NEAR_CELLS = 1024
#: The fewest rows of a chunk, for which the index is gone through once.
_CHUNK = 1024
#: Copies of a batch while its rows are brought to their cells.
_COPIES = 5
#: What is known of a row of a panel beside its codes, in bytes.
_OF_PANEL = 48


@dataclass(frozen=True)
class FilesPlan:
    """What a join of files is to do, known before it starts.

    In memory, both sides are read and joined there. Out of core, items are written to an index on
    disk, in which rows that are near lie together, and joined with queries a chunk at a time.
    """

    join: JoinPlan  #: which pairs are compared
    queries: int
    items: int
    dim: int
    memory_limit: int  #: bytes
    resident: dict[str, int]  #: bytes in memory, of what; files that are mapped are not counted
    reads: dict[str, tuple[int, int]]  #: bytes of what is read, and how many times
    writes: dict[str, int]  #: bytes written, of what
    chunk: int | None  #: queries at a time; None in memory
    batch: int | None  #: vectors on their way to the index at a time; None in memory
    panels: int  #: bytes of codes of the index, ready for comparison, at a time
    seconds: float | None = None  #: about, by a sample; None where none was joined

    @property
    def out_of_core(self) -> bool:
        """Whether the join goes by an index on disk."""
        return self.chunk is not None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self) | {"join": json.loads(self.join.to_json())}

    def __str__(self) -> str:
        reads = [
            f"{what} {_size(size)}{'' if times == 1 else f' {times} times'}"
            for what, (size, times) in self.reads.items()
        ]
        where = "in memory"
        if self.chunk is not None:
            number = math.ceil(self.queries / self.chunk)
            where = f"out of core: {number} chunks of {self.chunk:,} queries"
        lines = [
            *str(self.join).splitlines(),
            f"rows    {self.queries:,} queries, {self.items:,} items of {self.dim} dimensions, "
            + where,
            f"memory  {_size(sum(self.resident.values()))} of {_size(self.memory_limit)}: "
            + _parts(self.resident),
            f"reads   {', '.join(reads)}",
            f"writes  {_parts(self.writes)}",
        ]
        if self.seconds is not None:
            lines.append(f"time    about {_time(self.seconds)}")
        return "\n".join(lines)


def partitions_until(recall: float, items: int, seed: int) -> JoinPlan:
    """The plan of an out-of-core join for a recall: that many cells of an index looked into."""
    if recall == 1:
        return JoinPlan.exact()
    cells = min(max(int(1.5 * items**0.5), 1), 1 << 14)
    return JoinPlan.partitions(seed=seed, axes=48, cells=cells, probes=1, until_recall=recall)


def plan_files(
    join: JoinPlan,
    queries: int | None,
    items: int,
    dim: int,
    dtype: np.dtype[Any],
    k: int | None,
    memory_limit: int,
) -> FilesPlan:
    """In memory where that has room for both sides, else out of core.

    Args:
        join: what is compared.
        queries: rows; None where items are joined with themselves.
        items: rows.
        dim: values of a row.
        dtype: of both sides.
        k: neighbours a query; None where pairs are within a radius.
        memory_limit: bytes.

    Raises:
        ValueError: when the limit is too small, or the dtype is float64 and there is no room.
    """
    asked, rows = (items, items) if queries is None else (queries, items + queries)
    row_bytes = max(dtype.itemsize, 4) * dim
    code_bytes = -(-dim // 64) * 64 + 16
    # A list has 2 k + 10 places; then there are distances and indices, and others in order.
    list_bytes = 12 * (2 * k + 10) + 24 * k if k else 0
    files = {} if queries is None else {"queries": asked * dtype.itemsize * dim}
    files["items"] = items * dtype.itemsize * dim
    pairs = {"pairs": 20 * asked * (k or 1)}
    resident = {
        "Python": _BASE,
        # Where some are equal, they are copied without their duplicates.
        "vectors": 2 * rows * row_bytes,
        # Once as they come and once by cell.
        "codes": 2 * rows * code_bytes,
        "neighbours": asked * list_bytes,
    }
    plan = FilesPlan(
        join=join,
        queries=asked,
        items=items,
        dim=dim,
        memory_limit=memory_limit,
        resident=resident,
        reads={what: (size, 1) for what, size in files.items()},
        writes=pairs,
        chunk=None,
        batch=None,
        panels=0,
    )
    if sum(resident.values()) <= memory_limit:
        return plan
    if dtype == np.float64:
        raise ValueError(
            f"float64 vectors are joined in memory alone, which takes "
            f"{_size(sum(resident.values()))}; write them as float32, or raise memory_limit from "
            f"{_size(memory_limit)}"
        )
    return _out_of_core(plan, queries is None, row_bytes, code_bytes, list_bytes, files)


def batch_rows(items: int, dim: int, memory_limit: int) -> int:
    """Vectors on their way to an index of so many items at a time."""
    room = memory_limit - _BASE - _of_index(items, int(1.5 * items**0.5), 4 * dim)
    return max(min(room // _COPIES, _BATCH[1]), _BATCH[0]) // (4 * dim) or 1


def _of_index(items: int, cells: int, row_bytes: int) -> int:
    """What the builder of an index holds, beside vectors on their way."""
    # First what cells are learnt from, 32 rows a cell or some more, and copies of that.
    step = max(items // (32 * max(cells, 1)), 1)
    learnt_from = 4 * row_bytes * (items // step)
    # Then, for each item, its cell, and places in some orders.
    return max(learnt_from, 24 * items)


def _out_of_core(
    plan: FilesPlan,
    itself: bool,
    row_bytes: int,
    code_bytes: int,
    list_bytes: int,
    files: dict[str, int],
) -> FilesPlan:
    if plan.join.kind not in ("exact", "partitions"):
        raise ValueError(
            f"vectors that take up more than memory_limit, {_size(plan.memory_limit)}, are "
            f"joined by a plan that is exact or of partitions, not {plan.join!r}"
        )
    items, limit = plan.items, plan.memory_limit
    cells = json.loads(plan.join.to_json()).get("cells") or min(int(1.5 * items**0.5), 1 << 14)
    # For each cell others by distance; ids, which are mapped, are not counted.
    of_cells = 12 * cells * min(cells, _NEAR_CELLS)
    of_index = _of_index(items, cells, row_bytes)
    of_query = list_bytes + 64 + (0 if itself else 2 * row_bytes + code_bytes)
    codes = items * code_bytes
    # Half of the room for panels at most, so that chunks are not many.
    room = limit - _BASE - of_cells
    panels = max(min(items * (code_bytes + _OF_PANEL), room // 2), _BATCH[0])
    chunk = min((room - panels) // of_query, plan.queries)
    batch = min((limit - _BASE - of_index) // _COPIES, _BATCH[1])
    if chunk < min(_CHUNK, plan.queries) or batch < _BATCH[0]:
        least = max(
            2 * _CHUNK * of_query + of_cells + 2 * _BATCH[0],
            of_index + _COPIES * _BATCH[0],
        )
        raise ValueError(
            f"memory_limit is {_size(limit)}, but this join needs {_size(_BASE + least)} at least"
        )
    join = {"cells": of_cells, "panels": panels, "neighbours": chunk * of_query}
    build = {"cells": of_index, "vectors": _COPIES * batch}
    chunks = math.ceil(plan.queries / chunk)
    index = codes + items * (row_bytes + 16)
    reads = {what: (size, 1) for what, size in files.items()}
    reads["items"] = (files["items"], 3)
    reads["codes of the index, at most"] = (codes, chunks)
    reads["rows of the index"] = (items * row_bytes, 1)
    return dataclasses.replace(
        plan,
        resident={"Python": _BASE} | max(join, build, key=lambda phase: sum(phase.values())),
        reads=reads,
        writes={"index": index} | plan.writes,
        chunk=chunk,
        batch=max(batch // row_bytes, 1),
        panels=panels,
    )


def _parts(parts: dict[str, int]) -> str:
    return ", ".join(f"{what} {_size(size)}" for what, size in parts.items())


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _time(seconds: float) -> str:
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"
