"""usearch: a graph, of float32 or of codes of 8 bits."""

import numpy as np

from benches.data.rows import Indices, Rows
from benches.systems.peer import Peer


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
