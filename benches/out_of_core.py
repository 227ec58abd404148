"""Self k-NN join of descriptors that lie in Parquet files, in less memory than they take.

The command `lshjoin knn` in a process of its own, whose memory is limited from outside: by systemd
where it runs, in a cgroup of yours (--cgroup, a directory whose limit is set), or else by a watch
that kills it when what it has allocated goes beyond. Then recall by exact search on a sample, and
the same on paper for 100,000,000 x 384. Writes bench-results/out_of_core.json and .md.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import record
from descriptors import descriptor_batches
from lshjoin._lshjoin import isa
from lshjoin.datasets import open_dataset
from recall import SAMPLE, Truth

DIMENSIONS = 96
K = 10
FILE_ROWS = 500_000
PAPER = {"rows": 100_000_000, "dimensions": 384}


def write_descriptors(directory: Path, rows: int, seed: int) -> None:
    """Parquet files in a directory, unless they are there."""
    done = directory / "_SUCCESS"
    if done.exists():
        return
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    batches = descriptor_batches(rows, seed, FILE_ROWS, DIMENSIONS)
    for number, batch in enumerate(batches):
        vectors = pa.FixedSizeListArray.from_arrays(batch.ravel(), DIMENSIONS)
        ids = np.arange(number * FILE_ROWS, number * FILE_ROWS + len(batch))
        table = pa.table({"id": ids, "embedding": vectors})
        path = directory / f"part-{number:05}.parquet"
        pq.write_table(table, path, row_group_size=100_000, use_dictionary=False)
    done.touch()


def limiter(memory: int, cgroup: Path | None) -> tuple[str, list[str], Callable[[], None] | None]:
    """How memory is limited, the words before the command, and what its process does first."""
    if cgroup is not None:
        procs = cgroup / "cgroup.procs"
        return f"cgroup {cgroup}", [], lambda: print(os.getpid(), file=procs.open("w"), flush=True)
    limits = ["-p", f"MemoryMax={memory}", "-p", "MemorySwapMax=0"]
    scope = ["systemd-run", "--scope", "--quiet", *limits]
    if shutil.which(scope[0]):
        tried = subprocess.run([*scope, "true"], check=False, capture_output=True)
        if tried.returncode == 0:
            return "systemd-run with MemoryMax", scope, None
    return "a watch on RssAnon, ten times a second", [], None


def watched(
    command: list[str], start: Callable[[], None] | None, memory: int
) -> tuple[dict[str, Any], dict[str, int]]:
    """What the command prints, and the most memory and the input and output of its process."""
    peak = {"RssAnon": 0, "RssFile": 0}
    moved: dict[str, int] = {}
    # Its errors go to ours.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=start)
    proc = Path(f"/proc/{process.pid}")
    while process.poll() is None:
        try:
            status = (proc / "status").read_text().splitlines()
            counts = (proc / "io").read_text().splitlines()
        except OSError:
            continue
        for name, _, value in (line.partition(":") for line in status):
            if name in peak:
                peak[name] = max(peak[name], int(value.split()[0]) << 10)
        moved = {name: int(value) for name, value in (line.split(": ") for line in counts)}
        if peak["RssAnon"] > memory:
            process.kill()
        time.sleep(0.1)
    output, _ = process.communicate()
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}, having had {peak}")
    return json.loads(output), peak | moved


def recall(data: Path, pairs: Path, seed: int) -> float:
    """The share of the k nearest that was found, by exact search on sampled rows."""
    items = open_dataset(data, "embedding").read()
    truth = Truth.of(items, None, K, seed)
    # Zeros that are not touched take no memory. Places that stay empty are the row itself.
    found = np.zeros((len(items), K), np.int64)
    found[truth.sample] = truth.sample[:, None]
    places = np.zeros(len(items), np.int64)
    wanted = pads.field("query").isin(pa.array(truth.sample))
    for batch in pads.dataset(pairs).to_batches(filter=wanted):
        for query, item in zip(
            *(batch[name].to_numpy() for name in ("query", "item")), strict=True
        ):
            found[query, places[query]] = item
            places[query] += 1
    return truth.recall(items, None, found)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=5_000_000)
    options.add_argument("--recall", type=float, default=0.9)
    options.add_argument("--memory", type=int, default=3 << 30, help="bytes")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--cgroup", type=Path)
    options.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    chosen = options.parse_args()

    data = chosen.directory / f"descriptors-{chosen.rows}x{DIMENSIONS}-{chosen.seed}"
    write_descriptors(data, chosen.rows, chosen.seed)
    pairs = chosen.directory / "pairs.parquet"
    pairs.unlink(missing_ok=True)
    limit, before, start = limiter(chosen.memory, chosen.cgroup)
    command = [
        *(*before, sys.executable, "-m", "lshjoin", "knn", str(data), "-k", str(K)),
        *("--recall", str(chosen.recall), "--column", "embedding", "--id", "id"),
        *("--memory-limit", str(chosen.memory), "--out", str(pairs), "--json"),
    ]
    print(" ".join(command), file=sys.stderr)
    join, process = watched(command, start, chosen.memory)
    result = {
        "machine": record.machine(),
        "versions": record.versions("lshjoin", "numpy", "pyarrow", "faiss-cpu"),
        "isa": isa(),
        "rows": chosen.rows,
        "dimensions": DIMENSIONS,
        "k": K,
        "data_seed": chosen.seed,
        "data_bytes": sum(file.stat().st_size for file in data.glob("*.parquet")),
        "recall_asked": chosen.recall,
        "recall": recall(data, pairs, chosen.seed),
        "recall_sample": SAMPLE,
        "memory_limit": chosen.memory,
        "limited_by": limit,
        "pairs_bytes": pairs.stat().st_size,
        "join": join,
        "process": process,
    }
    pairs.unlink()
    text = report(result)
    record.write("out_of_core", result, text)
    print(text)


def on_paper(result: dict[str, Any]) -> dict[str, float]:
    """Hours for 100,000,000 x 384: reading and writing by their bytes, the join with the 1.35th
    power of the rows and with the dimensions.
    """
    seconds = result["join"]["seconds"]
    rows = PAPER["rows"] / result["rows"]
    dimensions = PAPER["dimensions"] / result["dimensions"]
    return {
        # Each row is compared with all centroids, whose number grows with the root of the rows.
        "index": seconds["index"] * rows * max(rows**0.5, dimensions) / 3600,
        "join": (seconds["plan"] + seconds["join"]) * rows**1.35 * dimensions / 3600,
        "write": seconds["write"] * rows / 3600,
    }


def report(result: dict[str, Any]) -> str:
    machine, join, process = result["machine"], result["join"], result["process"]
    plan = join["plan"]
    seconds, paper = join["seconds"], on_paper(result)
    lines = [
        "# Out of core",
        "",
        f"Self-join of {result['rows']:,} x {result['dimensions']} float32 descriptors, k = "
        f"{result['k']}, {result['data_bytes'] / 1e9:.2f} GB of Parquet files, recall "
        f"{result['recall_asked']} asked, memory limit {result['memory_limit'] / 2**30:g} GiB, "
        f"enforced by {result['limited_by']}. Seed {result['data_seed']}.",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, instruction set {result['isa']}, "
        f"{machine['system']}; "
        + ", ".join(f"{name} {number}" for name, number in result["versions"].items())
        + ".",
        "",
        f"| | {result['rows']:,} x {result['dimensions']} | "
        f"{PAPER['rows']:,} x {PAPER['dimensions']}, on paper |",
        "|---|---:|---:|",
        f"| index: reading three times, writing | {seconds['index']:.0f} s | "
        f"{paper['index']:.1f} h |",
        f"| plan and join, {-(-plan['queries'] // plan['stretch'])} stretches | "
        f"{seconds['plan'] + seconds['join']:.0f} s | {paper['join']:.1f} h |",
        f"| one file of the pairs | {seconds['write']:.0f} s | {paper['write']:.1f} h |",
        f"| in all | {seconds['all']:.0f} s | {sum(paper.values()):.1f} h |",
        "",
        f"Recall {result['recall']:.3f} on {result['recall_sample']:,} rows by exact search; "
        f"{join['pairs']:,} pairs in {result['pairs_bytes'] / 1e9:.2f} GB.",
        "",
        f"Most memory allocated {process['RssAnon'] / 2**30:.2f} GiB (RssAnon), beside mapped "
        f"files {process['RssFile'] / 2**30:.2f} GiB (RssFile, cache that the system may take "
        f"back). Read {process['rchar'] / 1e9:.1f} GB and written {process['wchar'] / 1e9:.1f} GB "
        f"by calls; {process['read_bytes'] / 1e9:.1f} GB and {process['write_bytes'] / 1e9:.1f} GB "
        "of it from and to the disk, with what was read through maps.",
        "",
        f"On paper: the index by rows and by the larger of its dimensions and of the root of the "
        f"rows, as each row is compared with 1.5 times the root of the rows as many centroids; "
        f"the join by the 1.35th power of the rows and by dimensions; the file of pairs by rows. "
        f"A disk that is slower than the processor takes longer: the index alone has "
        f"{PAPER['rows'] * (5 * PAPER['dimensions'] + 28) / 1e9:.0f} GB.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
