"""An index of descriptors on disk: opening it, its memory, and recall after adding and removing.

Each measurement of opening is of a process of its own, in which the files are warm in the page
cache. Resident memory is what the process has more after `load` than before. A tenth of the items
is then removed and as many others are added; recall is measured against exact search, before that,
after it, and after saving and loading. Writes bench-results/index.json and .md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from lshjoin import Index
from lshjoin._lshjoin import isa

from benches import record
from benches.data.descriptors import descriptors
from benches.data.truth import Truth
from benches.systems.protocol import THREADS

K = 10
RECALL = 0.95
BARS = {"load_seconds": 0.05, "load_bytes": 50e6, "recall_lost": 0.01}

OPEN = """
import json, sys
from time import perf_counter
import numpy as np
from lshjoin import Index
from lshjoin._lshjoin import isa

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

before = resident()
start = perf_counter()
index = Index.load(sys.argv[1], mmap=True)
opened = perf_counter()
bytes = resident() - before
query = np.full((1, index.dim), 20, np.float32)
times = []
for _ in range(2):
    begun = perf_counter()
    index.knn(query, 10)
    times.append(perf_counter() - begun)
print(json.dumps({"load_seconds": opened - start, "load_bytes": bytes,
    "first_query_seconds": times[0], "second_query_seconds": times[1]}))
"""


def opened(path: Path) -> dict[str, float]:
    command = [sys.executable, "-c", OPEN, str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def searched(index: Index, queries: Any, items: Any, truth: Truth) -> dict[str, float]:
    """Recall and seconds of a search whose ids are rows of `items`."""
    start = perf_counter()
    near = index.knn(queries, K, recall=RECALL, num_threads=THREADS)
    seconds = perf_counter() - start
    return {"recall": truth.recall(items, queries, near.indices), "seconds": seconds}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--queries", type=int, default=50_000)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--data-seed", type=int, default=0)
    chosen = options.parse_args()

    change = chosen.rows // 10
    data = descriptors(chosen.rows + change + chosen.queries, chosen.data_seed)
    items, queries = data[: chosen.rows + change], data[chosen.rows + change :]
    seconds = {}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "index"
        start = perf_counter()
        index = Index.build(items[: chosen.rows], num_threads=THREADS)
        seconds["build"] = perf_counter() - start
        start = perf_counter()
        index.save(path, num_threads=THREADS)
        seconds["save"] = perf_counter() - start
        size = sum(file.stat().st_size for file in path.iterdir())
        loads = [opened(path) for _ in range(chosen.repeats)]

        index = Index.load(path)
        before = Truth.of(items[: chosen.rows], queries, K, seed=1)
        found = {"as built": searched(index, queries, items, before)}
        gone = np.random.default_rng(2).choice(chosen.rows, change, replace=False)
        start = perf_counter()
        index.remove(gone)
        seconds["remove"] = perf_counter() - start
        start = perf_counter()
        index.add(items[chosen.rows :], np.arange(chosen.rows, len(items)))
        seconds["add"] = perf_counter() - start
        left = np.setdiff1d(np.arange(len(items)), gone)
        after = Truth.of(items[left], queries, K, seed=1)
        name = "a tenth removed, a tenth added"
        found[name] = searched(index, queries, items, after)
        start = perf_counter()
        index.save(path, num_threads=THREADS)
        seconds["save what changed"] = perf_counter() - start
        found["saved and loaded"] = searched(Index.load(path), queries, items, after)

    result = {
        "machine": record.machine(),
        "versions": record.versions("lshjoin", "numpy", "faiss-cpu"),
        "isa": isa(),
        "threads": THREADS,
        "rows": chosen.rows,
        "dimensions": items.shape[1],
        "queries": chosen.queries,
        "k": K,
        "target_recall": RECALL,
        "data_seed": chosen.data_seed,
        "bars": BARS,
        "index_bytes": size,
        "loads": loads,
        "seconds": seconds,
        "searches": found,
    }
    text = report(result)
    record.write("index", result, text)
    print(text)


def report(result: dict[str, Any]) -> str:
    bars = result["bars"]

    def of(name: str) -> float:
        return median(load[name] for load in result["loads"])

    lines = [
        "# Indexes",
        "",
        f"{result['rows']} x {result['dimensions']} float32, generated descriptors, seed "
        f"{result['data_seed']}; {result['index_bytes'] / 1e6:.0f} MB on disk. "
        f"{record.circumstances(result)}",
        "",
        f"| median of {len(result['loads'])} processes | | bar |",
        "|---|---:|---:|",
        f"| `Index.load(path, mmap=True)` | {of('load_seconds') * 1e3:.1f} ms "
        f"| {bars['load_seconds'] * 1e3:.0f} ms |",
        f"| resident before the first query | {of('load_bytes') / 1e6:.1f} MB "
        f"| {bars['load_bytes'] / 1e6:.0f} MB |",
        f"| the first query, which checks codes and ids | {of('first_query_seconds') * 1e3:.0f} ms "
        "| |",
        f"| the second query | {of('second_query_seconds') * 1e3:.0f} ms | |",
        "",
        f"{result['queries']} queries, {result['k']} neighbours, for recall "
        f"{result['target_recall']}:",
        "",
        "| | recall | seconds |",
        "|---|---:|---:|",
        *(
            f"| {name} | {search['recall']:.4f} | {search['seconds']:.2f} |"
            for name, search in result["searches"].items()
        ),
        "",
        f"The bar is a recall no more than {bars['recall_lost']} below that of the index as built.",
        "",
        "| | seconds |",
        "|---|---:|",
        *(f"| {name} | {taken:.2f} |" for name, taken in result["seconds"].items()),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
