"""SVS, Intel's Scalable Vector Search: a Vamana graph of the rows, or of LVQ codes of them."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benches.data.rows import Indices, Rows, unit
from benches.systems.peer import Peer


class Vamana(Peer):
    def prepare(self, items: Rows, queries: Rows | None) -> None:
        import svs

        self.package = svs

    def build(self, items: Rows) -> None:
        self.items = unit(items) if self.metric == "cosine" else items
        parameters = self.package.VamanaBuildParameters(alpha=1.2, **self.settings)
        self.index = self._built(parameters)

    def _built(self, parameters: Any) -> Any:
        return self.package.Vamana.build(
            parameters, self.items, self.package.DistanceType.L2, num_threads=self.threads
        )

    def knn(self, queries: Rows | None, k: int, *, window: int) -> Indices:
        if queries is not None and self.metric == "cosine":
            queries = unit(queries)
        self.index.search_window_size = window
        return self.index.search(*self.asked(queries, k))[0]


class VamanaLvq(Vamana):
    """Codes of 4 bits and 8 more for reranking, which SVS has for Intel's processors alone."""

    def _built(self, parameters: Any) -> Any:
        svs = self.package
        with TemporaryDirectory() as directory:
            path = str(Path(directory, "rows.fvecs"))
            svs.write_vecs(self.items, path)
            codes = svs.LVQLoader(
                svs.VectorDataLoader(path, svs.DataType.float32), primary=4, residual=8
            )
            return svs.Vamana.build(
                parameters, codes, svs.DistanceType.L2, num_threads=self.threads
            )
