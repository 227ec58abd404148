"""DiskANN, its Rust flavour: a Vamana graph in memory, built by way of files as it asks for."""

from tempfile import TemporaryDirectory

from benches.data.rows import Indices, Rows, unit
from benches.systems.peer import Peer


class DiskAnn(Peer):
    def prepare(self, items: Rows, queries: Rows | None) -> None:
        import diskannpy

        self.package = diskannpy

    def build(self, items: Rows) -> None:
        self.items = unit(items) if self.metric == "cosine" else items
        degree, complexity = self.settings["graph_degree"], self.settings["complexity"]
        with TemporaryDirectory() as directory:
            self.package.build_async_index(
                self.items,
                "l2",
                directory,
                complexity,
                degree,
                num_start_pts=1,
                num_threads=self.threads,
                graph_slack_factor=1.3,
                max_fp_vecs_per_prune=24,
                num_tasks=self.threads,
                pq_seed=0,
                insert_minibatch_size=64,
            )
            self.index = self.package.AsyncDiskIndex(
                directory, num_threads=self.threads, r=degree, l=complexity
            )

    def knn(self, queries: Rows | None, k: int, *, complexity: int) -> Indices:
        if queries is not None and self.metric == "cosine":
            queries = unit(queries)
        return self.index.batch_search(
            *self.asked(queries, k), complexity, self.threads
        ).identifiers
