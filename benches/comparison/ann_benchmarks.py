"""Runs the adapter in benches/ann-benchmarks/ as ann-benchmarks does in batch mode.

Without Docker and without its data sets. The definitions come from config.yml; each is constructed
and fitted once, then for every group of query arguments asked several times, of which the fastest
counts. Recall is the share of answers no farther than the true k-th neighbour and 1e-3, as there.
`--data FILE.hdf5` takes one of its files.
"""

import argparse
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from benches.data.embeddings import unit_clusters
from benches.data.files import read
from benches.data.rows import Rows

ADAPTER = Path(__file__).resolve().parents[1] / "ann-benchmarks"
PACKAGE = "ann_benchmarks.algorithms"
RUNS = 3
SLACK = 1e-3


class BaseANN:
    """What ann-benchmarks' base class gives an algorithm."""

    def done(self) -> None: ...

    def get_additional(self) -> dict[str, Any]:
        return {}

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Outcome:
    name: str
    build_seconds: float
    queries_a_second: float
    recall: float


def adapter() -> ModuleType:
    """module.py, imported where it expects to be."""
    base = ModuleType(f"{PACKAGE}.base.module")
    base.BaseANN = BaseANN
    for name in ("ann_benchmarks", PACKAGE, f"{PACKAGE}.base", f"{PACKAGE}.lshjoin"):
        package = sys.modules.setdefault(name, ModuleType(name))
        package.__path__ = []
    sys.modules[base.__name__] = base
    name, path = f"{PACKAGE}.lshjoin.module", ADAPTER / "module.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def definitions(metric: str) -> Iterator[tuple[str, list[Any], list[tuple[Any, ...]]]]:
    """Constructor, its arguments and the groups of query arguments, by config.yml."""
    config = yaml.safe_load((ADAPTER / "config.yml").read_text())
    for entry in config["float"].get(metric, []):
        base = [metric if argument == "@metric" else argument for argument in entry["base_args"]]
        for group in entry["run_groups"].values():
            for arguments in combinations(group["args"]):
                yield (
                    entry["constructor"],
                    base + list(arguments),
                    combinations(group["query_args"]),
                )


def combinations(arguments: list[Any]) -> list[tuple[Any, ...]]:
    """One of each list, in all ways; what is not a list stands for itself."""
    return list(product(*(one if isinstance(one, list) else [one] for one in arguments)))


def distances(metric: str, items: Rows, query: Rows) -> NDArray[np.float64]:
    items, query = items.astype(float), query.astype(float)
    if metric == "euclidean":
        return np.linalg.norm(items - query, axis=1)
    return 1 - items @ query / (np.linalg.norm(items, axis=1) * np.linalg.norm(query))


def run(items: Rows, queries: Rows, metric: str, k: int) -> Iterator[Outcome]:
    module = adapter()
    true = [np.partition(distances(metric, items, q), k - 1)[k - 1] for q in queries]
    for constructor, arguments, groups in definitions(metric):
        algorithm = getattr(module, constructor)(*arguments)
        start = perf_counter()
        algorithm.fit(items)
        build_seconds = perf_counter() - start
        for group in groups or [()]:
            if group:
                algorithm.set_query_arguments(*group)
            best = np.inf
            for _ in range(RUNS):
                start = perf_counter()
                algorithm.batch_query(queries, k)
                best = min(best, perf_counter() - start)
            found = algorithm.get_batch_results()
            if max(map(len, found)) > k:
                raise ValueError(f"{algorithm} returned more than {k} neighbours")
            right = sum(
                (distances(metric, items[near], query) <= limit + SLACK).sum()
                for near, query, limit in zip(found, queries, true, strict=True)
            )
            algorithm.get_additional()
            yield Outcome(
                str(algorithm), build_seconds, len(queries) / best, right / (k * len(queries))
            )
        algorithm.done()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, help="an .hdf5 file of ann-benchmarks")
    options.add_argument("--count", type=int, default=10, help="neighbours a query")
    chosen = options.parse_args()
    if chosen.data:
        data = read(chosen.data)
        items, queries = data.items, data.queries
        metric = {"euclidean": "euclidean", "cosine": "angular"}[data.metric]
    else:
        rows = unit_clusters(51_000, 96, seed=0)
        items, queries, metric = rows[1_000:], rows[:1_000], "angular"
    print(f"{len(items):,} x {items.shape[1]}, {len(queries):,} queries, {metric}")
    for outcome in run(items, queries, metric, chosen.count):
        print(
            f"  {outcome.name}: build {outcome.build_seconds:.3f} s, "
            f"{outcome.queries_a_second:,.0f} queries a second, recall {outcome.recall:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
