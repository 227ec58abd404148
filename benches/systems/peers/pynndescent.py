"""pynndescent: a graph by neighbours of neighbours."""

from typing import Any

import numpy as np

from benches.data.rows import Indices, Rows
from benches.systems.peer import Peer


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
