"""Self k-NN join of descriptors that lie in Parquet files, in less memory than they take.

The command `lshjoin knn` in a process of its own, whose memory is limited from outside: by systemd
where it runs, in a cgroup of yours (--cgroup, a directory whose limit is set), or else by the
system's limit of what a process allocates (ulimit -d); a watch notes the most that it had, and
says every half a minute how far the join is. Then recall by exact search on a sample, and the same
on paper for 100,000,000 x 384. Writes bench-results/out_of_core_ROWS.json and .md.
"""

import argparse
import json
import resource
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from lshjoin import Dataset, open_dataset, plan_knn_join_files
from lshjoin._lshjoin import isa
from numpy.typing import NDArray

from benches import record
from benches.data.descriptors import descriptor_batches
from benches.engine.limited_process import limiter, watched

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
        # As large as embeddings would be, which do not compress.
        plain = {"use_dictionary": False, "compression": "none"}
        pq.write_table(table, path, row_group_size=100_000, **plain)
    done.touch()


def far(work: Path, rows: int) -> str:
    """How far a join is, by its work directory."""
    chunks = sorted(work.glob("pairs-*.parquet"))
    if chunks:
        done = int(chunks[-1].stem.split("-")[2])
        return f"joined {done:,} of {rows:,} rows in {len(chunks)} chunks"
    if (work / "index" / "manifest.json").exists():
        return "joining the first chunk"
    try:
        journal = json.loads((work / "index" / "manifest-unfinished.json").read_text())
    except FileNotFoundError:
        journal = {}
    if (begun := journal.get("build")) is None:
        return "learning centroids"
    if begun["stored"]:
        return f"wrote {begun['stored']} parts by list, {len(begun['spill'])} are left"
    return f"assigned to lists {begun['seen']:,} of {rows:,} rows"


def gathered(items: Dataset, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """These rows, which rise."""
    parts = []
    for first, batch in items.batches():
        low, high = np.searchsorted(rows, (first, first + len(batch)))
        parts.append(batch[rows[low:high] - first].astype(np.float64))
    return np.concatenate(parts)


def furthest(items: Dataset, sample: NDArray[np.int64]) -> NDArray[np.float64]:
    """How far the K-th neighbour of each sampled row is, by exact search."""
    queries = gathered(items, sample)
    nearest = np.full((len(sample), K), np.inf)
    for first, batch in items.batches(FILE_ROWS):
        # Twice as many as needed, so that rounding in FAISS's float32 leaves out none of them.
        few = min(2 * K + 1, len(batch))
        _, near = faiss.knn(queries.astype(np.float32), batch, few)
        distances = np.linalg.norm(batch[near] - queries[:, None], axis=2)
        distances[first + near == sample[:, None]] = np.inf
        nearest = np.sort(np.concatenate([nearest, distances], axis=1), axis=1)[:, :K]
    return nearest[:, -1]


def recall(data: Path, pairs: Path, seed: int) -> float:
    """The share of the K nearest that was found, by exact search on sampled rows."""
    items = open_dataset(data, "embedding")
    chosen = np.random.default_rng(seed).choice(len(items), SAMPLE, replace=False)
    sample = np.sort(chosen)
    wanted = pads.field("query").isin(pa.array(sample))
    found = pads.dataset(pairs).to_table(columns=["query", "item"], filter=wanted)
    columns = [found[name].to_numpy() for name in ("query", "item")]
    query, item = np.unique(columns, axis=1)
    rows = np.union1d(query, item)
    vectors = gathered(items, rows)
    ends = [vectors[np.searchsorted(rows, column)] for column in (query, item)]
    distances = np.linalg.norm(ends[0] - ends[1], axis=1)
    # Far below the gaps between neighbours, far above the error of a double.
    bounds = furthest(items, sample)[np.searchsorted(sample, query)] * (1 + 1e-9)
    right = (distances <= bounds) & (query != item)
    return float(np.minimum(np.bincount(query[right], minlength=1), K).sum() / (K * SAMPLE))


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
    work = chosen.directory / "pairs.parquet.work"
    shutil.rmtree(work, ignore_errors=True)
    limit, before, start, for_use = limiter(chosen.memory, chosen.cgroup)
    command = [
        *(*before, sys.executable, "-m", "lshjoin", "knn", str(data), "-k", str(K)),
        *("--recall", str(chosen.recall), "--column", "embedding", "--id-column", "id"),
        *("--memory-limit", str(for_use), "--out", str(pairs), "--json"),
    ]
    foretold = plan_knn_join_files(
        items=data,
        k=K,
        column="embedding",
        id_column="id",
        recall=chosen.recall,
        memory_limit=for_use,
    )
    print(" ".join(command), file=sys.stderr)
    before_join = resource.getrusage(resource.RUSAGE_CHILDREN)
    join, process = watched(command, start, partial(far, work, chosen.rows))
    after_join = resource.getrusage(resource.RUSAGE_CHILDREN)
    process["cpu_seconds"] = round(sum(after_join[:2]) - sum(before_join[:2]))
    if join["plan"]["chunk"] is None:
        sys.exit(f"{chosen.rows:,} rows fit in {chosen.memory:,} bytes: take more, or less memory")
    print(f"joined in {join['seconds']['all']:.0f} s; measuring recall", file=sys.stderr)
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
        "seconds_foretold": foretold.seconds,
        "pairs_bytes": pairs.stat().st_size,
        "join": join,
        "process": process,
    }
    pairs.unlink()
    text = report(result)
    record.write(f"out_of_core_{chosen.rows}", result, text)
    print(text)


