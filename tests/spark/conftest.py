"""One Spark for all tests here. Without Java 17 they are skipped, and say so.

LSHJOIN_SPARK says which: ``local[2]`` unless set, another master, or ``connect``.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from arrow_tables import from_arrow
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "ignore:PySpark does not yet fully support pandas")
    for line in (
        "connect: what Spark Connect might change, one test a call and feature",
        "cluster: what executors in processes of their own might change, one test a feature",
    ):
        config.addinivalue_line("markers", line)


def java_version() -> int:
    """The major version of the java on the path, 0 where there is none."""
    java = shutil.which("java")
    if java is None:
        return 0
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[SparkSession]":
    if java_version() < 17:
        pytest.skip("Spark parity not tested: no Java 17 or later on this machine")
    from pyspark.sql import SparkSession

    master = os.environ.get("LSHJOIN_SPARK", "local[2]")
    os.environ["PYSPARK_PYTHON"] = sys.executable
    # Jobs of a second or less: what it takes to compile them well, and to collect in parallel, is
    # never made up for. Executors and servers hear of it, too.
    os.environ["JDK_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    # Of a server that PySpark starts these are the only settings it hears of in time.
    os.environ["PYSPARK_SUBMIT_ARGS"] = (
        "--driver-memory 4g --conf spark.log.level=FATAL --conf spark.ui.enabled=false"
        " --conf spark.sql.shuffle.partitions=4 pyspark-shell"
    )
    if master == "connect":
        session = SparkSession.builder.remote("local[2]").getOrCreate()
        yield session
        session.stop()
        return
    session = (
        SparkSession.builder.master(master)
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.ui.showConsoleProgress", "false")
        # What a lost executor held is given up sooner than after fifteen seconds.
        .config("spark.shuffle.io.maxRetries", "1")
        .config("spark.shuffle.io.retryWait", "1s")
        .config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse")))
        .getOrCreate()
    )
    yield session
    session.stop()


class Frames:
    """The same rows, numbered, as a frame of Spark's and as one for lshjoin."""

    def __init__(self, spark: "SparkSession", rows: NDArray[np.floating]) -> None:
        from pyspark.ml.functions import array_to_vector

        ids = np.arange(len(rows))
        lists = pa.array(rows.astype(np.float64).tolist(), pa.list_(pa.float64()))
        table = from_arrow(spark, pa.table({"id": ids, "features": lists}))
        self.rows = rows
        self.theirs: DataFrame = table.select("id", array_to_vector("features").alias("features"))
        self.ours = pl.DataFrame({"id": ids, "features": rows})


@pytest.fixture
def frames(spark: "SparkSession"):
    return lambda rows: Frames(spark, rows)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Where to save a model: does not exist yet."""
    return tmp_path / "model"
