"""pyglass, by its portable wheels: HNSW over codes, by which it is built and searched."""

import numpy as np

from benches.data.rows import Indices, Rows, unit
from benches.systems.peer import Peer


class Glass(Peer):
    def prepare(self, items: Rows, queries: Rows | None) -> None:
        import glass

        glass.set_num_threads(self.threads)
        self.package = glass

    def build(self, items: Rows) -> None:
        self.items = unit(items) if self.metric == "cosine" else items
        quantizer = self.settings["quant"]
        graph = self.package.Index(index_type="HNSW", metric="L2", **self.settings)
        self.index = self.package.Searcher(
            graph=graph.build(self.items), data=self.items, metric="L2", quantizer=quantizer
        )

    def knn(self, queries: Rows | None, k: int, *, ef: int) -> Indices:
        if queries is not None and self.metric == "cosine":
            queries = unit(queries)
        asked, k = self.asked(queries, k)
        self.index.set_ef(max(ef, k))
        return np.asarray(self.index.batch_search(asked, k)[0]).reshape(len(asked), k)
