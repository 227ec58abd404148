"""The systems that `make bench` measures, and the settings of each.

Settings are those that a knowledgeable user would try for the size: so many inverted lists that one
holds a few hundred rows, fast-scan codes of four bits for every second to fourth dimension, graphs
as dense as one-shot building bears. Within a build, searches go from fast to thorough.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benches.data.dataset import Data

Settings = dict[str, Any]
SLOW = 0.7


@dataclass(frozen=True)
class Sweep:
    """One build of a system and the searches that are asked of it."""

    name: str
    build: Settings
    searches: Sequence[Settings]
    patience: float = 1  # of the workload's limit: how much slower than the others it may be


def each(values: Sequence[Any], name: str, **others: Any) -> list[Settings]:
    return [{name: value} | others for value in values]


def ours(data: Data) -> Sweep:
    return Sweep("lshjoin", {}, each((0.8, 0.9, 0.95, 0.99, 1.0), "recall", seed=0))


def nlist(data: Data) -> int:
    """Of FAISS's inverted lists: a power of two, for a few hundred rows a list."""
    return int(2 ** np.clip(np.round(np.log2(len(data.items) / 400)), 5, 10))


def flat(data: Data) -> Sweep:
    return Sweep("FAISS", {"index": "Flat"}, [{}], patience=2)


def fast_scan(data: Data) -> Sweep:
    dimensions, lists = data.items.shape[1], nlist(data)
    codes = dimensions // (4 if dimensions >= 256 else 2)
    build = {"index": f"IVF{lists},PQ{codes}x4fs,RFlat", "train": 64 * lists}
    return Sweep("FAISS", build, each((4, 8, 16, 32), "nprobe", k_factor_rf=8))


def ivf_flat(data: Data) -> Sweep:
    build = {"index": f"IVF{nlist(data)},Flat", "train": 64 * nlist(data)}
    return Sweep("FAISS", build, each((2, 8, 24), "nprobe"))


def big_batch(data: Data) -> Sweep:
    return Sweep("FAISS big_batch_search", ivf_flat(data).build, each((2, 8, 24), "nprobe"))


def faiss_lsh(data: Data) -> Sweep:
    bits = 2 * data.items.shape[1]
    return Sweep("FAISS", {"index": f"LSH{bits}r,RFlat"}, each((4, 16, 64), "k_factor_rf"))


def faiss_hnsw(data: Data) -> Sweep:
    build = {"index": "HNSW12", "efConstruction": 40}
    return Sweep("FAISS", build, each((16, 32, 96), "efSearch"))


def hnswlib(data: Data) -> Sweep:
    return Sweep("hnswlib", {"M": 12, "ef_construction": 40}, each((16, 32, 96), "ef"))


def usearch(dtype: str) -> Callable[[Data], Sweep]:
    build = {"dtype": dtype, "connectivity": 12, "expansion_add": 40}
    return lambda data: Sweep("usearch", build, each((16, 32, 96), "expansion"))


def pynndescent(data: Data) -> Sweep:
    if data.queries is None:  # the neighbour graph
        return Sweep("pynndescent", {}, each((15, 30), "n_neighbors"))
    return Sweep("pynndescent", {"n_neighbors": 20}, each((0.05, 0.1, 0.2), "epsilon"))


def annoy(data: Data) -> Sweep:
    return Sweep("annoy", {"n_trees": 20}, each((500, 2_000, 8_000), "search_k"), patience=SLOW)


def scikit_learn(data: Data) -> Sweep:
    return Sweep("scikit-learn", {}, [{}], patience=SLOW)


def ann_search_rs(data: Data) -> Sweep:
    bits = int(np.clip(np.log2(len(data.items) / 10), 8, 16))
    searches = each((0, 8, 32), "probes", candidates=None)
    return Sweep("ann-search-rs", {"tables": 8, "bits": bits}, searches, patience=SLOW)


def nearpy(data: Data) -> Sweep:
    bits = int(np.clip(np.log2(len(data.items) / 10), 8, 16))
    return Sweep("NearPy", {"tables": 8, "bits": bits}, [{}], patience=SLOW)


def falconn(data: Data) -> Sweep:
    return Sweep("FALCONN", {"tables": 10}, each((10, 50, 200), "probes"))


def spark_nearest(data: Data) -> Sweep:
    return Sweep("Spark nearestByJoin", {}, [{}])


EVERY = (
    ours,
    flat,
    fast_scan,
    ivf_flat,
    big_batch,
    faiss_lsh,
    faiss_hnsw,
    hnswlib,
    usearch("f32"),
    usearch("i8"),
    pynndescent,
    annoy,
    scikit_learn,
    ann_search_rs,
    nearpy,
    falconn,
)
FASTEST = (ours, flat, fast_scan, big_batch, hnswlib)


def every(data: Data) -> list[Sweep]:
    """All of them, but for codes of 8 bits where values don't lie between -1 and 1."""
    sweeps = [make(data) for make in EVERY]
    if data.metric == "cosine":
        return sweeps
    return [sweep for sweep in sweeps if sweep.build.get("dtype") != "i8"]


def some(*makes: Callable[[Data], Sweep]) -> Callable[[Data], list[Sweep]]:
    return lambda data: [make(data) for make in makes]


def thinned(data: Data) -> list[Sweep]:
    """Every system, every second of its searches."""
    return [replace(one, searches=one.searches[::2]) for one in every(data)]


def radius_joins(data: Data) -> list[Sweep]:
    return [
        Sweep("lshjoin", {}, [{}]),
        Sweep("lshjoin model", {"numHashTables": 4, "bucketLength": 0.01}, [{}]),
        Sweep("FAISS", {"index": "Flat"}, [{}]),
        Sweep("scikit-learn", {}, [{}]),
    ]


def hashing(data: Data) -> list[Sweep]:
    build = {"numHashTables": 32, "bucketLength": 0.01}
    return [
        Sweep("lshjoin model", build, [{}]),
        Sweep("FAISS", {"index": "LSH32r"}, [{}]),
        Sweep("Spark transform", build, [{}]),
    ]


def single_queries(data: Data) -> list[Sweep]:
    return [
        Sweep("lshjoin", {}, [{}]),
        Sweep("FAISS", flat(data).build, [{}]),
        Sweep("FAISS", fast_scan(data).build, each((16,), "nprobe", k_factor_rf=8)),
        Sweep("FAISS", faiss_hnsw(data).build, each((64,), "efSearch")),
        Sweep("hnswlib", hnswlib(data).build, each((64,), "ef")),
        *(
            Sweep("usearch", usearch(d)(data).build, each((64,), "expansion"))
            for d in ("f32", "i8")
        ),
        Sweep("annoy", annoy(data).build, each((4_000,), "search_k")),
    ]
