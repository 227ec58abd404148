"""What is asked of a process that measures a system, and what it answers.

The job comes as JSON in its argument. Rows are loaded first, and then it says `LOADED`; what is
timed is everything from arrays in memory to the answer: the build, then each search that is asked
of it. Every finished search is a line of JSON on standard output, a `Measurement`, so that a
process which is stopped for taking too long has said what it did until then.
"""

from dataclasses import dataclass, field
from typing import Any

THREADS = 2
LOADED = '{"loaded":true}'  # said once, when what is timed begins


@dataclass(frozen=True)
class System:
    name: str
    build: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        settings = ", ".join(
            f"{name} {value}" for name, value in (self.build | self.search).items()
        )
        return f"{self.name} ({settings})" if settings else self.name


@dataclass(frozen=True)
class Measurement:
    build_seconds: float
    search_seconds: float
    peak_bytes: int
    digest: str = ""
    plan: str | None = None
    pairs: int | None = None
    kept: int | None = None  # rows that are left without near-duplicates
    rest_bytes: int | None = None  # what has to be kept to be asked again, the rows aside

    @property
    def seconds(self) -> float:
        return self.build_seconds + self.search_seconds


@dataclass(frozen=True)
class Failure:
    """A search without an answer: it took longer than it may, or the system gave an error."""

    over_seconds: float | None = None
    error: str | None = None
