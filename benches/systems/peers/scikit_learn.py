"""scikit-learn: all pairs."""

from typing import Any

from benches.data.rows import Indices, Rows
from benches.systems.peer import Peer


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
