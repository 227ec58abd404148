"""The systems that `make bench` measures, and the settings of each.

Settings are those that a knowledgeable user would try for the size: so many inverted lists that one
holds a few hundred rows, fast-scan codes of four bits for every second to fourth dimension, graphs
as dense as one-shot building bears; systems that give the k-NN graph itself are asked for it.
Within a build, searches go from fast to thorough, at most five; ours is asked for recalls.
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


def again(data: Data) -> Sweep:
    """Ours a second time, after the others: what differs is the noise of the run."""
    return replace(ours(data), name="lshjoin again")


def nlist(data: Data) -> int:
    """Of FAISS's inverted lists: a power of two, for a few hundred rows a list."""
    return int(2 ** np.clip(np.round(np.log2(len(data.items) / 400)), 5, 11))


def flat(data: Data) -> Sweep:
    return Sweep("FAISS", {"index": "Flat"}, [{}], patience=2)


def fast_scan(data: Data) -> Sweep:
    dimensions, lists = data.items.shape[1], nlist(data)
    codes = dimensions // (4 if dimensions >= 256 else 2)
    build = {"index": f"IVF{lists},PQ{codes}x4fs,RFlat", "train": 64 * lists}
    return Sweep("FAISS", build, each((4, 8, 16, 32), "nprobe", k_factor_rf=8))


def rabitq(data: Data) -> Sweep:
    """A bit a dimension (Gao and Long 2024), of which many more are refined."""
    build = {"index": f"IVF{nlist(data)},RaBitQfs,RFlat", "train": 64 * nlist(data)}
    return Sweep("FAISS", build, each((4, 8, 16, 32), "nprobe", k_factor_rf=4))


def panorama(data: Data) -> Sweep:
    """Exact distances in eight steps, of which most rows need the first."""
    build = {"index": f"IVF{nlist(data)},FlatPanorama8", "train": 64 * nlist(data)}
    return Sweep("FAISS", build, each((2, 8, 24), "nprobe"))


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


def pipnn(data: Data) -> Sweep:
    """Leaves and degrees smaller than the defaults, more of them instead: less work a recall."""
    if data.queries is not None:  # a graph to be searched is denser
        build = {"fanout": 4, "c_max": 256, "c_min": 32, "R": 32, "l_max": 32}
        return Sweep("PiPNN", build, each((16, 32, 96), "beam_L"))
    small = {"c_max": 256, "c_min": 32, "R": 16, "l_max": 16}
    grid = ((4, 12), (6, 12), (8, 16), (10, 24))
    searches = [{"fanout": fanout, "beam_L": beam} | small for fanout, beam in grid]
    return Sweep("PiPNN", {}, searches)


def deglib(data: Data) -> Sweep:
    build = {"edges": 20, "extend_k": 24}
    return Sweep("deglib", build, each((16, 32, 64), "candidates"))


def deglib_evp(data: Data) -> Sweep:
    """As its authors had it for SISAP 2026: three fifths of the dimensions, some reranked."""
    non_zeros = data.items.shape[1] * 3 // 5
    build = {"edges": 20, "extend_k": 24, "prune_worst": 6, "non_zeros": non_zeros}
    return Sweep("deglib EVP", build, each((30, 50, 100), "candidates", distances=800))


def glass(data: Data) -> Sweep:
    return Sweep("glass", {"quant": "SQ8U", "R": 32, "L": 40}, each((16, 32, 96), "ef"))


def diskann(data: Data) -> Sweep:
    build = {"graph_degree": 20, "complexity": 28}
    return Sweep("DiskANN", build, each((16, 32, 96), "complexity"))


