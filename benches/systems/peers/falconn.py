"""FALCONN: cross-polytope LSH for the angle, with multi-probe."""

from benches.data.rows import Indices, Rows, unit
from benches.systems.peer import Peer, one_by_one


class Falconn(Peer):
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
