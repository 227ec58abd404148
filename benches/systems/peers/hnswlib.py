"""hnswlib: a graph."""

import numpy as np

from benches.data.rows import Indices, Rows
from benches.systems.peer import Peer, saved_bytes


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
