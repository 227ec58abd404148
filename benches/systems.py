"""One system's work in a process of its own: `python systems.py JOB`, JOB being JSON.

Rows are loaded first; what is timed is everything from arrays in memory to the answer: the build,
then each search that is asked of it. Every finished search is a line of JSON on standard output, so
that a process which is stopped for taking too long has said what it did until then.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import numpy as np
from install import ANN_SEARCH_RS_PEER
from numpy.typing import NDArray

THREADS = 2
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
# Where each is found; what is not in Python speaks this file's protocol by itself.
PEERS = {
    "lshjoin": "peers:Lshjoin",
    "lshjoin model": "peers:LshjoinModel",
    "FAISS": "peers:Faiss",
    "FAISS big_batch_search": "peers:FaissBigBatch",
    "hnswlib": "peers:Hnswlib",
    "usearch": "peers:Usearch",
    "pynndescent": "peers:Pynndescent",
    "annoy": "peers:Annoy",
    "scikit-learn": "peers:ScikitLearn",
    "FALCONN": "peers:Falconn",
    "NearPy": "peers:Nearpy",
    "ann-search-rs": ANN_SEARCH_RS_PEER,
    "Spark nearestByJoin": "spark:NearestByJoin",
    "Spark transform": "spark:Transform",
}
REPEATED_BELOW = 1.0  # seconds: shorter builds and searches are repeated, and the median counts
REPEATS = 3
LOADED = '{"loaded":true}'  # said once, when what is timed begins
Rows = NDArray[np.float32]
Indices = NDArray[np.integer[Any]]


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
    rest_bytes: int | None = None  # what has to be kept to be asked again, the rows aside

    @property
    def seconds(self) -> float:
        return self.build_seconds + self.search_seconds


@dataclass(frozen=True)
class Failure:
    """A search without an answer: it took longer than it may, or the system gave an error."""

    over_seconds: float | None = None
    error: str | None = None


def measure(
    system: System,
    items: Path,
    queries: Path | None,
    k: int,
    *,
    threads: int = THREADS,
    isa: str = "",
) -> tuple[Measurement, Indices]:
    """The join in a new process; without queries, of the items with themselves."""
    [(result, found)] = measure_each(
        system.name, system.build, [system.search], items, queries, k=k, threads=threads, isa=isa
    )
    if isinstance(result, Failure) or found is None:
        raise RuntimeError(f"{system}: {result}")
    return result, found


def measure_each(
    name: str,
    build: Mapping[str, Any],
    searches: Sequence[Mapping[str, Any]],
    items: Path,
    queries: Path | None,
    *,
    task: str = "knn",
    metric: str = "euclidean",
    k: int = 10,
    radius: float | None = None,
    threads: int = THREADS,
    isa: str = "",
    limit: float | None = None,
) -> Iterator[tuple[Measurement | Failure, Indices | None]]:
    """One build and the searches asked of it in turn, in a new process of ``limit`` seconds."""
    environment = (
        os.environ
        | dict.fromkeys(THREAD_VARIABLES, str(threads))
        | {
            "LSHJOIN_ISA": isa,
            # FAISS's threads otherwise spin at every barrier: many times slower as soon as
            # anything else runs on the machine.
            "OMP_WAIT_POLICY": "PASSIVE",
        }
    )
    with tempfile.TemporaryDirectory() as directory:
        job = {
            "name": name,
            "build": build,
            "searches": searches,
            "items": str(items),
            "queries": queries and str(queries),
            "task": task,
            "metric": metric,
            "k": k,
            "radius": radius,
            "threads": threads,
            "found": directory,
        }
        peer = PEERS[name]
        command = [sys.executable, __file__] if isinstance(peer, str) else [str(peer)]
        printed, complained = Path(directory, "printed"), Path(directory, "complained")
        error = None
        with printed.open("w") as out, complained.open("w") as err:
            try:
                process = subprocess.Popen(
                    [*command, json.dumps(job)], env=environment, stdout=out, stderr=err
                )
                while LOADED not in printed.read_text() and process.poll() is None:
                    sleep(0.01)  # loading counts for nothing
                if process.wait(limit):
                    error = f"exit code {process.returncode}"
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            except FileNotFoundError:
                error = "not built; `make bench` does"
        if error and (said := complained.read_text().strip()):
            error = said.splitlines()[-1][:200]
        # Others may print as well.
        _, _, said = printed.read_text().partition(LOADED)
        lines = [line for line in said.splitlines() if line.startswith('{"') and line[-1] == "}"]
        measured = [json.loads(line) for line in lines]
        # What the build and the search in hand had of the time, at least.
        left = (limit or 0) - sum(with_repeats(line["search_seconds"]) for line in measured)
        for line in measured[:1]:
            left -= with_repeats(line["build_seconds"]) - line["build_seconds"]
        for number in range(len(searches)):
            if number < len(measured):
                answer = Path(directory, f"{number}.npy")
                yield (
                    Measurement(**measured[number]),
                    np.load(answer) if answer.exists() else None,
                )
            else:
                yield Failure(error=error) if error else Failure(over_seconds=max(left, 0)), None


def without_itself(found: Indices) -> Indices:
    """One column less: the row itself, or the last where a duplicate took its place."""
    itself = found == np.arange(len(found))[:, None]
    itself[~itself.any(axis=1), -1] = True
    return found[~itself].reshape(len(found), -1)


def peak_bytes(process: int | str = "self") -> int:
    """Of this process alone: getrusage's maximum starts at that of the process that forked it."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


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


def main() -> None:
    job = json.loads(sys.argv[1])
    items = np.load(job["items"])
    queries = np.load(job["queries"]) if job["queries"] else None
    module, name = PEERS[job["name"]].split(":")
    peer = getattr(import_module(module), name)(job["metric"], job["threads"], **job["build"])
    peer.prepare(items, queries)
    print(LOADED, flush=True)

    def build() -> None:
        vars(peer).pop("index", None)  # that of the run before would count to the memory
        peer.build(items)

    build_seconds, _ = timed_often(build)
    task = getattr(peer, job["task"])
    wanted = {"knn": job["k"], "single": job["k"], "radius": job["radius"], "hash": None}
    for number, search in enumerate(job["searches"]):
        seconds, answer = timed_often(task, queries, wanted[job["task"]], **search)
        if isinstance(answer, float):  # a task that timed itself, one query after the other
            seconds = answer
        measured = asdict(Measurement(build_seconds, seconds, peer.peak_bytes()))
        if job["task"] == "knn":
            measured |= kept(answer, peer, queries, Path(job["found"], f"{number}.npy"))
        elif job["task"] == "radius":
            measured["pairs"] = answer[0]
        elif job["task"] == "single":
            measured["rest_bytes"] = peer.rest_bytes()
        print(json.dumps(measured), flush=True)


def kept(found: Indices, peer: Any, queries: Rows | None, path: Path) -> dict[str, Any]:
    """Saves neighbours, for their recall to be computed."""
    found = found.astype(np.int64)
    if queries is None and peer.returns_itself:
        found = without_itself(found)
    np.save(path, found)
    digest = blake2b(digest_size=16)
    for array in peer.joined or (found,):
        digest.update(np.ascontiguousarray(array))
    plan = peer.joined and peer.joined.plan.to_json()
    return {"digest": digest.hexdigest(), "plan": plan}


if __name__ == "__main__":
    main()
