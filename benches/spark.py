"""Spark sessions and data frames to measure, and Spark's own peers for systems.py."""

import sys
from os import environ
from typing import Any

import numpy as np
import pyarrow as pa
import systems
from numpy.typing import NDArray
from peers import Peer
from pyspark.ml.feature import BucketedRandomProjectionLSH
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

Rows = NDArray[np.float32]


def start(master: str, **settings: str) -> SparkSession:
    """A quiet session; settings come with underscores for dots."""
    environ["PYSPARK_PYTHON"] = sys.executable
    builder = (
        SparkSession.builder.master(master)
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.log.level", "ERROR")
    )
    for name, value in settings.items():
        builder = builder.config(f"spark.{name.replace('_', '.')}", value)
    return builder.getOrCreate()


def frame(session: SparkSession, rows: Rows, partitions: int, *, vectors: bool = True) -> DataFrame:
    """Columns id and features, of ``VectorUDT`` or array<float>; cached and counted."""
    kind = pa.float64() if vectors else pa.float32()
    values = pa.array(rows.astype(kind.to_pandas_dtype()).ravel())
    lists = pa.FixedSizeListArray.from_arrays(values, rows.shape[1]).cast(pa.list_(kind))
    table = session.createDataFrame(pa.table({"id": np.arange(len(rows)), "features": lists}))
    if vectors:
        table = table.select("id", array_to_vector("features").alias("features"))
    cached = table.repartition(partitions).cache()
    cached.count()
    return cached


def nearest_by_join(rows: DataFrame, others: DataFrame, k: int) -> DataFrame:
    """Columns id, b and the distance: Spark 4.2's join, which compares all pairs."""
    others = others.toDF("b", "others")
    distance = F.vector_l2_distance(rows.features, others.others)
    joined = rows.nearestByJoin(others, distance, k, "exact", "distance")
    return joined.select("id", "b", distance)


class SparkPeer(Peer):
    """In local mode with as many cores as the others have threads."""

    vectors = True

    def prepare(self, items: Rows, queries: Rows | None) -> None:
        # Eight partitions: the usual two hundred are slower at these sizes.
        self.session = start(
            f"local[{self.threads}]", driver_memory="8g", sql_shuffle_partitions="8"
        )
        self.warm_up()
        self.frame, self.asking = (
            self._frame(side) if side is not None else None for side in (items, queries)
        )

    def warm_up(self) -> None: ...

    def _frame(self, rows: Rows) -> DataFrame:
        return frame(self.session, rows, self.threads, vectors=self.vectors)

    def peak_bytes(self) -> int:
        """With that of the JVM, where Spark's own work is done."""
        jvm = self.session.sparkContext._gateway.jvm.java.lang.ProcessHandle.current().pid()
        return super().peak_bytes() + systems.peak_bytes(jvm)


class NearestByJoin(SparkPeer):
    vectors = False

    def warm_up(self) -> None:
        few = self._frame(np.eye(100, 8, dtype=np.float32))
        nearest_by_join(few, few, 1).toArrow()

    def knn(self, queries: Rows, k: int) -> NDArray[np.int64]:
        found = nearest_by_join(self.asking, self.frame, k).toArrow()
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
