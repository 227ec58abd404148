"""How joins grow with the rows: seconds and memory of lshjoin and of the fastest others.

Self-joins of 10,000 to 3,000,000 generated descriptors, or of parts of a file's rows (--data),
each system with the fastest of its settings that finds 90 % or more; fewer rows are a sample of
more. The exponents of time and memory are fitted to the larger sizes, and what 100,000,000 rows
would take is told by them. What was measured is kept in bench-results/growth-run.jsonl until all
is, so that a run that was interrupted goes on; then in bench-results/growth.json, .md and .svg.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benches import record
from benches.comparison.run import Run
from benches.comparison.sweeps import Sweep, millions
from benches.comparison.workloads import Workload
from benches.data.dataset import Data, K
from benches.data.descriptors import descriptors
from benches.data.files import read
from benches.data.rows import Rows
from benches.report import plots
from benches.report.growth import growth_page
from benches.report.results import AGAIN, ENOUGH, Results, chosen

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)
FITTED_FROM = 100_000  # rows: below, what does not grow counts too much
PAPER = 100_000_000
LIMIT = 600  # seconds for a build and its searches
OF_MEMORY = 0.8  # what a process may be expected to take of what is free
RUNNING = "growth-run"


def sampled(name: str, rows: Rows, count: int, k: int) -> Data:
    order = np.random.default_rng(0).permutation(len(rows))
    return Data(name, rows[np.sort(order[:count])], k=k)


def generated(count: int) -> Data:
    return Data("generated descriptors", descriptors(count, seed=0))


def promising(data: Data) -> list[Sweep]:
    """Those that did the size before in time, and whose memory would do."""
    results = Results(RUNNING)
    if not (sizes := sorted(results.workloads.values(), key=lambda about: about["rows"])):
        return millions(data)
    before = [about for about in sizes if about["rows"] < len(data.items)]
    if not before:
        return millions(data)
    times = len(data.items) / before[-1]["rows"]
    points = results.points(before[-1]["workload"])
    free = psutil.virtual_memory().available * OF_MEMORY

    def fits(sweep: Sweep) -> bool:
        done = [
            point
            for point in points
            if point.line["system"] == sweep.name
            and point.line["build"].get("index", "").split(",")[1:2]
            == sweep.build.get("index", "").split(",")[1:2]
        ]
        return any(point.seconds is not None for point in done) and (
            max(point.peak_bytes for point in done) * times < free
        )

    return [sweep for sweep in millions(data) if fits(sweep)]


def summary(results: Results) -> dict[str, Any]:
    """A line for each system, with the exponents and what they tell of more rows."""
    systems: dict[str, list[dict[str, Any]]] = {}
    for name, about in results.workloads.items():
        for label, points in results.of_label(name).items():
            best = chosen(points)
            if label != AGAIN and best.seconds is not None and best.recall >= ENOUGH:
                size = {"rows": about["rows"], "seconds": best.seconds, "recall": best.recall}
                size |= {"peak_bytes": best.peak_bytes, "settings": best.settings}
                systems.setdefault(label, []).append(size)
    return {
        label: {"sizes": sizes} | told(sizes, ("seconds", "peak_bytes"))
        for label, sizes in systems.items()
    }


def told(sizes: Sequence[dict[str, Any]], amounts: Sequence[str]) -> dict[str, Any]:
    """Exponents of the larger sizes, and what 100,000,000 rows would take by them."""
    large = [size for size in sizes if size["rows"] >= FITTED_FROM]
    if len(large) < 2:
        return {}
    logs = np.log([size["rows"] for size in large])
    found: dict[str, Any] = {"fitted": [size["rows"] for size in large]}
    for amount in amounts:
        exponent = float(np.polyfit(logs, np.log([size[amount] for size in large]), 1)[0])
        factor = (PAPER / large[-1]["rows"]) ** exponent
        found[amount] = {"exponent": exponent, "projected": large[-1][amount] * factor}
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=SIZES[-1], help="at most")
    options.add_argument("--data", type=Path, help="a file of rows")
    options.add_argument("--k", type=int, default=K, help="neighbours of a row, in that file")
    options.add_argument("--name", default="growth", help="of the results")
    chosen_options = options.parse_args()
    make: Callable[[int], Data] = generated
    if chosen_options.data:
        whole = read(chosen_options.data, chosen_options.k)
        chosen_options.rows = min(chosen_options.rows, len(whole.items))
        make = partial(sampled, whole.name, whole.items, k=whole.k)
    run = Run(RUNNING)
    for rows in SIZES:
        if rows <= chosen_options.rows:
            name = f"growth-{rows}"
            run.run(Workload(name, "k-NN self-join", partial(make, rows), promising, LIMIT))
    results = Results(RUNNING)
    largest = max(results.workloads.values(), key=lambda about: about["rows"])
    result = {part: results.about[part] for part in ("machine", "isa", "threads", "versions")}
    result |= {"data": largest["data"], "k": largest["k"], "recall": ENOUGH, "paper": PAPER}
    result |= {"noise": results.noise(largest["workload"]), "systems": summary(results)}
    record.write(chosen_options.name, result, growth_page(result, chosen_options.name))
    plots.draw_growth(result, chosen_options.name)
    (record.RESULTS / f"{RUNNING}.jsonl").unlink()
    print(f"bench-results/{chosen_options.name}.md")


if __name__ == "__main__":
    main()
