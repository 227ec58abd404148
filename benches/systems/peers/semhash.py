"""SemHash: near-duplicates of embeddings, by usearch unless told otherwise."""

from typing import Any

from benches.data.rows import Rows
from benches.systems.peer import Peer


class SemHash(Peer):
    def prepare(self, items: Rows, queries: Rows | None) -> None:
        from semhash import SemHash

        self.package = SemHash
        self.records = [str(row) for row in range(len(items))]

    def build(self, items: Rows) -> None:
        # The model is asked only for records that come later.
        self.index = self.package.from_embeddings(items, self.records, model=None)

    def dedup(self, queries: None, similarity: float) -> tuple[int, Any]:
        found = self.index.self_deduplicate(similarity)
        return len(found.selected), found
