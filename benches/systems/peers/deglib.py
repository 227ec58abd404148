"""deglib: a graph, explored from each row as its authors' example of a k-NN graph has it."""

from typing import Any

import numpy as np

from benches.data.rows import Indices, Rows, unit
from benches.systems.peer import Peer


class Deglib(Peer):
    """On the rows themselves, float32 or uint8, by their squared Euclidean distance."""

    returns_itself = False

    def prepare(self, items: Rows, queries: Rows | None) -> None:
        import deglib

        self.package = deglib

    def build(self, items: Rows) -> None:
        self.items = unit(items) if self.metric == "cosine" else items
        metric = "Uint8_L2" if items.dtype == np.uint8 else "FP32_L2"
        self._grow(self.items, self.package.Metric[metric], **self.settings)

    def knn(self, queries: None, k: int, *, candidates: int) -> Indices:
        return self._explored(candidates)[:, :k]

    def _grow(self, rows: Any, metric: Any, *, edges: int, extend_k: int) -> None:
        space = self.package.FloatSpace.create(self.items.shape[1], metric)
        self.index = self.package.create_empty(len(rows), space, edges)
        builder = self.package.GraphBuilder(self.index, extend_k=extend_k, extend_eps=0.001)
        builder.set_thread_count(self.threads)
        builder.add_entry(np.arange(len(rows), dtype=np.uint32), rows)
        builder.build()

    def _explored(self, k: int, distances: int = 0) -> Indices:
        """At most so many distances a row, if any; -1 where fewer than k were found."""
        found = self.index.explore(
            np.arange(len(self.items), dtype=np.uint32),
            k,
            max_distance_computation_count=distances,
            include_entry=False,
            threads=self.threads,
            return_distances=False,
        )
        return np.where(found == np.iinfo(np.uint32).max, -1, found.astype(np.int64))


class DeglibEvp(Deglib):
    """On EVP codes of unit rows; what was found is reranked by float16. SISAP 2026, mode 4."""

    def build(self, items: Rows) -> None:
        self.items = unit(items)
        settings = dict(self.settings)
        non_zeros, prune = settings.pop("non_zeros"), settings.pop("prune_worst")
        library = self.package.optimization
        codes = library.EvpQuantizer(non_zeros).quantize(self.items, self.threads)
        self._grow(codes, self.package.Metric.EVP_InnerProduct, **settings)
        library.prune_worst_edges(self.index, prune, self.threads)

    def knn(self, queries: None, k: int, *, distances: int, candidates: int) -> Indices:
        found = self._explored(candidates, distances)
        halves = self.package.distances.floats_to_fp16(self.items)
        metric = self.package.Metric.FP16_InnerProduct
        space = self.package.FloatSpace.create(self.items.shape[1], metric)
        return self.package.search.rerank(space, halves, found, halves, k, self.threads)
