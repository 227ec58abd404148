"""Measures a system in a new process."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np

from benches import record
from benches.data.rows import Indices
from benches.systems.meter import with_repeats
from benches.systems.peers import PEERS
from benches.systems.protocol import LOADED, THREADS, Failure, Measurement, System

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


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
    keys: Path | None = None,
    threads: int = THREADS,
    isa: str = "",
    limit: float | None = None,
) -> Iterator[tuple[Measurement | Failure, Indices | None]]:
    """One build and the searches asked of it in turn, in a new process of ``limit`` seconds."""
    with tempfile.TemporaryDirectory() as directory:
        job = {
            "name": name,
            "build": build,
            "searches": searches,
            "items": str(items),
            "queries": queries and str(queries),
            "keys": keys and str(keys),
            "task": task,
            "metric": metric,
            "k": k,
            "radius": radius,
            "threads": threads,
            "found": directory,
        }
        environment = os.environ | {
            **dict.fromkeys(THREAD_VARIABLES, str(threads)),
            "LSHJOIN_ISA": isa,
            # FAISS's threads otherwise spin at every barrier: many times slower as soon as
            # anything else runs on the machine.
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        measured, error = _run(job, environment, limit)
        # What the build and the search in hand had of the time, at least.
        left = (limit or 0) - sum(with_repeats(line["search_seconds"]) for line in measured)
        for line in measured[:1]:
            left -= with_repeats(line["build_seconds"]) - line["build_seconds"]
        for number in range(len(searches)):
            if number < len(measured):
                answer = Path(directory, f"{number}.npy")
                found = np.load(answer) if answer.exists() else None
                yield Measurement(**measured[number]), found
            else:
                yield Failure(error=error) if error else Failure(over_seconds=max(left, 0)), None


def _run(
    job: dict[str, Any], environment: Mapping[str, str], limit: float | None
) -> tuple[list[dict[str, Any]], str | None]:
    """The searches that the process finished in time, and why it failed if it did."""
    peer = PEERS[job["name"]]
    worker = [sys.executable, "-m", "benches.systems.worker"]
    command = [*(worker if isinstance(peer, str) else [str(peer)]), json.dumps(job)]
    printed, complained = Path(job["found"], "printed"), Path(job["found"], "complained")
    error = None
    with printed.open("w") as out, complained.open("w") as err:
        try:
            process = subprocess.Popen(
                command, env=environment, cwd=record.ROOT, stdout=out, stderr=err
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
    return [json.loads(line) for line in lines], error
