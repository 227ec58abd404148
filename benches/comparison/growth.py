"""How joins grow with the rows: seconds and memory of lshjoin and of the fastest others.

Self-joins of 10,000 to 3,000,000 generated descriptors, or of parts of a file's rows (--data),
each system with the fastest of its settings that finds 90 % or more; fewer rows are a sample of
more. Exponents are fitted to the larger sizes; that of time tells what 100,000,000 rows would take.
Memory is told by what each row added between the two largest sizes, since an exponent counts what a
process has without any rows, too. What was measured is kept in bench-results/growth-of-DATA.jsonl
until all is, so that a run that was interrupted goes on; then in bench-results/growth.json, .md and
.svg.
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
from benches.report.results import AGAIN, ENOUGH, Results, chosen, label

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)
FITTED_FROM = 100_000  # rows: below, what does not grow counts too much
PAPER = 100_000_000
LIMIT = 600  # seconds for a build and its searches
OF_MEMORY = 0.8  # what a process may be expected to take of what is free


def sampled(name: str, rows: Rows, count: int, k: int) -> Data:
    if count < len(rows):
        rows = rows[np.sort(np.random.default_rng(0).permutation(len(rows))[:count])]
    return Data(name, rows, k=k)


def generated(count: int) -> Data:
    return Data("generated descriptors", descriptors(count, seed=0))


def promising(run: str, data: Data) -> list[Sweep]:
    """Those that did the size before in time, and whose memory would do."""
    results = Results(run)
    rows = len(data.items)
    before = [about for about in results.workloads.values() if about["rows"] < rows]
    if not before:
        return millions(data)
    times = rows / before[-1]["rows"]
    points = results.points(before[-1]["workload"])
    free = psutil.virtual_memory().available * OF_MEMORY

    def fits(sweep: Sweep) -> bool:
        name = label({"system": sweep.name, "build": sweep.build})
        done = [one for one in points if one.label == name and one.seconds is not None]
        return any(done) and max(one.peak_bytes for one in done) * times < free

    return [sweep for sweep in millions(data) if fits(sweep)]


def summary(results: Results) -> dict[str, Any]:
    """A line for each system, with the exponents and what they tell of more rows."""
    systems: dict[str, list[dict[str, Any]]] = {}
    for name, about in results.workloads.items():
        for system, points in results.of_label(name).items():
            best = chosen(points)
            if system != AGAIN and best.seconds is not None and best.recall >= ENOUGH:
                size = {"rows": about["rows"], "seconds": best.seconds, "recall": best.recall}
                size |= {"peak_bytes": best.peak_bytes, "settings": best.settings}
                systems.setdefault(system, []).append(size)
    return {system: {"sizes": sizes} | told(sizes) for system, sizes in systems.items()}


def told(sizes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Exponents of the larger sizes, and what 100,000,000 rows would take."""
    large = [size for size in sizes if size["rows"] >= FITTED_FROM]
    if len(large) < 2:
        return {}
    logs = np.log([size["rows"] for size in large])
    found: dict[str, Any] = {"fitted": [size["rows"] for size in large]}
    for amount in ("seconds", "peak_bytes"):
        exponent = float(np.polyfit(logs, np.log([size[amount] for size in large]), 1)[0])
        found[amount] = {"exponent": exponent}
    before, last = large[-2:]
    factor = (PAPER / last["rows"]) ** found["seconds"]["exponent"]
    found["seconds"]["projected"] = last["seconds"] * factor
    of_row = (last["peak_bytes"] - before["peak_bytes"]) / (last["rows"] - before["rows"])
    memory = last["peak_bytes"] + of_row * (PAPER - last["rows"])
    found["peak_bytes"]["projected"] = memory
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=SIZES[-1], help="at most")
    options.add_argument("--data", type=Path, help="a file of rows")
    options.add_argument("--k", type=int, default=K, help="neighbours of a row, in that file")
    options.add_argument("--name", default="growth", help="of the results")
    asked = options.parse_args()
    make: Callable[[int], Data] = generated
    if asked.data:
        whole = read(asked.data, asked.k)
        asked.rows = min(asked.rows, len(whole.items))
        make = partial(sampled, whole.name, whole.items, k=whole.k)
    running = f"growth-of-{asked.data.stem if asked.data else 'descriptors'}"
    run, sweeps = Run(running), partial(promising, running)
    for rows in SIZES:
        if rows <= asked.rows:
            name = f"growth-{rows}"
            run.run(Workload(name, "k-NN self-join", partial(make, rows), sweeps, LIMIT))
    results = Results(running)
    largest = max(results.workloads.values(), key=lambda about: about["rows"])
    result = {part: results.about[part] for part in ("machine", "isa", "threads", "versions")}
    result |= {"data": largest["data"], "k": largest["k"], "recall": ENOUGH, "paper": PAPER}
    result |= {"noise": results.noise(largest["workload"]), "systems": summary(results)}
    record.write(asked.name, result, growth_page(result, asked.name))
    plots.draw_growth(result, asked.name)
    (record.RESULTS / f"{running}.jsonl").unlink()
    print(f"bench-results/{asked.name}.md")


if __name__ == "__main__":
    main()
