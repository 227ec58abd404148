"""Plans of joins of files: what is compared, what stays in memory, what is read and written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lshjoin.plan import JoinPlan


@dataclass(frozen=True)
class FilesPlan:
    """What :func:`lshjoin.knn_join_files` is to do, known before it starts."""

    join: JoinPlan  #: which pairs are compared
    queries: int
    items: int
    dim: int
    memory_limit: int  #: bytes
    resident: dict[str, int]  #: bytes in memory, of what
    reads: dict[str, int]  #: bytes read, of what, in all
    writes: dict[str, int]  #: bytes written, of what

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return vars(self) | {"join": json.loads(self.join.to_json())}

    def __str__(self) -> str:
        lines = [
            *str(self.join).splitlines(),
            f"rows    {self.queries:,} queries and {self.items:,} items of {self.dim} dimensions",
            f"memory  {_size(sum(self.resident.values()))} of {_size(self.memory_limit)}: "
            f"{_parts(self.resident)}",
            f"reads   {_parts(self.reads)}",
            f"writes  {_parts(self.writes)}",
        ]
        return "\n".join(lines)


def _parts(parts: dict[str, int]) -> str:
    return ", ".join(f"{what} {_size(size)}" for what, size in parts.items())


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
