"""The systems that are compared, each behind the same few methods.

``prepare`` is not timed; ``build`` and the tasks are. ``knn`` gives row numbers of the items,
(n, k) or, in a self-join of a system that returns the row itself, (n, k + 1). ``radius`` gives the
number of pairs, each once, and whatever was found. ``single`` asks one query after the other and
gives the median seconds of one.
"""

from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import systems
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Indices = NDArray[np.integer[Any]]
SINGLE_QUERIES = 100


class Peer:
    returns_itself = True  # as its own nearest, in a self-join
    joined: Any = None  # an answer with a plan and distances, to be told apart from others

    def __init__(self, metric: str, threads: int, **build: Any):
        self.metric, self.threads, self.settings = metric, threads, build

    def prepare(self, items: Rows, queries: Rows | None) -> None:
        """What happens once whatever is joined: imports, compiling, a server's start."""

    def build(self, items: Rows) -> None:
        self.items = items

    def rest_bytes(self) -> int | None:
        """What it keeps to be asked again, as it would write it to a file."""
        return None

    def peak_bytes(self) -> int:
        return systems.peak_bytes()

    def single(self, queries: Rows, k: int, **search: Any) -> float:
        times = []
        for query in queries[:SINGLE_QUERIES]:
            start = perf_counter()
            self.knn(query[None], k, **search)
            times.append(perf_counter() - start)
        return median(times)

    def asked(self, queries: Rows | None, k: int) -> tuple[Rows, int]:
        return (self.items, k + 1) if queries is None else (queries, k)


class Lshjoin(Peer):
    returns_itself = False

    def prepare(self, items: Rows, queries: Rows | None) -> None:
        import lshjoin

        self.package = lshjoin

    def knn(self, queries: Rows | None, k: int, *, plan: str | None = None, **search: Any) -> Any:
        if plan is not None:
            search["plan"] = self.package.JoinPlan.from_json(plan)
        self.joined = self.package.knn_join(
            queries,
            self.items,
            k,
            metric=self.metric,
            num_threads=self.threads,
            progress=False,
            **search,
        )
        return self.joined.indices

    def radius(self, queries: None, radius: float) -> tuple[int, Any]:
        found = self.package.radius_join(
            items=self.items, radius=radius, metric=self.metric, num_threads=self.threads
        )
        return len(found.indices) // 2, found

    def rest_bytes(self) -> int:
        return 0


class LshjoinModel(Peer):
    """The estimator of Spark's shape, over a pyarrow table."""

    def prepare(self, items: Rows, queries: Rows | None) -> None:
        import lshjoin
        import pyarrow as pa

        vectors = pa.FixedSizeListArray.from_arrays(pa.array(items.ravel()), items.shape[1])
        self.frame = pa.table({"id": np.arange(len(items)), "features": vectors})
        self.estimator = lshjoin.BucketedRandomProjectionLSH(
            inputCol="features", outputCol="hashes", seed=12345, **self.settings
        )

    def build(self, items: Rows) -> None:
        self.model = self.estimator.fit(self.frame, num_threads=self.threads)

    def radius(self, queries: None, radius: float) -> tuple[int, Any]:
        joined = self.model.approxSimilarityJoin(
            self.frame, self.frame, radius, num_threads=self.threads
        )
        return (len(joined) - len(self.frame)) // 2, joined

    def hash(self, queries: None, _: None) -> Any:
        return self.model.transform(self.frame, num_threads=self.threads)


