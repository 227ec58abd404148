"""lshjoin's entry for the k-NN-graph task of the SISAP challenges, as their evaluation starts it.

    search.py --input FILE.h5 --task-description config.json --output DIRECTORY

The description names the data set of vectors in the file and how many neighbours are wanted. For
each recall asked for there is a file in the directory: `knns`, their numbers from 1 without the row
itself, `dists`, their dot products, and the attributes of the challenge's format. All of the time
is `buildtime`, since there is no index to be queried. One line of JSON tells what was written.
"""

import argparse
import json
import os
from pathlib import Path
from time import perf_counter

import h5py
import lshjoin
import numpy as np

# A little more than the 0.8 that the challenge asks for; another for comparison.
RECALLS = (0.82, 0.9)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--input", type=Path, required=True)
    options.add_argument("--task-description", type=Path, required=True)
    options.add_argument("--output", type=Path, required=True)
    options.add_argument("--recall", type=float, nargs="+", default=RECALLS)
    asked = options.parse_args()
    task = json.loads(asked.task_description.read_text())
    with h5py.File(asked.input) as file:
        vectors = file[task.get("data", "train")][:]
    asked.output.mkdir(parents=True, exist_ok=True)
    written = []
    for recall in asked.recall:
        start = perf_counter()
        # Of unit vectors, as the challenge has them: nearest by the angle, largest dot product.
        found = lshjoin.knn_join(
            items=vectors,
            k=task["k"],
            metric="cosine",
            recall=recall,
            seed=0,
            num_threads=len(os.sched_getaffinity(0)),
            progress=False,
        )
        seconds = perf_counter() - start
        path = asked.output / f"lshjoin-{recall}.h5"
        about = {
            "algo": "lshjoin",
            "dataset": task.get("dataset_name", asked.input.stem),
            "task": task.get("task", "task1"),
            "buildtime": seconds,
            "querytime": 0.0,
            "params": f"recall={recall},plan={found.plan!r}",
        }
        with h5py.File(path, "w") as file:
            file.attrs.update(about)
            file["knns"] = found.indices.astype(np.int32) + 1
            file["dists"] = (1 - found.distances).astype(np.float32)
        written.append({"path": str(path), "recall_asked": recall} | about)
        del found
    print(json.dumps(written))


if __name__ == "__main__":
    main()
