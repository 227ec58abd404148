"""Self k-NN join of descriptors that lie in Parquet files, in less memory than they take.

The command `lshjoin knn` in a process of its own, whose memory is limited from outside: by systemd
where it runs, in a cgroup of the user's (--cgroup, a directory with its limit set), or else by
RLIMIT_DATA, which counts all but mapped files. Then recall by exact search on a sample, and the same
on paper for 100,000,000 x 384. Writes bench-results/out_of_core.json and .md.
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
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import record
from descriptors import descriptor_batches
from lshjoin._lshjoin import isa
from lshjoin.datasets import open_dataset
from recall import Truth

DIMENSIONS = 96
K = 10
FILE_ROWS = 500_000
SAMPLE = 1_000
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
        enter = cgroup / "cgroup.procs"
        return f"cgroup {cgroup}", [], lambda: enter.write_text(str(os.getpid())) and None
    scope = [
        "systemd-run",
        "--scope",
        "--quiet",
        "-p",
        f"MemoryMax={memory}",
        "-p",
        "MemorySwapMax=0",
    ]
    if (
        shutil.which("systemd-run")
        and not subprocess.run([*scope, "true"], check=False, capture_output=True).returncode
    ):
        return "systemd-run, MemoryMax", scope, None
    return "RLIMIT_DATA: all but mapped files", ["prlimit", f"--data={memory}"], None


def watched(
    command: list[str], start: Callable[[], None] | None
) -> tuple[dict[str, Any], dict[str, int]]:
    """What the command prints, and the most memory and the input and output of its process."""
    peak = {"VmHWM": 0, "RssAnon": 0, "RssFile": 0}
    moved: dict[str, int] = {}
    # Its errors, and progress, go to ours.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=start)
    proc = Path(f"/proc/{process.pid}")
    while process.poll() is None:
        try:
            status = (proc / "status").read_text().splitlines()
            counts = (proc / "io").read_text().splitlines()
        except OSError:
            break
        for line in status:
            name, _, value = line.partition(":")
            if name in peak:
                peak[name] = max(peak[name], int(value.split()[0]) << 10)
        moved = {name: int(value) for name, value in (line.split(": ") for line in counts)}
        time.sleep(0.1)
    output, _ = process.communicate()
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return json.loads(output), peak | moved


def recall(data: Path, pairs: Path, seed: int) -> float:
    """The share of the k nearest that was found, by exact search on sampled rows."""
    items = open_dataset(data, "embedding").read()
    truth = Truth.of(items, None, K, seed, SAMPLE)
    wanted = pads.field("query").isin(pa.array(truth.sample))
    found = pads.dataset(pairs).to_table(filter=wanted).sort_by("query")
    assert pc.all(pc.equal(pc.value_counts(found["query"]).field("counts"), K)).as_py()
    return truth.recall_of_sample(items, None, found["item"].to_numpy().reshape(-1, K))


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
    join, process = watched(command, start)
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