class Faiss(Peer):
    """An index by its factory string, trained on a sample of ``train`` rows."""

    def prepare(self, items: Rows, queries: Rows | None) -> None:
        import faiss

        faiss.omp_set_num_threads(self.threads)
        self.package = faiss

    def build(self, items: Rows) -> None:
        self.items = unit(items) if self.metric == "cosine" else items
        settings = dict(self.settings)
        factory, train = settings.pop("index"), settings.pop("train", None)
        made = self.package.index_factory(items.shape[1], factory)
        self._set(made, settings)
        if not made.is_trained:
            train = min(train or len(items), len(items))
            made.train(self.items[np.random.default_rng(0).choice(len(items), train, False)])
        made.add(self.items)
        self.index = made

    def knn(self, queries: Rows | None, k: int, **search: Any) -> Indices:
        self._set(self.index, search)
        return self.index.search(*self.asked(queries, k))[1]

    def radius(self, queries: None, radius: float) -> tuple[int, Any]:
        # Squared, and strictly below; the row itself comes too.
        found = self.index.range_search(self.items, radius**2)
        return (len(found[2]) - len(self.items)) // 2, found

    def hash(self, queries: None, _: None) -> Any:
        return self.index.sa_encode(self.items)

    def asked(self, queries: Rows | None, k: int) -> tuple[Rows, int]:
        if queries is not None and self.metric == "cosine":
            queries = unit(queries)
        return super().asked(queries, k)

    def rest_bytes(self) -> int:
        writer = self.package.VectorIOWriter()
        self.package.write_index(self.index, writer)
        return writer.data.size()

    def _set(self, index: Any, parameters: dict[str, Any]) -> None:
        space = self.package.ParameterSpace()
        for name, value in parameters.items():
            space.set_index_parameter(index, name, value)


class FaissBigBatch(Faiss):
    def knn(self, queries: Rows | None, k: int, *, nprobe: int) -> Indices:
        from faiss.contrib.big_batch_search import big_batch_search

        self.index.nprobe = nprobe
        return big_batch_search(self.index, *self.asked(queries, k), method="knn_function")[1]


class Hnswlib(Peer):
    def prepare(self, items: Rows, queries: Rows | None) -> None:
        import hnswlib

        self.package = hnswlib

    def build(self, items: Rows) -> None:
        self.items = items
        space = {"euclidean": "l2", "cosine": "cosine"}[self.metric]
        self.index = self.package.Index(space=space, dim=items.shape[1])
        self.index.init_index(max_elements=len(items), **self.settings)
        self.index.add_items(items, num_threads=self.threads)

    def knn(self, queries: Rows | None, k: int, *, ef: int) -> Indices:
        self.index.set_ef(ef)
        return self.index.knn_query(*self.asked(queries, k), num_threads=self.threads)[0].astype(
            np.int64
        )

    def rest_bytes(self) -> int:
        return saved_bytes(self.index.save_index)


class Usearch(Peer):
    def prepare(self, items: Rows, queries: Rows | None) -> None:
        from usearch.index import Index

        self.package = Index

    def build(self, items: Rows) -> None:
        self.items = items
        metric = {"euclidean": "l2sq", "cosine": "cos"}[self.metric]
        self.index = self.package(ndim=items.shape[1], metric=metric, **self.settings)
        self.index.add(np.arange(len(items)), items, threads=self.threads)

    def knn(self, queries: Rows | None, k: int, *, expansion: int) -> Indices:
        self.index.expansion_search = expansion
        asked, k = self.asked(queries, k)
        found = self.index.search(asked, k, threads=self.threads).keys
        return np.asarray(found, dtype=np.int64).reshape(len(asked), k)

    def rest_bytes(self) -> int:
        return self.index.serialized_length


class Pynndescent(Peer):
    """A self-join is the neighbour graph, which is made when it is asked for."""

    def prepare(self, items: Rows, queries: Rows | None) -> None:
        from pynndescent import NNDescent

        self.package = NNDescent
        self.build(items[:500])  # Numba compiles
        if queries is None:
            self.knn(None, 5, n_neighbors=10)
        else:
            self.knn(queries[:10], 5, epsilon=0.1)

    def build(self, items: Rows) -> None:
        self.items = items
        if self.settings:
            self.index = self._descended(**self.settings)
            self.index.prepare()

    def knn(self, queries: Rows | None, k: int, **search: Any) -> Indices:
        if queries is None:
            return self._descended(**search).neighbor_graph[0][:, : k + 1].astype(np.int64)
        return self.index.query(queries, k, **search)[0].astype(np.int64)

    def _descended(self, **settings: Any) -> Any:
        return self.package(
            self.items, metric=self.metric, n_jobs=self.threads, random_state=0, **settings
        )


