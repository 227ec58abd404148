"""What every system that is compared looks like to `worker`.

``prepare`` is not timed; ``build`` and the tasks are. ``knn`` gives row numbers of the items,
(n, k) or, in a self-join of a system that returns the row itself, (n, k + 1). ``radius`` gives the
number of pairs, each once, and whatever was found; ``dedup`` that of the rows which are kept, of
near-duplicates by cosine similarity. ``within`` is ``knn`` of a self-join in groups, by row keys.
``single`` asks one query after the other and gives the median seconds of one.
"""

from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from benches.data.rows import Indices, Rows
from benches.systems import meter

SINGLE_QUERIES = 100


class Peer:
    returns_itself = True  # as its own nearest, in a self-join
    joined: Any = None  # an answer with a plan and distances, to be told apart from others

    def __init__(self, metric: str, threads: int, **build: Any):
        self.metric, self.threads, self.settings = metric, threads, build

    def prepare(self, items: Rows, queries: Rows | None) -> None:
        """What happens once whatever is joined: imports, compiling, a server's start."""

    def build(self, items: Rows) -> None:
        self.items = items

    def rest_bytes(self) -> int | None:
        """What it keeps to be asked again, as it would write it to a file."""
        return None

    def peak_bytes(self) -> int:
        return meter.peak_bytes()

    def single(self, queries: Rows, k: int, **search: Any) -> float:
        times = []
        for query in queries[:SINGLE_QUERIES]:
            start = perf_counter()
            self.knn(query[None], k, **search)
            times.append(perf_counter() - start)
        return median(times)

    def asked(self, queries: Rows | None, k: int) -> tuple[Rows, int]:
        return (self.items, k + 1) if queries is None else (queries, k)


def one_by_one(search: Callable[[Any], Any], asked: Any, k: int, threads: int) -> Indices:
    """For systems that take one query a call; -1 where they found fewer than k."""
    found = np.full((len(asked), k), -1)

    def fill(row: int) -> None:
        near = search(asked[row])
        found[row, : len(near)] = near

    with ThreadPool(threads) as pool:
        pool.map(fill, range(len(asked)), chunksize=256)
    return found


def saved_bytes(save: Callable[[str], Any]) -> int:
    with TemporaryDirectory() as directory:
        path = Path(directory, "index")
        save(str(path))
        return path.stat().st_size
