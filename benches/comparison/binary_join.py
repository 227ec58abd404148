"""Packed bits: the k nearest by Hamming distance of 1,000,000 rows of 256 bits, here and in FAISS.

Rows are the signs of random projections of sentence embeddings: of those in the file that
--vectors names (.npy, one a row), or else of generated clusters. A self-join, k = 10. Exactly:
`IndexBinaryFlat`. For a recall: `IndexBinaryIVF` and `IndexBinaryHNSW`, each with the least effort
of a grid that reaches it. What FAISS takes for its index is counted in full; its searches are made
for some of the queries, and multiplied by how many there are. Our joins are of all rows, from the
array to the neighbours. All have the same threads. Writes bench-results/NAME.json and .md.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import faiss
import numpy as np
from lshjoin import knn_join
from lshjoin._lshjoin import isa
from numpy.typing import NDArray

from benches import record
from benches.data.embeddings import unit_clusters
from benches.systems.protocol import THREADS

Bits = NDArray[np.uint8]
WIDTH, K, DIMENSIONS = 256, 10, 384
RECALL, OURS = 0.95, 3
# Of exact searches and others.
FEW, SOME = 2_000, 10_000
BARS = {"exact": 1 / 4, "recall": 1 / 3}
LISTS = (1_024, 4_096)
PROBES = (8, 16, 32, 64, 128, 256)
LINKS = (16, 32)
BREADTHS = (16, 32, 64, 128, 256)


def sign_bits(vectors: NDArray[Any]) -> Bits:
    """Random hyperplanes (Charikar 2002): a bit says on which side of one a vector lies."""
    hyperplanes = np.random.default_rng(0).standard_normal((vectors.shape[1], WIDTH), np.float32)
    parts = np.array_split(np.arange(len(vectors)), len(vectors) // 50_000 + 1)
    return np.concatenate([np.packbits(vectors[part] @ hyperplanes > 0, axis=1) for part in parts])


def timed(job: Callable[[], Any]) -> tuple[float, Any]:
    start = perf_counter()
    found = job()
    return perf_counter() - start, found


class Truth:
    """Some queries, and how far the k-th other row is from each."""

    def __init__(self, bits: Bits, flat: faiss.IndexBinaryFlat) -> None:
        rng = np.random.default_rng(1)
        self.rows = rng.choice(len(bits), min(SOME, len(bits)), replace=False)
        few = self.rows[:FEW]
        self.seconds, (distances, _) = timed(lambda: flat.search(bits[few], K + 1))
        self.seconds *= len(bits) / len(few)
        self.furthest = distances[:, K]

    def recall(self, distances: NDArray[Any]) -> float:
        """Of neighbours without the query itself, those as near as the k-th count."""
        return float((distances[: len(self.furthest)] <= self.furthest[:, None]).mean())


def faiss_rates(
    name: str,
    build: float,
    index: Any,
    set_effort: Callable[[int], None],
    efforts: tuple[int, ...],
    bits: Bits,
    truth: Truth,
) -> Iterator[dict[str, Any]]:
    """Efforts, from the least to the first that reaches the recall."""
    for effort in efforts:
        set_effort(effort)
        queries = bits[truth.rows]
        seconds, (distances, indices) = timed(lambda queries=queries: index.search(queries, K + 1))
        # Itself, or another at no distance, comes first; where it was not found the last one goes.
        itself = indices == truth.rows[:, None]
        itself[~itself.any(axis=1), -1] = True
        others = np.where(indices >= 0, distances, WIDTH + 1)[~itself].reshape(len(queries), K)
        seconds *= len(bits) / len(queries)
        recall = truth.recall(others)
        line = {"system": f"{name} {effort}", "build": build, "search": seconds, "recall": recall}
        print(line, flush=True)
        yield line | {"seconds": build + seconds}
        if recall >= RECALL:
            return


def inverted_lists(bits: Bits, truth: Truth) -> Iterator[dict[str, Any]]:
    for lists in LISTS:
        quantiser = faiss.IndexBinaryFlat(WIDTH)
        index = faiss.IndexBinaryIVF(quantiser, WIDTH, lists)

        def build(index: Any = index, lists: int = lists) -> None:
            some = np.random.default_rng(0).permutation(len(bits))[: 64 * lists]
            index.train(bits[some])
            index.add(bits)

        seconds, _ = timed(build)
        name = f"IndexBinaryIVF, {lists} lists, nprobe"

        def set_effort(probes: int, index: Any = index) -> None:
            index.nprobe = probes

        yield from faiss_rates(name, seconds, index, set_effort, PROBES, bits, truth)


def graphs(bits: Bits, truth: Truth) -> Iterator[dict[str, Any]]:
    for links in LINKS:
        index = faiss.IndexBinaryHNSW(WIDTH, links)
        seconds, _ = timed(lambda index=index: index.add(bits))
        name = f"IndexBinaryHNSW, M {links}, efSearch"

        def set_effort(breadth: int, index: Any = index) -> None:
            index.hnsw.efSearch = breadth

        yield from faiss_rates(name, seconds, index, set_effort, BREADTHS, bits, truth)


def our_join(bits: Bits, truth: Truth, recall: float, runs: int) -> dict[str, Any]:
    times = []
    for _ in range(runs):
        seconds, found = timed(
            lambda: knn_join(bits, k=K, metric="hamming", recall=recall, num_threads=THREADS)
        )
        times.append(seconds)
    line = {
        "system": f"lshjoin, recall {recall}",
        "plan": repr(found.plan),
        "times": times,
        "seconds": median(times),
        "recall": truth.recall(found.distances[truth.rows]),
        "told": found.report.recall.value,
        "pairs": found.report.pairs,
    }
    print(line, flush=True)
    return line


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--vectors", type=Path, help="a .npy of embeddings")
    options.add_argument("--name", default="binary_join", help="of the results")
    chosen = options.parse_args()
    if chosen.vectors:
        data, vectors = f"vectors of {chosen.vectors.name}", np.load(chosen.vectors, mmap_mode="r")
    else:
        data, vectors = "generated clusters", unit_clusters(chosen.rows, DIMENSIONS, seed=0)
    bits = sign_bits(vectors[: chosen.rows])
    faiss.omp_set_num_threads(THREADS)
    flat = faiss.IndexBinaryFlat(WIDTH)
    flat.add(bits)
    truth = Truth(bits, flat)
    exact = {
        "lshjoin": our_join(bits, truth, 1.0, runs=1),
        "IndexBinaryFlat": {"seconds": truth.seconds, "recall": 1.0, "queries": FEW},
    }
    ours = our_join(bits, truth, RECALL, OURS)
    peers = [*inverted_lists(bits, truth), *graphs(bits, truth)]
    reached = [peer for peer in peers if peer["recall"] >= RECALL]
    best = min(reached, key=lambda peer: peer["seconds"])
    result = {
        "date": record.now(),
        "machine": record.machine(),
        "versions": record.versions("lshjoin", "numpy") | {"faiss": faiss.__version__},
        "isa": isa(),
        "threads": THREADS,
        "data": data,
        "rows": len(bits),
        "bits": WIDTH,
        "k": K,
        "exact": exact,
        "recall": {"lshjoin": ours, "best": best, "peers": peers},
        "shares": {
            "exact": exact["lshjoin"]["seconds"] / truth.seconds,
            "recall": ours["seconds"] / best["seconds"],
        },
        "bars": BARS,
    }
    text = report(result)
    record.write(chosen.name, result, text)
    print(text)


def report(result: dict[str, Any]) -> str:
    exact, approximate = result["exact"], result["recall"]
    lines = [
        "# Packed bits: self-join by Hamming distance",
        "",
        f"{result['rows']:,} rows of {result['bits']} bits, the signs of random projections of "
        f"{result['data']}; {result['k']} neighbours of each.",
        "",
        f"{result['date']}; {record.circumstances(result)}",
        "",
        "| | seconds | of these to build | recall |",
        "|---|---:|---:|---:|",
        f"| lshjoin, exact | {exact['lshjoin']['seconds']:.1f} | | 1 |",
        f"| IndexBinaryFlat | {exact['IndexBinaryFlat']['seconds']:.0f} | | 1 |",
        f"| lshjoin | {approximate['lshjoin']['seconds']:.1f} | "
        f"| {approximate['lshjoin']['recall']:.3f} |",
    ]
    lines += [
        f"| {peer['system']} | {peer['seconds']:.0f} | {peer['build']:.0f} | {peer['recall']:.3f} |"
        for peer in approximate["peers"]
    ]
    shares = (
        f"{what}: {share:.3f} of the time, at most {BARS[what]:.2f} wanted"
        for what, share in result["shares"].items()
    )
    lines += [
        "",
        f"Searches of FAISS are of {FEW:,} queries (IndexBinaryFlat) and of {SOME:,} (others), "
        "multiplied by how many rows there are. All else is measured in full. Recall is that of "
        f"{FEW:,} rows. Ours beside the quickest that reaches {RECALL} - {'; '.join(shares)}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
