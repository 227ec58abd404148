"""Spark's own join of nearest neighbours and its hashing."""

from typing import Any

import numpy as np
from pyspark.ml.feature import BucketedRandomProjectionLSH
from pyspark.sql import DataFrame

from benches.data.rows import Indices, Rows
from benches.systems import meter, spark_session
from benches.systems.peer import Peer


class SparkPeer(Peer):
    """In local mode with as many cores as the others have threads."""

    vectors = True

    def prepare(self, items: Rows, queries: Rows | None) -> None:
        # Eight partitions: the usual two hundred are slower at these sizes.
        self.session = spark_session.start(
            f"local[{self.threads}]", driver_memory="8g", sql_shuffle_partitions="8"
        )
        self.warm_up()
        self.frame, self.asking = (
            self._frame(side) if side is not None else None for side in (items, queries)
        )

    def warm_up(self) -> None: ...

    def _frame(self, rows: Rows) -> DataFrame:
        return spark_session.frame(self.session, rows, self.threads, vectors=self.vectors)

    def peak_bytes(self) -> int:
        """With that of the JVM, where Spark's own work is done."""
        jvm = self.session.sparkContext._gateway.jvm.java.lang.ProcessHandle.current().pid()
        return super().peak_bytes() + meter.peak_bytes(jvm)


class NearestByJoin(SparkPeer):
    vectors = False

    def warm_up(self) -> None:
        few = self._frame(np.eye(100, 8, dtype=np.float32))
        spark_session.nearest_by_join(few, few, 1).toArrow()

    def knn(self, queries: Rows, k: int) -> Indices:
        found = spark_session.nearest_by_join(self.asking, self.frame, k).toArrow()
        query, item, distance = (column.to_numpy() for column in found.columns)
        return item[np.lexsort([distance, query])].reshape(len(queries), k)


class Transform(SparkPeer):
    def warm_up(self) -> None:
        few = self._frame(np.eye(100, 8, dtype=np.float32))
        self._transform(self._fit(few), few)

    def build(self, items: Rows) -> None:
        self.model = self._fit(self.frame)

    def hash(self, queries: None, _: None) -> None:
        self._transform(self.model, self.frame)

    def _fit(self, rows: DataFrame) -> Any:
        return BucketedRandomProjectionLSH(
            inputCol="features", outputCol="hashes", seed=12345, **self.settings
        ).fit(rows)

    def _transform(self, model: Any, rows: DataFrame) -> None:
        model.transform(rows).write.format("noop").mode("overwrite").save()
