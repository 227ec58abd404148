"""What `make bench` measures: the rows, the task, and which sweeps take part."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benches.comparison.sweeps import (
    FASTEST,
    SCALING,
    Sweep,
    ann_search_rs,
    deduplication,
    every,
    faiss_hnsw,
    flat,
    groups,
    hashing,
    ivf_flat,
    millions,
    near_duplicates,
    of_bytes,
    ours,
    radius_joins,
    single_queries,
    some,
    spark_nearest,
    svs,
    thinned,
    usearch,
)
from benches.data.dataset import Data
from benches.data.descriptors import descriptors
from benches.data.docstrings import docstrings, embed
from benches.data.embeddings import embeddings, unit_clusters
from benches.data.files import read

MANY = 300_000  # rows of a file of which only the fastest systems are measured


@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    data: Callable[[], Data]
    sweeps: Callable[[Data], Sequence[Sweep]]
    limit: float  # seconds for one build and its searches
    rounds: int = 1
    task: str = "knn"
    radius: float | None = None


def text(rows: int, *, metric: str = "cosine", queries: int = 0) -> Callable[[], Data]:
    """Sentence embeddings, the last rows as queries."""

    def make() -> Data:
        name, vectors = embeddings(rows + queries, seed=0)
        # Sentences are in the order of a dictionary.
        vectors = vectors[np.random.default_rng(0).permutation(len(vectors))]
        items, others = vectors[:rows], vectors[rows:]
        return Data(name, items, others if queries else None, metric)

    return make


def generated(rows: int, dimensions: int, metric: str, queries: int = 0) -> Callable[[], Data]:
    def make() -> Data:
        vectors = unit_clusters(rows + queries, dimensions, seed=0)
        others = vectors[rows:] if queries else None
        return Data("generated clusters", vectors[:rows], others, metric)

    return make


def docstring_vectors() -> Data:
    vectors = embed(docstrings(20_000)["text"].to_list())
    return Data("docstrings, TF-IDF and SVD", vectors[vectors.any(axis=1)], None, "cosine")


def grouped(rows: int, count: int) -> Callable[[], Data]:
    """The same rows, each of one of so many groups of very different sizes."""

    def make() -> Data:
        data = text(rows)()
        rng = np.random.default_rng(0)
        # Of Zipf's law, but none with fewer rows than a join asks for.
        shares = 1 / np.arange(1, count + 1)
        keys = rng.choice(count, rows, p=shares / shares.sum())
        keys[: 20 * count] = np.arange(20 * count) % count
        return Data(data.name, data.items, None, data.metric, keys=rng.permutation(keys))

    return make


def bytes_of_descriptors(rows: int) -> Data:
    return Data("generated descriptors", descriptors(rows, seed=0).astype(np.uint8))


def file(path: Path, k: int) -> Workload:
    def sweeps(data: Data) -> Sequence[Sweep]:
        return millions(data) if len(data.items) >= MANY else every(data)

    return Workload(path.stem, path.name, lambda: read(path, k), sweeps, limit=240)


FULL = (
    Workload("embeddings-10k", "k-NN self-join", text(10_000), every, limit=20),
    Workload("embeddings-100k", "k-NN self-join", text(100_000), some(*SCALING), limit=45),
    Workload("embeddings-30k", "k-NN self-join", text(30_000), some(*FASTEST), limit=30, rounds=2),
    Workload(
        "descriptors-1m",
        "k-NN self-join",
        lambda: Data("generated descriptors", descriptors(1_000_000, seed=0)),
        millions,
        limit=110,
    ),
    Workload(
        "descriptors-300k-uint8",
        "k-NN self-join of bytes",
        lambda: bytes_of_descriptors(300_000),
        of_bytes,
        limit=110,
    ),
    Workload(
        "two-sided-96",
        "two-sided k-NN join",
        generated(100_000, 96, "euclidean", queries=10_000),
        some(*FASTEST, ivf_flat, faiss_hnsw, usearch("f32"), svs("SVS Vamana")),
        limit=20,
    ),
    Workload(
        "wide-960",
        "k-NN self-join",
        generated(10_000, 960, "cosine"),
        some(*FASTEST, usearch("i8"), ann_search_rs),
        limit=15,
    ),
    Workload(
        "docstrings",
        "k-NN self-join",
        docstring_vectors,
        some(*FASTEST, usearch("i8"), ann_search_rs),
        limit=15,
    ),
    Workload(
        "spark-nearest",
        "two-sided k-NN join, beside Spark's nearestByJoin",
        text(2_000, metric="euclidean", queries=2_000),
        some(ours, flat, spark_nearest),
        limit=120,
    ),
    Workload(
        "radius-30k",
        "radius self-join",
        text(30_000, metric="euclidean"),
        radius_joins,
        limit=30,
        rounds=2,
        task="radius",
        radius=0.9,
    ),
    Workload(
        "near-duplicates-100k",
        "radius self-join at the distance of near-duplicates",
        text(100_000, metric="euclidean"),
        near_duplicates,
        limit=45,
        task="radius",
        radius=0.45,
    ),
    Workload(
        "dedup-100k",
        "near-duplicates left out, cosine similarity of at least that",
        text(100_000),
        deduplication,
        limit=60,
        task="dedup",
        radius=0.9,
    ),
    Workload(
        "groups-100k",
        "k-NN self-join within groups",
        grouped(100_000, 300),
        groups,
        limit=45,
        task="within",
    ),
    Workload(
        "hash-30k",
        "hashing only, 32 functions",
        text(30_000, metric="euclidean"),
        hashing,
        limit=60,
        task="hash",
    ),
    Workload(
        "single-30k",
        "one query at a time, of a built index",
        text(30_000, queries=1_000),
        single_queries,
        limit=30,
        task="single",
    ),
)
QUICK = (
    Workload("embeddings-10k", "k-NN self-join", text(10_000), thinned, limit=8),
    Workload(
        "radius-10k",
        "radius self-join",
        text(10_000, metric="euclidean"),
        radius_joins,
        limit=8,
        task="radius",
        radius=0.9,
    ),
    Workload(
        "hash-10k",
        "hashing only, 32 functions",
        text(10_000, metric="euclidean"),
        lambda data: hashing(data)[:2],  # without Spark
        limit=8,
        task="hash",
    ),
    Workload(
        "single-10k",
        "one query at a time, of a built index",
        text(10_000, queries=1_000),
        single_queries,
        limit=8,
        task="single",
    ),
)
