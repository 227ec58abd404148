"""Estimators and models on disk, by way of Spark: on whatever file systems it knows.

The layout is Spark's, as in ``frames/storage.py``. On its own, what is of a family of Spark's and
has one hash function a table carries Spark's class name, and Spark loads it. All else carries ours,
and so does a stage of a pipeline: Spark's ``PipelineModel.load`` goes by that name, and the
pipeline is to come back with the stage that it had.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

from pyspark.errors import AnalysisException
from pyspark.ml.base import Model
from pyspark.ml.util import BaseReadWrite, DefaultParamsReader, MLReader, MLWriter
from pyspark.sql import SparkSession
from pyspark.sql.types import DataType, StructField, StructType

from lshjoin.spark.params import LSHParams

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyspark.ml.param import Param

_STAGE = re.compile(r"/stages/\d+_[^/]+/?$")


class StoredModel(Model):
    """A model, as its hash functions are stored: in one row, as Spark has it."""

    def _stored(self) -> dict[str, tuple[Any, DataType]]:
        """The columns: name, value and type."""
        raise NotImplementedError

    @classmethod
    def _functions_of(cls, row: dict[str, Any], spark_version: str) -> tuple[NDArray[Any], ...]:
        """Of the one row of a release of Spark, or of ours, what there is of each function."""
        raise NotImplementedError


class _Session(BaseReadWrite):
    """Of the two kinds of session the one that there is, which Spark 3.5's own does not find."""

    @property
    def sparkSession(self) -> SparkSession:
        return (
            self._sparkSession
            or SparkSession.getActiveSession()
            or SparkSession.builder.getOrCreate()
        )


class Writer(_Session, MLWriter):
    """Saves an estimator or a model."""

    def __init__(self, instance: LSHParams) -> None:
        super().__init__()
        self._instance = instance

    def save(self, path: str) -> None:
        """Saves to a directory, which must not exist yet without ``overwrite``."""
        mode = "overwrite" if self.shouldOverwrite else "error"
        spark, instance = self.sparkSession, self._instance
        metadata = spark.createDataFrame([(json.dumps(self._metadata(path)),)], "value string")
        try:
            metadata.coalesce(1).write.mode(mode).text(f"{path}/metadata")
        except AnalysisException as error:
            if "already exists" not in str(error):
                raise
            raise FileExistsError(
                f"Path {path} already exists. To overwrite it, please use "
                f"write().overwrite().save({path!r})"
            ) from None
        if isinstance(instance, StoredModel):
            columns = instance._stored()
            schema = [StructField(name, kind) for name, (_, kind) in columns.items()]
            values = tuple(value for value, _ in columns.values())
            data = spark.createDataFrame([values], StructType(schema))
            data.coalesce(1).write.mode(mode).parquet(f"{path}/data")

    def _metadata(self, path: str) -> dict[str, Any]:
        instance, cls = self._instance, type(self._instance)
        sparks = (
            cls.spark_class is not None
            and instance.getNumHashFunctions() == 1
            and not _STAGE.search(path)
        )

        def by_name(values: dict[Param[Any], Any]) -> dict[str, Any]:
            names = {param.name: value for param, value in values.items()}
            if sparks:  # Spark refuses parameters that it has not
                names.pop("numHashFunctions", None)
            return names

        return {
            "class": cls.spark_class if sparks else f"lshjoin.spark.{cls.__name__}",
            "timestamp": int(time.time() * 1000),
            "sparkVersion": self.sparkSession.version,
            "uid": instance.uid,
            "paramMap": by_name(instance._paramMap),
            "defaultParamMap": by_name(instance._defaultParamMap),
        }


class Reader(_Session, MLReader):
    """Loads an estimator or a model."""

    def __init__(self, cls: type[Any]) -> None:
        super().__init__()
        self._cls = cls

    def load(self, path: str) -> Any:
        """Reads what was saved here, by Spark or by ``lshjoin`` without Spark."""
        spark, cls = self.sparkSession, self._cls
        lines = spark.read.text(f"{path}/metadata").head(1)
        if not lines:
            raise FileNotFoundError(f"{path}/metadata is empty")
        metadata = json.loads(lines[0][0])
        expected = [
            *([cls.spark_class] if cls.spark_class else []),
            f"lshjoin.spark.{cls.__name__}",
            f"lshjoin.{cls.__name__}",  # written without Spark, and not for Spark
        ]
        if metadata["class"] not in expected:
            raise ValueError(
                f"Error loading metadata: Expected class name {expected[0]} "
                f"but found class name {metadata['class']}"
            )
        instance = self._model(path, metadata) if issubclass(cls, StoredModel) else cls()
        instance._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(instance, metadata)
        return instance

    def _model(self, path: str, metadata: dict[str, Any]) -> Any:
        rows = self.sparkSession.read.parquet(f"{path}/data").collect()
        if len(rows) != 1:
            raise ValueError(f"{path}/data must hold one row but holds {len(rows)}")
        try:
            functions = self._cls._functions_of(rows[0].asDict(), metadata["sparkVersion"])
        except ValueError as error:
            raise ValueError(f"{path}/data: {error}") from None
        per_table = {**metadata.get("defaultParamMap", {}), **metadata["paramMap"]}.get(
            "numHashFunctions", 1
        )
        count = len(functions[0])
        if per_table not in range(1, count + 1) or count % per_table:
            raise ValueError(
                f"{path}/data holds {count} hash functions, "
                f"which are not {per_table} for each table"
            )
        return self._cls(*(each.reshape(-1, per_table, *each.shape[1:]) for each in functions))
