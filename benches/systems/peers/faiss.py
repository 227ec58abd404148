"""FAISS: any index by its factory string, and its search of large batches."""

from typing import Any

import numpy as np

from benches.data.rows import Indices, Rows, unit
from benches.systems.peer import Peer


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
        if settings.pop("super_kmeans", False):
            self.package.extract_index_ivf(made).cp.use_super_kmeans = True
        self._set(made, settings)
        if not made.is_trained:
            train = min(train or len(items), len(items))
            made.train(self.items[np.random.default_rng(0).choice(len(items), train, False)])
        made.add(self.items)
        self.index = made

    def knn(self, queries: Rows | None, k: int, **search: Any) -> Indices:
        self._set(self.index, search)
        return self.index.search(*self.asked(queries, k))[1]

    def radius(self, queries: None, radius: float, **search: Any) -> tuple[int, Any]:
        self._set(self.index, search)
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


class FaissByGroup(Faiss):
    """An index for the rows of each key, which are asked of it."""

    def build(self, items: Rows) -> None:
        self.items = unit(items) if self.metric == "cosine" else items

    def within(self, keys: Indices, k: int) -> Indices:
        found = np.full((len(self.items), k + 1), -1)
        order = np.argsort(keys, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
            index = self.package.index_factory(self.items.shape[1], self.settings["index"])
            members = self.items[rows]
            index.add(members)
            near = index.search(members, k + 1)[1]
            found[rows] = np.where(near >= 0, rows[near], -1)
        return found


class FaissBigBatch(Faiss):
    def knn(self, queries: Rows | None, k: int, *, nprobe: int) -> Indices:
        from faiss.contrib.big_batch_search import big_batch_search

        self.index.nprobe = nprobe
        return big_batch_search(self.index, *self.asked(queries, k), method="knn_function")[1]
