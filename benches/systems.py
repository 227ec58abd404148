"""One k-NN join by one system, in a process of its own: `python systems.py JOB`, JOB being JSON.

Rows are loaded first; what is timed is everything from arrays in memory to the answer, building
included. Prints seconds, peak memory and a digest of the answer as JSON; knn_join.py runs this.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

THREADS = 2
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
Rows = NDArray[np.float32]
Indices = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class System:
    name: str
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return f"{self.name} ({settings})"


@dataclass(frozen=True)
class Measurement:
    seconds: float
    peak_bytes: int
    digest: str
    plan: str | None


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
    found = items.with_suffix(f".{os.getpid()}.npy")
    job = {
        "system": asdict(system),
        "items": str(items),
        "queries": queries and str(queries),
        "k": k,
        "threads": threads,
        "found": str(found),
    }
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
    printed = subprocess.run(
        [sys.executable, __file__, json.dumps(job)],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    indices = np.load(found)
    found.unlink()
    return Measurement(**json.loads(printed)), indices


def lshjoin(
    items: Rows,
    queries: Rows | None,
    k: int,
    threads: int,
    *,
    plan: str | None = None,
    **settings: Any,
) -> tuple[float, Indices, Any]:
    from lshjoin import JoinPlan, knn_join

    if plan is not None:
        settings["plan"] = JoinPlan.from_json(plan)
    start = perf_counter()
    joined = knn_join(queries, items, k, num_threads=threads, progress=False, **settings)
    return perf_counter() - start, joined.indices, joined


def faiss(
    items: Rows,
    queries: Rows | None,
    k: int,
    threads: int,
    *,
    index: str,
    train: int | None = None,
    **search: Any,
) -> tuple[float, Indices, None]:
    """An index by its factory string, trained on a sample of ``train`` rows."""
    import faiss

    faiss.omp_set_num_threads(threads)
    start = perf_counter()
    made = faiss.index_factory(items.shape[1], index)
    if not made.is_trained:
        chosen = np.random.default_rng(0).choice(len(items), min(train, len(items)), replace=False)
        made.train(items[chosen])
    made.add(items)
    parameters = faiss.ParameterSpace()
    for name, value in search.items():
        parameters.set_index_parameter(made, name, value)
    _, found = made.search(*_asked(items, queries, k))
    return perf_counter() - start, found, None


def hnswlib(
    items: Rows,
    queries: Rows | None,
    k: int,
    threads: int,
    *,
    M: int,
    ef_construction: int,
    ef: int,
) -> tuple[float, Indices, None]:
    import hnswlib

    start = perf_counter()
    made = hnswlib.Index(space="l2", dim=items.shape[1])
    made.init_index(max_elements=len(items), M=M, ef_construction=ef_construction)
    made.add_items(items, num_threads=threads)
    made.set_ef(ef)
    found, _ = made.knn_query(*_asked(items, queries, k), num_threads=threads)
    return perf_counter() - start, found.astype(np.int64), None


def _asked(items: Rows, queries: Rows | None, k: int) -> tuple[Rows, int]:
    """A self-join asks for one more, since the peers return the row itself as its nearest."""
    return (items, k + 1) if queries is None else (queries, k)


def without_itself(found: Indices) -> Indices:
    """One column less: the row itself, or the last where a duplicate took its place."""
    itself = found == np.arange(len(found))[:, None]
    itself[~itself.any(axis=1), -1] = True
    return found[~itself].reshape(len(found), -1)


def peak_bytes() -> int:
    """Of this process alone: getrusage's maximum starts at that of the process that forked it."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def main() -> None:
    job = json.loads(sys.argv[1])
    system = System(**job["system"])
    items = np.load(job["items"])
    queries = np.load(job["queries"]) if job["queries"] else None
    run = {"lshjoin": lshjoin, "FAISS": faiss, "hnswlib": hnswlib}[system.name]
    seconds, found, answer = run(items, queries, job["k"], job["threads"], **system.settings)
    peak = peak_bytes()
    if system.name != "lshjoin" and queries is None:
        found = without_itself(found)
    np.save(job["found"], found)
    digest = blake2b(digest_size=16)
    for array in answer or (found,):
        digest.update(np.ascontiguousarray(array))
    plan = answer and answer.plan.to_json()
    measured = Measurement(seconds, peak, digest.hexdigest(), plan)
    print(json.dumps(asdict(measured)))


if __name__ == "__main__":
    main()
