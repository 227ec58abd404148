"""The k-NN graph of the SISAP challenges: our entry in their format, beside what was published.

Vectors of a file are written to HDF5 as the challenge has them, unit vectors in `train`. Then
benches/sisap/search.py runs in a process whose memory is limited from outside, and what it wrote
is read as the challenge's evaluator reads it; recall is of a sample. Writes
bench-results/sisap.json and .md.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from lshjoin._lshjoin import isa
from numpy.typing import NDArray

from benches import record
from benches.data.dataset import Data
from benches.data.files import read
from benches.data.rows import unit
from benches.engine.limited_process import limiter, watched
from benches.report.sisap import sisap_table

ENTRY = record.ROOT / "benches/sisap/search.py"
K, ENOUGH = 15, 0.8
MEMORY = 16 << 30
# By the challenge's pages: https://sisap-challenges.github.io/2025/evaluation/ and, for 2026, the
# leaderboard's file of all runs, https://github.com/sisap-challenges/sisap26-leaderboard.
PUBLISHED = (
    {
        "challenge": "SISAP 2025, task 2",
        "data": "GOOAQ, 3,001,496 x 384",
        "machine": "8 virtual processors, 16 GB; the container's time",
        "entries": [
            {"name": "hforest (Hilbert forest)", "recall": 0.8049, "seconds": 105},
            {"name": "SearchGraph (the baseline)", "recall": 0.8257, "seconds": 165},
            {"name": "BrownCICESE", "recall": 0.8198, "seconds": 450},
            {"name": "Crusty Coders", "recall": 0.8012, "seconds": 548},
        ],
    },
    {
        "challenge": "SISAP 2026, task 1",
        "data": "Wikipedia, BGE-M3, 6,000,000 x 1024",
        "machine": "8 virtual processors of an AMD EPYC 7F72 (Zen 2), 24 GB; build and query",
        "entries": [
            {"name": "PiPNN", "recall": 0.8178, "seconds": 187.6},
            {"name": "PiPNN", "recall": 0.9023, "seconds": 286.5},
            {"name": "deglib", "recall": 0.8039, "seconds": 1218.8},
        ],
    },
)


def as_challenge(data: Data, directory: Path) -> tuple[Path, Path]:
    """The file of vectors and the description of the task."""
    vectors, description = directory / "vectors.h5", directory / "config.json"
    with h5py.File(vectors, "w") as file:
        file["train"] = data.items
    task = {"task": "task1", "data": "train", "k": data.k, "dataset_name": data.name}
    description.write_text(json.dumps(task))
    return vectors, description


def neighbors(path: Path, rows: int, k: int) -> NDArray[np.int64]:
    """Row numbers from 0, of a file in the challenge's format, which is checked."""
    with h5py.File(path) as file:
        missing = {"algo", "task", "buildtime", "querytime", "params"} - set(file.attrs)
        knns, dists = file["knns"][:], file["dists"][:]
    if missing or knns.shape != (rows, k) or dists.shape != knns.shape:
        raise ValueError(f"{path}: {knns.shape}, {dists.shape}, without {missing or 'nothing'}")
    if dists.dtype != np.float32 or knns.min() < 1 or knns.max() > rows:
        raise ValueError(f"{path}: {dists.dtype}, neighbours {knns.min()} to {knns.max()}")
    return knns.astype(np.int64) - 1


def run(data: Data, directory: Path, memory: int) -> dict[str, Any]:
    vectors, description = as_challenge(data, directory)
    how, before, start, _ = limiter(memory, None)
    output = directory / "results"
    command = [*before, sys.executable, str(ENTRY), "--input", str(vectors)]
    command += ["--task-description", str(description), "--output", str(output)]
    points, process = watched(command, start, lambda: f"{len(list(output.glob('*')))} written")
    for point in points:
        found = neighbors(Path(point.pop("path")), len(data.items), data.k)
        point["recall"] = data.recall(found)
    peak = process["RssAnon"] + process["RssFile"]
    return {"limited_by": how, "memory_limit": memory, "peak_bytes": peak, "points": points}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True, help="a file of vectors")
    options.add_argument("--rows", type=int, help="at most so many, to check the script")
    options.add_argument("--name", default="sisap", help="of the results")
    chosen = options.parse_args()
    # Of unit vectors, the order of distances is that of dot products.
    data = Data(f"{chosen.data.name}, unit", unit(read(chosen.data).items[: chosen.rows]), k=K)
    with tempfile.TemporaryDirectory() as directory:
        result = {
            "machine": record.machine(),
            "versions": record.versions("lshjoin", "numpy", "h5py"),
            "isa": isa(),
            "data": str(data),
            "k": K,
            **run(data, Path(directory), MEMORY),
            "published": PUBLISHED,
        }
    text = report(result)
    record.write(chosen.name, result, text)
    print(text)


def report(result: dict[str, Any]) -> str:
    lines = [
        "# The k-NN graph of the SISAP challenges",
        "",
        f"The {result['k']} nearest others of each vector, with a recall of {ENOUGH} or more. Ours "
        "is `benches/sisap/search.py`, run here; the others are as published. They are of other "
        "vectors, on other machines with more processors: not to be divided by each other.",
        "",
        *sisap_table(result),
        "",
        f"At most {result['peak_bytes'] / 1e9:.1f} GB of memory in use, limited to "
        f"{result['memory_limit'] / 2**30:g} GiB by {result['limited_by']}. Recall is of 3,000 "
        "rows, by exact search.",
        "",
        record.circumstances(result),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