class Annoy(Peer):
    def prepare(self, items: Rows, queries: Rows | None) -> None:
        from annoy import AnnoyIndex

        self.package = AnnoyIndex

    def build(self, items: Rows) -> None:
        self.items = items
        metric = {"euclidean": "euclidean", "cosine": "angular"}[self.metric]
        self.index = self.package(items.shape[1], metric)
        self.index.set_seed(1)
        for row, vector in enumerate(items):
            self.index.add_item(row, vector)
        self.index.build(**self.settings, n_jobs=self.threads)

    def knn(self, queries: Rows | None, k: int, *, search_k: int) -> Indices:
        if queries is None:
            one = self.index.get_nns_by_item
            asked, k = range(len(self.items)), k + 1
        else:
            one, asked = self.index.get_nns_by_vector, queries
        return one_by_one(lambda query: one(query, k, search_k), asked, k, self.threads)

    def rest_bytes(self) -> int:
        return saved_bytes(self.index.save)


class ScikitLearn(Peer):
    def prepare(self, items: Rows, queries: Rows | None) -> None:
        from sklearn.neighbors import NearestNeighbors

        self.package = NearestNeighbors

    @property
    def returns_itself(self) -> bool:
        return False

    def build(self, items: Rows) -> None:
        self.index = self.package(algorithm="brute", metric=self.metric, n_jobs=self.threads)
        self.index.fit(items)

    def knn(self, queries: Rows | None, k: int) -> Indices:
        return self.index.kneighbors(queries, k, return_distance=True)[1]

    def radius(self, queries: None, radius: float) -> tuple[int, Any]:
        found = self.index.radius_neighbors(radius=radius)
        return sum(map(len, found[1])) // 2, found


class Falconn(Peer):
    """Cross-polytope LSH for the angle, with multi-probe."""

    def prepare(self, items: Rows, queries: Rows | None) -> None:
        import falconn

        self.package = falconn

    def build(self, items: Rows) -> None:
        self.items = unit(items)
        parameters = self.package.get_default_parameters(*items.shape)
        parameters.l, parameters.num_setup_threads = self.settings["tables"], self.threads
        self.index = self.package.LSHIndex(parameters)
        self.index.setup(self.items)

    def knn(self, queries: Rows | None, k: int, *, probes: int) -> Indices:
        asked, k = self.asked(queries, k)
        pool = self.index.construct_query_pool(num_probes=probes)
        return one_by_one(lambda q: pool.find_k_nearest_neighbors(q, k), asked, k, self.threads)


class Nearpy(Peer):
    """Hash tables of random hyperplanes, in Python."""

    def prepare(self, items: Rows, queries: Rows | None) -> None:
        import nearpy
        from nearpy.distances import CosineDistance, EuclideanDistance
        from nearpy.filters import NearestFilter
        from nearpy.hashes import RandomBinaryProjections

        self.package, self.filter, self.hashes = nearpy, NearestFilter, RandomBinaryProjections
        self.distance = {"cosine": CosineDistance, "euclidean": EuclideanDistance}[self.metric]()

    def build(self, items: Rows) -> None:
        self.items = items
        tables, bits = self.settings["tables"], self.settings["bits"]
        hashes = [self.hashes(f"table {at}", bits, rand_seed=at) for at in range(tables)]
        self.index = self.package.Engine(
            items.shape[1],
            lshashes=hashes,
            distance=self.distance,
            vector_filters=[],
        )
        for row, vector in enumerate(items):
            self.index.store_vector(vector, row)

    def knn(self, queries: Rows | None, k: int) -> Indices:
        asked, k = self.asked(queries, k)
        self.index.vector_filters = [self.filter(k)]
        return one_by_one(
            lambda query: [row for _, row, _ in self.index.neighbours(query)], asked, k, 1
        )


def unit(rows: Rows) -> Rows:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)


def one_by_one(search: Callable[[Any], Any], asked: Any, k: int, threads: int) -> Indices:
    """For systems that take one query a call; -1 where they found fewer than k."""
    found = np.full((len(asked), k), -1)

    def fill(row: int) -> None:
        near = search(asked[row])
        found[row, : len(near)] = near

    with ThreadPool(threads) as pool:
        pool.map(fill, range(len(asked)), chunksize=256)
    return found


def saved_bytes(save: Callable[[str], Any]) -> int:
    with TemporaryDirectory() as directory:
        path = Path(directory, "index")
        save(str(path))
        return path.stat().st_size
