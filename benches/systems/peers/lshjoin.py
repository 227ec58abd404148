"""lshjoin itself: its joins of arrays, and its estimator of Spark's shape."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benches.data.rows import Indices, Rows
from benches.systems.peer import Peer


class Lshjoin(Peer):
    returns_itself = False

    def prepare(self, items: Rows, queries: Rows | None) -> None:
        import lshjoin

        self.package = lshjoin

    def knn(self, queries: Rows | None, k: int, *, plan: str | None = None, **search: Any) -> Any:
        if plan is not None:
            search["plan"] = self.package.JoinPlan.from_json(plan)
        self.joined = self.package.knn_join(
            queries,
            self.items,
            k,
            metric=self.metric,
            num_threads=self.threads,
            progress=False,
            **search,
        )
        return self.joined.indices

    def radius(self, queries: None, radius: float) -> tuple[int, Any]:
        found = self.package.radius_join(
            items=self.items, radius=radius, metric=self.metric, num_threads=self.threads
        )
        return len(found.indices) // 2, found

    def within(self, keys: Indices, k: int, **search: Any) -> Indices:
        return self.knn(None, k, within=keys, **search)

    def dedup(self, queries: None, similarity: float) -> tuple[int, Any]:
        found = self.package.dedup(
            self.items,
            1 - similarity,
            metric="cosine",
            linkage="representative",  # as SemHash has it: near the one that is kept
            num_threads=self.threads,
            progress=False,
        )
        return int(found.keep.sum()), found

    def rest_bytes(self) -> int:
        return 0


class LshjoinIndex(Peer):
    """The index that is kept to be asked again."""

    def prepare(self, items: Rows, queries: Rows | None) -> None:
        import lshjoin

        self.package = lshjoin

    def build(self, items: Rows) -> None:
        self.index = self.package.Index.build(
            items, metric=self.metric, num_threads=self.threads, progress=False
        )

    def knn(self, queries: Rows, k: int, **search: Any) -> Indices:
        found = self.index.knn(queries, k, num_threads=self.threads, progress=False, **search)
        return found.indices

    def rest_bytes(self) -> int:
        with TemporaryDirectory() as directory:
            self.index.save(path := Path(directory, "index"))
            files = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
        return sum(files)


class LshjoinModel(Peer):
    """The estimator of Spark's shape, over a pyarrow table."""

    def prepare(self, items: Rows, queries: Rows | None) -> None:
        import lshjoin
        import pyarrow as pa

        vectors = pa.FixedSizeListArray.from_arrays(pa.array(items.ravel()), items.shape[1])
        self.frame = pa.table({"id": np.arange(len(items)), "features": vectors})
        self.estimator = lshjoin.BucketedRandomProjectionLSH(
            inputCol="features", outputCol="hashes", seed=12345, **self.settings
        )

    def build(self, items: Rows) -> None:
        self.model = self.estimator.fit(self.frame, num_threads=self.threads)

    def radius(self, queries: None, radius: float) -> tuple[int, Any]:
        joined = self.model.approxSimilarityJoin(
            self.frame, self.frame, radius, num_threads=self.threads
        )
        return (len(joined) - len(self.frame)) // 2, joined

    def hash(self, queries: None, _: None) -> Any:
        return self.model.transform(self.frame, num_threads=self.threads)
