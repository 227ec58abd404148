"""One run: a line for each measurement, appended to bench-results/NAME.jsonl.

A run that was interrupted goes on where it ended; one that is complete is begun anew.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from time import perf_counter
from typing import Any

from lshjoin._lshjoin import isa

from benches import record
from benches.comparison.sweeps import Sweep
from benches.comparison.workloads import Workload
from benches.data.dataset import Data
from benches.data.rows import Indices
from benches.systems import install
from benches.systems.measure import measure_each
from benches.systems.protocol import THREADS, Failure, Measurement, System

PACKAGES = (
    "lshjoin",
    "faiss-cpu",
    "hnswlib",
    "usearch",
    "pyglass-portable",
    "pipnn",
    "deglib",
    "diskannpy-rust",
    "scalable-vs",
    "semhash",
    "pynndescent",
    "annoy",
    "scikit-learn",
    "NearPy",
    "falconn",
    "pyspark",
    "numpy",
    "numba",
)


class Run:
    """The lines of one run, on disk as soon as they are there."""

    def __init__(self, name: str):
        self.name = name
        self.about = {
            "machine": record.machine(),
            "isa": isa(),
            "threads": THREADS,
            "versions": record.versions(*PACKAGES) | install.rust_version(),
            "not_installed": install.failures(),
            "load": os.getloadavg()[0],  # of the machine: others' work makes all times doubtful
        }
        lines = record.read_lines(name)
        goes_on = bool(lines) and not any("finished" in line for line in lines)
        if goes_on and all(lines[0][part] == self.about[part] for part in ("machine", "versions")):
            self.seconds_before = max((line.get("elapsed", 0) for line in lines), default=0)
        else:
            (record.RESULTS / f"{name}.jsonl").unlink(missing_ok=True)
            lines, self.seconds_before = [], 0
        self.start = perf_counter()
        self.lines: list[dict[str, Any]] = []
        self.done = {key(line) for line in lines if "system" in line}
        self.described = {line["workload"] for line in lines if "statistics" in line}
        if not lines:
            self.append({"started": record.now()} | self.about)

    def append(self, line: dict[str, Any]) -> None:
        elapsed = self.seconds_before + perf_counter() - self.start
        record.append_line(self.name, line | {"elapsed": round(elapsed, 1)})

    def run(self, workload: Workload) -> None:
        print(f"== {workload.name}", flush=True)
        data = workload.data()
        if workload.name not in self.described:
            self.append(description(workload, data))
        for turn in range(workload.rounds):
            for sweep in workload.sweeps(data):
                asked = [
                    {"workload": workload.name, "round": turn}
                    | {"system": sweep.name, "build": sweep.build, "search": search}
                    for search in sweep.searches
                ]
                if not all(key(one) in self.done for one in asked):
                    self.measure(workload, data, sweep, asked)

    def measure(
        self, workload: Workload, data: Data, sweep: Sweep, asked: Sequence[dict[str, Any]]
    ) -> None:
        results = measure_each(
            sweep.name,
            sweep.build,
            sweep.searches,
            data.items_file,
            data.queries_file,
            task=workload.task,
            metric=data.metric,
            k=data.k,
            radius=workload.radius,
            keys=data.keys_file,
            limit=workload.limit * sweep.patience,
        )
        for one, (result, found) in zip(asked, results, strict=True):
            outcome = measured(data, workload.task, result, found)
            if key(one) not in self.done:
                self.append(one | outcome)
            system = System(sweep.name, sweep.build, one["search"])
            print(f"  {system}: {brief(outcome)}", flush=True)


def key(line: dict[str, Any]) -> str:
    parts = ("workload", "round", "system", "build", "search")
    return json.dumps([line[part] for part in parts], sort_keys=True)


def description(workload: Workload, data: Data) -> dict[str, Any]:
    return {
        "workload": workload.name,
        "title": workload.title,
        "task": workload.task,
        "data": str(data),
        "rows": len(data.items),
        "dimensions": data.items.shape[1],
        "queries": None if data.queries is None else len(data.queries),
        "metric": data.metric,
        "k": data.k,
        "radius": workload.radius,
        "limit": workload.limit,
        "item_bytes": data.items.nbytes,
        "statistics": data.statistics,
    }


def measured(
    data: Data, task: str, result: Measurement | Failure, found: Indices | None
) -> dict[str, Any]:
    outcome = {name: value for name, value in asdict(result).items() if value is not None}
    outcome.pop("digest", None)
    if isinstance(result, Measurement):
        outcome["seconds"] = result.seconds
        if task in ("knn", "within"):
            outcome["recall"] = data.recall(found)
    return outcome


def brief(outcome: dict[str, Any]) -> str:
    if "error" in outcome:
        return outcome["error"]
    if "over_seconds" in outcome:
        return f"over {outcome['over_seconds']:.0f} s"
    about = f", recall {outcome['recall']:.4f}" if "recall" in outcome else ""
    about += f", {outcome['pairs']:,} pairs" if "pairs" in outcome else ""
    about += f", {outcome['kept']:,} kept" if "kept" in outcome else ""
    return (
        f"{outcome['build_seconds']:.3f} + {outcome['search_seconds']:.4f} s{about}, "
        f"{outcome['peak_bytes'] / 1e6:.0f} MB"
    )
