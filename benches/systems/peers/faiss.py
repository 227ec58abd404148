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
