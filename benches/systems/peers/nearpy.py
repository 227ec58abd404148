"""NearPy: hash tables of random hyperplanes, in Python."""

from benches.data.rows import Indices, Rows
from benches.systems.peer import Peer, one_by_one


class Nearpy(Peer):
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
