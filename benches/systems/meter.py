"""Seconds of calls, and memory of processes."""

import re
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

REPEATED_BELOW = 1.0  # seconds: shorter builds and searches are repeated, and the median counts
REPEATS = 3


def timed(call: Any, *arguments: Any, **settings: Any) -> tuple[float, Any]:
    start = perf_counter()
    answer = call(*arguments, **settings)
    return perf_counter() - start, answer


def timed_often(call: Any, *arguments: Any, **settings: Any) -> tuple[float, Any]:
    """The median and the last answer, of what is short."""
    runs: list[float] = []
    while not runs or (len(runs) < REPEATS and runs[0] < REPEATED_BELOW):
        seconds, answer = timed(call, *arguments, **settings)
        runs.append(seconds)
    return median(runs), answer


def with_repeats(seconds: float) -> float:
    return seconds * (REPEATS if seconds < REPEATED_BELOW else 1)


def peak_bytes(process: int | str = "self") -> int:
    """Of this process alone: getrusage's maximum starts at that of the process that forked it."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
