"""Plans of joins of files: what is compared, what stays in memory, what is read and written.

What the engine keeps in memory, and how it divides a join that needs more, is for it to say.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lshjoin import engine
from lshjoin.arrays.neighbors import BinaryMetric, NearestMetric
from lshjoin.arrays.sides import are_bits
from lshjoin.base import html
from lshjoin.base.plan import JoinPlan
from lshjoin.files.groups import Groups, pack
from lshjoin.files.keys import NO_KEYS, KeyColumns

#: Bytes of Python, its libraries and threads, with nothing to do.
_BASE = 192 << 20
#: Bytes of vectors on their way to an index: the fewest that are worth it, and what more does not
#: speed up.
_BATCH = 1 << 20, 256 << 20
#: Bytes of the key of a row, here and in the engine.
_KEY = 8
#: Queries of a chunk, at least.
_LEAST_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Rows:
    """What is to be joined."""

    queries: int | None  #: rows; None where items are joined with themselves
    items: int  #: rows
    dim: int  #: values of a row
    dtype: np.dtype[Any]  #: which holds the values of both sides
    metric: NearestMetric | BinaryMetric
    keys: KeyColumns = NO_KEYS
    groups: Groups | None = None  #: by the keys within which rows are joined, if there are some

    @property
    def bits(self) -> bool:
        """Whether they are packed bits, ``dim`` bytes of them."""
        return are_bits(self.metric)

    def asked(self) -> int:
        """How many queries there are."""
        return self.items if self.queries is None else self.queries

    def of(self, groups: Groups) -> Rows:
        """Those of some groups, of which one alone has no need of keys."""
        queries, items = groups.rows()
        if len(groups) > 1:
            return dataclasses.replace(self, queries=queries, items=items, groups=groups)
        keys = self.keys._replace(within=None)
        return dataclasses.replace(self, queries=queries, items=items, keys=keys, groups=None)


@dataclass(frozen=True)
class Pieces:
    """What groups of rows are packed into, where all of them do not fit in memory."""

    groups: int  #: that can have pairs
    count: int  #: pieces, each of which is joined on its own
    large: int  #: of these, how many are one group that is larger than memory


@dataclass(frozen=True)
class FilesPlan:
    """What a join of files is to do, known before it starts.

    In memory, both sides are read and joined there. Out of core, items are written to an index on
    disk, in which rows that are near lie together, and joined with queries a chunk at a time.
    Within groups, rows are written to pieces of whole groups instead, each of which is a join of
    its own, in memory unless one group alone is too large for it.
    """

    #: Which pairs are compared; in pieces, unless it was asked for, what one that is too large for
    #: memory follows: others have plans of their own.
    join: JoinPlan
    queries: int
    items: int
    dim: int
    k: int | None  #: neighbours that a query is to have; None for all within a radius
    memory_limit: int  #: bytes
    resident: dict[str, int]  #: bytes in memory, of what; files that are mapped are not counted
    reads: dict[str, tuple[int, int]]  #: bytes of what is read, and how many times
    writes: dict[str, int]  #: bytes written, of what
    chunk: int | None  #: queries at a time; None in memory
    #: Vectors that an index is learnt from at a time, and that are on their way to it after
    #: that; None in memory.
    batches: tuple[int, int] | None
    pieces: Pieces | None = None  #: within groups that memory does not hold together
    seconds: float | None = None  #: about, by a sample; None where none was joined

    @property
    def out_of_core(self) -> bool:
        """Whether the join goes by an index, or pieces, on disk."""
        return self.chunk is not None or self.pieces is not None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self) | {"join": json.loads(self.join.to_json())}

    def _repr_html_(self) -> str:
        """What notebooks show: what ``str`` says, and the memory beside its limit."""
        memory = {what.replace("_", " "): float(size) for what, size in self.resident.items()}
        picture = html.bars("Memory, as a share of the limit", memory, float(self.memory_limit))
        return html.table("FilesPlan", html.of_text(str(self)), picture)

    def __str__(self) -> str:
        reads = [
            f"{what} {_size(size)}{'' if times == 1 else f' {times} times'}"
            for what, (size, times) in self.reads.items()
        ]
        where = "in memory"
        if self.chunk is not None:
            number = math.ceil(self.queries / self.chunk)
            where = f"out of core: {number} chunks of {self.chunk:,} queries"
        if self.pieces is not None:
            where = f"out of core: {self.pieces.groups:,} groups in {self.pieces.count:,} pieces"
            if self.pieces.large:
                where += f", {self.pieces.large:,} of them larger than memory"
        lines = [
            *self._join_lines(),
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

    def _join_lines(self) -> list[str]:
        recall = json.loads(self.join.to_json()).get("until_recall")
        if self.pieces is None or self.pieces.large or recall is None:
            return str(self.join).splitlines()
        return [f"recall  {recall} in each piece, by a plan of its own"]


def predicted_work(plan: FilesPlan, k: int | None) -> dict[str, float]:
    """About how long each stage of an out-of-core join takes beside the others.

    In seconds of the machine in ``bench-results/out_of_core_5000000.md``, grown by the rules there.
    """
    values = plan.items * plan.dim
    if plan.join == JoinPlan.exact():
        join = 1.3e-11 * plan.queries * values
    else:
        join = 1.2e-9 * plan.queries * plan.items**0.35 * plan.dim
    if plan.pieces is not None:
        return {
            "pieces": 4.2e-8 * values,
            "join": join,
            "write": 1.2e-7 * plan.queries * (k or 1),
        }
    return {
        "learn": 2.3e-8 * values,
        "assign": 4.5e-9 * plan.items * max(plan.dim, plan.items**0.5),
        "store": 4.2e-8 * values,
        "plan": 4e-9 * values,
        "join": join,
        "write": 1.2e-7 * plan.queries * (k or 1),
    }


def plan_until(recall: float, rows: Rows, seed: int) -> JoinPlan:
    """The plan of a join for a recall: out of core, as many probes of an index as that takes.

    Of packed bits, which are joined in memory, it is one of lists.
    """
    join = engine.FileJoin(None, rows.items, rows.dim, packed_bits=rows.bits)
    return JoinPlan.from_json(join.plan(recall, seed))


def plan_files(
    join: JoinPlan, rows: Rows, k: int | None, memory_limit: int, more: int = 0
) -> FilesPlan:
    """In memory where there is enough for both sides, else out of core.

    Args:
        join: what is compared.
        rows: of both sides.
        k: neighbours a query; None where pairs are within a radius.
        memory_limit: bytes.
        more: neighbours that a query may find beside these out of core.

    Raises:
        ValueError: when the limit is too small, or too small for float64 or packed bits, which no
            index holds.
    """
    asked, row_bytes = rows.asked(), rows.dtype.itemsize * rows.dim
    reads = {} if rows.queries is None else {"queries": (rows.queries * row_bytes, 1)}
    reads["items"] = (rows.items * row_bytes, 1)
    plan = FilesPlan(
        join=join,
        queries=asked,
        items=rows.items,
        dim=8 * rows.dim if rows.bits else rows.dim,
        k=k,
        memory_limit=memory_limit,
        resident=_in_memory(join, rows, k),
        reads=reads,
        writes={"pairs": 20 * asked * (k or 1)},
        chunk=None,
        batches=None,
    )
    if sum(plan.resident.values()) <= memory_limit:
        return plan
    if rows.groups is not None:
        return _in_pieces(plan, rows, rows.groups, more)
    if rows.bits:
        raise ValueError(
            f"packed bits are joined in memory alone, which takes "
            f"{_size(sum(plan.resident.values()))}: raise memory_limit from "
            f"{_size(memory_limit)}, or join within groups that fit"
        )
    if rows.dtype == np.float64:
        raise ValueError(
            f"float64 vectors are joined in memory alone, which takes "
            f"{_size(sum(plan.resident.values()))}; write them as float32, or raise memory_limit "
            f"from {_size(memory_limit)}"
        )
    found = None if k is None else k + more
    return _out_of_core(plan, _native(join, rows.queries, rows.items, rows.dim, found))


def _in_memory(join: JoinPlan, rows: Rows, k: int | None) -> dict[str, int]:
    """Bytes of a join in memory, of what."""
    width = rows.dtype.itemsize
    if rows.metric == "inner_product":  # narrow rows are widened, with a value more
        width = max(width, 4)
    native = _native(join, rows.queries, rows.items, rows.dim, k, width, rows.bits)
    resident: dict[str, int] = {"Python": _BASE} | json.loads(native.in_memory())
    if columns := len(rows.keys.names()):
        both = rows.items + (rows.queries or 0)
        resident["keys"] = columns * _KEY * both
    if rows.groups is not None and len(rows.groups) and not rows.bits:
        queries, items = rows.groups.part(0, 1).rows()
        resident["rows of a group"] = (items + (queries or 0)) * width * rows.dim
    return resident


def pack_rows(join: JoinPlan, rows: Rows, k: int | None, memory_limit: int) -> list[Groups]:
    """The pieces that groups of rows are joined in."""
    assert rows.groups is not None

    def fits(groups: Groups) -> bool:
        return sum(_in_memory(join, rows.of(groups), k).values()) <= memory_limit

    return pack(rows.groups, fits)


def _in_pieces(plan: FilesPlan, rows: Rows, groups: Groups, more: int) -> FilesPlan:
    pieces = pack_rows(plan.join, rows, plan.k, plan.memory_limit)
    # Which tells, before hours of work, whether there is one that no way leads to.
    plans = [
        plan_files(plan.join, rows.of(piece), plan.k, plan.memory_limit, more) for piece in pieces
    ]
    large = sum(of_piece.out_of_core for of_piece in plans)
    residents = [of_piece.resident for of_piece in plans] or [{"Python": _BASE}]
    queries, items = groups.rows()
    size = (items + (queries or 0)) * rows.dtype.itemsize * rows.dim
    return dataclasses.replace(
        plan,
        resident=max(residents, key=lambda resident: sum(resident.values())),
        reads=plan.reads | {"pieces": (size, 1)},
        writes={"pieces": size} | plan.writes,
        pieces=Pieces(len(groups), len(pieces), large),
    )


def chunk_rows(plan: FilesPlan, fixed: JoinPlan, k: int, with_itself: bool) -> int:
    """Queries at a time, now that it is known how many lists they probe."""
    queries = None if with_itself else plan.queries
    native = _native(fixed, queries, plan.items, plan.dim, k)
    told = native.out_of_core(beside_python(plan.memory_limit), _BATCH)
    # Where that many probes leave no room, the least that was planned for is taken.
    return int(json.loads(told)["chunk"]) if told else min(plan.chunk or 1, _LEAST_CHUNK)


def _native(
    join: JoinPlan,
    queries: int | None,
    items: int,
    dim: int,
    k: int | None,
    width: int = 4,
    bits: bool = False,
) -> engine.FileJoin:
    """The join as the engine knows it; ``width`` is that of a value, but of packed ``bits``."""
    numbers = json.loads(join.to_json())
    # Until a recall is reached it is not known how many.
    probes = numbers.get("probes") if numbers.get("until_recall") is None else None
    lists = numbers.get("lists")
    return engine.FileJoin(
        queries, items, dim, width=width, packed_bits=bits, k=k, lists=lists, probes=probes
    )


def batch_rows(items: int, dim: int, memory_limit: int) -> int:
    """Vectors on their way to an index of so many items at a time."""
    return engine.FileJoin(None, items, dim).batch(beside_python(memory_limit), _BATCH)


def beside_python(memory_limit: int) -> int:
    """What the engine may have of it."""
    return max(memory_limit - _BASE, 0)


def _out_of_core(plan: FilesPlan, native: engine.FileJoin) -> FilesPlan:
    limit = plan.memory_limit
    if plan.join.kind not in ("exact", "partitions"):
        raise ValueError(
            f"vectors that take up more than memory_limit, {_size(limit)}, are joined by a plan "
            f"that is exact or of partitions, not {plan.join!r}"
        )
    beside = {what: size for what, size in plan.resident.items() if what in ("Python", "keys")}
    room = max(limit - sum(beside.values()), 0)
    text = native.out_of_core(room, _BATCH)
    if text is None:
        least = sum(beside.values()) + native.least(_BATCH)
        raise ValueError(
            f"memory_limit is {_size(limit)}, but this join needs {_size(least)} at least"
        )
    told = json.loads(text)
    phases = [("lists", "neighbours"), ("index", "vectors")]
    resident = [{what: told[what] for what in phase} for phase in phases]
    codes, rows = told["codes"], 4 * plan.items * plan.dim
    # Where a list starts is known only when all rows have one: until then they lie in files beside
    # the index, with their numbers.
    unsorted = rows + 8 * plan.items
    reads = plan.reads | {
        "items": (plan.reads["items"][0], 2),
        "unsorted rows": (unsorted, 1),
        "codes of the index, at most": (codes, math.ceil(plan.queries / told["chunk"])),
        "rows of the index": (rows, 1),
    }
    return dataclasses.replace(
        plan,
        resident=beside | max(resident, key=lambda phase: sum(phase.values())),
        reads=reads,
        writes={"unsorted rows": unsorted, "index": codes + rows + 32 * plan.items} | plan.writes,
        chunk=told["chunk"],
        batches=tuple(told["batches"]),
    )


def _parts(parts: dict[str, int]) -> str:
    return ", ".join(f"{what.replace('_', ' ')} {_size(size)}" for what, size in parts.items())


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