STAGES = {
    "learn": "learn centroids from a sample: read all",
    "assign": "assign each row to a list, and put it aside: read all",
    "store": "write rows and codes by list, duplicates, checksums, to disk",
    "plan": "how many lists to probe, by exact search on 1,024 rows",
    "join": "join, chunk by chunk",
    "write": "one file of the pairs",
}


def on_paper(result: dict[str, Any]) -> dict[str, float]:
    """Hours of each stage for 100,000,000 x 384."""
    rows = PAPER["rows"] / result["rows"]
    dimensions = PAPER["dimensions"] / result["dimensions"]
    more = {
        "learn": rows * dimensions,
        # Each row is compared with the lists near its group, of which there are no more.
        "assign": rows * dimensions,
        "store": rows * dimensions,
        "plan": rows * dimensions,
        "join": rows**1.2 * dimensions,
        "write": rows,
    }
    seconds = result["join"]["seconds"]
    return {stage: seconds[stage] * factor / 3600 for stage, factor in more.items()}


def report(result: dict[str, Any]) -> str:
    join, process = result["join"], result["process"]
    plan = join["plan"]
    seconds, paper = join["seconds"], on_paper(result)
    stages = [
        f"| {text} | {seconds[stage]:.0f} s | {100 * seconds[stage] / seconds['all']:.0f} % | "
        f"{paper[stage]:.1f} h |"
        for stage, text in STAGES.items()
    ]
    lines = [
        "# Out of core",
        "",
        f"Self-join of {result['rows']:,} x {result['dimensions']} float32 descriptors, k = "
        f"{result['k']}, {result['data_bytes'] / 1e9:.2f} GB of Parquet files, recall "
        f"{result['recall_asked']} asked, memory limit {result['memory_limit'] / 2**30:g} GiB, "
        f"enforced by {result['limited_by']}. Seed {result['data_seed']}.",
        "",
        record.circumstances(result),
        "",
        f"| | {result['rows']:,} x {result['dimensions']} | | "
        f"{PAPER['rows']:,} x {PAPER['dimensions']}, on paper |",
        "|---|---:|---:|---:|",
        *stages,
        f"| in all | {seconds['all']:.0f} s | | {sum(paper.values()):.1f} h |",
        f"| foretold by `lshjoin plan` | {result['seconds_foretold']:.0f} s | | |",
        "",
        f"{-(-plan['queries'] // plan['chunk'])} chunks; {plan['join']['lists']:,} lists, of "
        f"which each row probes {plan['join']['probes']:.3g} on average. The processor was at work "
        f"for {process['cpu_seconds']:,} s in all.",
        "",
        f"Recall {result['recall']:.3f} on {result['recall_sample']:,} rows by exact search; "
        f"{join['pairs']:,} pairs in {result['pairs_bytes'] / 1e9:.2f} GB.",
        "",
        f"At most {process['RssAnon'] / 2**30:.2f} GiB of memory in use (RssAnon) of "
        f"{process['VmData'] / 2**30:.2f} GiB allocated (VmData), beside mapped files "
        f"{process['RssFile'] / 2**30:.2f} GiB (RssFile, cache that the system may take back). "
        f"Read {process['rchar'] / 1e9:.1f} GB and written {process['wchar'] / 1e9:.1f} GB by "
        f"calls; {process['read_bytes'] / 1e9:.1f} GB and {process['write_bytes'] / 1e9:.1f} GB "
        "of it from and to the disk, with what was read through maps.",
        "",
        "On paper: reading, assigning and storing by bytes, as each row is compared with some "
        "4,096 centroids however many there are; the join by the power 1.2 of the rows, as from 5 "
        "to 20 million, and by dimensions; the file of pairs by rows. Rows whose neighbours lie in "
        "all directions are compared with all centroids, 40,000 of 100,000,000 rows, which takes "
        "nine times as long. A disk that is slower than the processor takes longer: the index "
        "alone has "
        f"{PAPER['rows'] * (5 * PAPER['dimensions'] + 28) / 1e9:.0f} GB.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
