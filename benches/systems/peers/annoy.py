"""annoy: a forest of random projections."""

from benches.data.rows import Indices, Rows
from benches.systems.peer import Peer, one_by_one, saved_bytes


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