def svs(name: str) -> Callable[[Data], Sweep]:
    build = {"graph_max_degree": 20, "window_size": 28}
    return lambda data: Sweep(name, build, each((16, 32, 96), "window"))


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
    rabitq,
    panorama,
    big_batch,
    faiss_lsh,
    faiss_hnsw,
    hnswlib,
    usearch("f32"),
    usearch("i8"),
    glass,
    pipnn,
    deglib,
    deglib_evp,
    diskann,
    svs("SVS Vamana"),
    svs("SVS Vamana LVQ"),
    pynndescent,
    annoy,
    scikit_learn,
    ann_search_rs,
    nearpy,
    falconn,
    again,
)
# Without those that take so long on more rows that a limit would stop them.
SCALING = tuple(make for make in EVERY if make not in (faiss_lsh, annoy, scikit_learn, nearpy))
FASTEST = (ours, flat, fast_scan, rabitq, big_batch, hnswlib, glass, pipnn, deglib, again)
MILLIONS = (ours, fast_scan, rabitq, glass, pipnn, deglib, pynndescent, again)
GRAPHS_ONLY = ("deglib", "deglib EVP")  # of a table with itself
ANGULAR_ONLY = ("deglib EVP",)


def every(data: Data) -> list[Sweep]:
    return some(*EVERY)(data)


def some(*makes: Callable[[Data], Sweep]) -> Callable[[Data], list[Sweep]]:
    """Those that have the task and the metric: codes of 8 bits ask for values between -1 and 1."""

    def of(data: Data) -> list[Sweep]:
        sweeps = [make(data) for make in makes]
        if data.queries is not None:
            sweeps = [one for one in sweeps if one.name not in GRAPHS_ONLY]
        if data.metric != "cosine":
            sweeps = [one for one in sweeps if one.name not in ANGULAR_ONLY]
            sweeps = [one for one in sweeps if one.build.get("dtype") != "i8"]
        return sweeps

    return of


def thinned(data: Data) -> list[Sweep]:
    """Every system, every second of its searches."""
    return [replace(one, searches=one.searches[::2]) for one in every(data)]


def millions(data: Data) -> list[Sweep]:
    """The fewest settings a system that show how it does, at the recalls that matter; of ours a
    lower one, too, for those that find no more."""

    def few(sweep: Sweep) -> Sweep:
        first = 0 if sweep.name.startswith("lshjoin") else 1
        return replace(sweep, searches=sweep.searches[first:3])

    return [few(sweep) for sweep in some(*MILLIONS)(data)]


def of_bytes(data: Data) -> list[Sweep]:
    """Systems that take uint8 as it is."""
    makes = (ours, deglib, diskann, svs("SVS Vamana"), again)
    return [replace(one, searches=one.searches[1:3]) for one in some(*makes)(data)]


def radius_joins(data: Data) -> list[Sweep]:
    return [
        Sweep("lshjoin", {}, [{}]),
        Sweep("lshjoin model", {"numHashTables": 4, "bucketLength": 0.01}, [{}]),
        Sweep("FAISS", {"index": "Flat"}, [{}]),
        Sweep("scikit-learn", {}, [{}]),
    ]


def near_duplicates(data: Data) -> list[Sweep]:
    """Pairs so near that lists and hash tables find them: what part they find is told."""
    model = {"numHashTables": 4, "bucketLength": 0.01}
    return [
        Sweep("lshjoin", {}, [{}]),
        Sweep("lshjoin model", model, [{}]),
        Sweep("FAISS", {"index": "Flat"}, [{}]),
        Sweep("FAISS", ivf_flat(data).build, each((1, 4), "nprobe")),
        Sweep("lshjoin again", {}, [{}]),
    ]


def deduplication(data: Data) -> list[Sweep]:
    return [Sweep(name, {}, [{}]) for name in ("lshjoin", "SemHash", "lshjoin again")]


def groups(data: Data) -> list[Sweep]:
    return [ours(data), Sweep("FAISS by group", {"index": "Flat"}, [{}]), again(data)]


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
        Sweep("lshjoin Index", {}, each((0.95,), "recall")),
        Sweep("FAISS", flat(data).build, [{}]),
        Sweep("FAISS", fast_scan(data).build, each((16,), "nprobe", k_factor_rf=8)),
        Sweep("FAISS", faiss_hnsw(data).build, each((64,), "efSearch")),
        Sweep("hnswlib", hnswlib(data).build, each((64,), "ef")),
        *(
            Sweep("usearch", usearch(d)(data).build, each((64,), "expansion"))
            for d in ("f32", "i8")
        ),
        Sweep("glass", glass(data).build, each((64,), "ef")),
        Sweep("annoy", annoy(data).build, each((4_000,), "search_k")),
    ]
