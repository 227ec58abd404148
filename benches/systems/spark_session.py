"""Spark sessions, data frames in them, and Spark's own join of nearest neighbours."""

import sys
from os import environ

import numpy as np
import pyarrow as pa
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benches.data.rows import Rows


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
