"""PiPNN (Rubel et al. 2026, arXiv 2602.21247), as the package pipnn has it, for k-NN graphs.

The package is another's implementation, in Rust with float32. The engine of PiPNN's authors,
which won task 1 of SISAP 2026 with codes of 8 bits, is a C++ program that no registry has.
"""

from typing import Any

from benches.data.rows import Indices, Rows
from benches.systems.peer import Peer


class Pipnn(Peer):
    """A self-join is the k-NN graph, which is made when it is asked for."""

    def prepare(self, items: Rows, queries: Rows | None) -> None:
        import pipnn

        self.package = pipnn

    def build(self, items: Rows) -> None:
        self.items, self.common = items, {"metric": self.metric, "n_jobs": self.threads}
        if self.settings:
            self.index = self.package.PiPNNIndex(items, **self.common, **self.settings)

    def knn(self, queries: Rows | None, k: int, **search: Any) -> Indices:
        if queries is None:
            return self.package.self_knn_graph(self.items, k, **self.common, **search)[0]
        return self.index.query(queries, k, **search)[0]
