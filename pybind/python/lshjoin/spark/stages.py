"""The estimator and the model that the families share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, SupportsIndex

from pyspark.ml.base import Estimator
from pyspark.ml.param.shared import HasSeed
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

from lshjoin.base.checks import at_least_one, to_float, to_int
from lshjoin.frames.lsh_params import DEFAULT_SEED
from lshjoin.frames.params import signed_64_bits
from lshjoin.spark.hashing import Hasher, HashFunctions
from lshjoin.spark.nearest import nearest_to_key
from lshjoin.spark.pairs import Ids, Structs, with_ids
from lshjoin.spark.params import LSHParams, param
from lshjoin.spark.rows import distinctly_named, quoted
from lshjoin.spark.similarity import similarity_join
from lshjoin.spark.storage import Reader, StoredModel, Writer

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from typing_extensions import Self


#: Spark counts in 32 bits.
MOST_ROWS = 2**31 - 1


class LSHModel(StoredModel, LSHParams, MLReadable, MLWritable):
    """The model of any family."""

    def __repr__(self) -> str:
        """As in Spark."""
        tables = self.getNumHashTables()
        return f"{type(self).__name__}: uid={self.uid}, numHashTables={tables}"

    def approxNearestNeighbors(
        self,
        dataset: DataFrame,
        key: Any,
        numNearestNeighbors: SupportsIndex,
        distCol: str = "distCol",
    ) -> DataFrame:
        """The rows nearest to ``key``, nearest first, of those that share a bucket with it.

        As in Spark there is one probe and no fallback: with too few candidates fewer rows come
        back. More tables, longer buckets or fewer functions find more.

        Args:
            dataset: a hash column that it already has is kept as it is.
            key: one vector of Spark's, list or 1-D array; or one set.
            numNearestNeighbors: at least 1.
            distCol: name for the column of distances.

        Returns:
            The dataset's columns, ``outputCol``, and ``distCol`` with exact distances, double.
        """
        k = min(at_least_one(numNearestNeighbors), MOST_ROWS)
        hasher = self._hasher(dataset)
        for name in (self.getOutputCol(), distCol):
            _check_case(dataset, name)
        named = distinctly_named(dataset, [self.getInputCol(), self.getOutputCol(), distCol])
        found = nearest_to_key(hasher, named, key, k, distCol)
        if named is dataset:
            return found
        names = [*dataset.columns, *found.columns[len(dataset.columns) :]]
        return found.toDF(*names)

    def approxSimilarityJoin(
        self,
        datasetA: DataFrame,
        datasetB: DataFrame,
        threshold: float,
        distCol: str = "distCol",
        *,
        idCol: str | None = None,
    ) -> DataFrame:
        """The pairs of rows that share a bucket and are nearer than ``threshold`` (strictly).

        With one data frame for both sides each pair comes both ways, and each row with itself. A
        side of up to ``spark.lshjoin.broadcastBytes`` goes to every task, larger ones are shuffled
        by table and bucket: docs/spark.md. When this is called, the rows of both are counted, equal
        ones are looked for, and small sides, or a sample of both, are collected; the join itself
        is lazy, unless both sides are small and ``idCol`` is given: then the driver does it at
        once. As in Spark no pair comes twice: rows of a side that are equal in all columns count as
        one.

        Args:
            datasetA: a hash column that it already has is kept as it is.
            datasetB: the other side, or the same data frame.
            threshold: in the units of the distance; at 0 and below there are no pairs.
            distCol: name for the column of distances.
            idCol: a column of both sides, of numbers, strings or the like without nulls: of the
                rows that are found its values alone come back, and nothing else travels with the
                vectors. Rows of a side that are equal in it and in their vectors count as one.

        Returns:
            Struct columns ``datasetA`` and ``datasetB``, each with all columns of its side and
            ``outputCol``, and ``distCol``, double. With ``idCol`` the columns ``idA``, ``idB`` and
            ``distCol``.
        """
        limit = to_float(threshold)
        if math.isnan(limit):
            raise ValueError("threshold is NaN; pass a distance")
        hasher = self._hasher(datasetA, datasetB)
        limit = max(limit, 0.0)
        if idCol is not None:
            sides = self._with_ids(datasetA, datasetB, idCol)
            unwritten = replace(hasher, output=None)
            return similarity_join(unwritten, *sides, limit, Ids(distCol, idCol))
        for dataset in (datasetA, datasetB):
            _check_case(dataset, self.getOutputCol())
        named = self._named(datasetA, datasetB)
        joined = similarity_join(hasher, *named, limit, Structs(distCol))
        return self._renamed(joined, (datasetA, datasetB), named)

    def write(self) -> Writer:
        """A writer: ``write().overwrite().save(path)``."""
        return Writer(self)

    @classmethod
    def read(cls) -> Reader:
        """A reader: ``read().load(path)``."""
        return Reader(cls)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        hasher = self._hasher(dataset)
        _check_absent(dataset, self.getOutputCol())
        named = distinctly_named(dataset, [self.getInputCol(), self.getOutputCol()])
        hashed = hasher.transform(named)
        return hashed if named is dataset else hashed.toDF(*dataset.columns, self.getOutputCol())

    def _named(self, *datasets: DataFrame, keys: Sequence[str] = ()) -> tuple[DataFrame, DataFrame]:
        """The two sides of a join, which stay one when they are."""
        kept = [self.getInputCol(), self.getOutputCol(), *keys]
        left, right = datasets
        named = distinctly_named(left, kept)
        return named, named if right is left else distinctly_named(right, kept)

    def _with_ids(
        self, left: DataFrame, right: DataFrame, id_col: str, *keys: str
    ) -> tuple[DataFrame, DataFrame]:
        """What a join of ids needs of the two sides, which stay one when they are."""
        columns = self.getInputCol(), id_col, *keys
        side = with_ids(left, *columns)
        return side, side if right is left else with_ids(right, *columns)

    def _renamed(
        self,
        joined: DataFrame,
        datasets: tuple[DataFrame, DataFrame],
        named: tuple[DataFrame, DataFrame],
    ) -> DataFrame:
        """Pairs of what :meth:`_named` gave, with the names that the data frames have."""
        if all(other is dataset for dataset, other in zip(datasets, named, strict=True)):
            return joined
        columns = [F.col(quoted(name)) for name in joined.columns]
        for place, dataset in enumerate(datasets):
            names = [*dataset.columns, self.getOutputCol()]
            fields = [
                StructField(name, field.dataType, field.nullable, field.metadata)
                for name, field in zip(names, joined.schema[place].dataType.fields, strict=False)
            ]
            columns[place] = columns[place].cast(StructType(fields)).alias(joined.columns[place])
        return joined.select(*columns)

    def _hasher(self, *datasets: DataFrame) -> Hasher[Any]:
        functions, features = self._functions(), self.getInputCol()
        functions.check_alike(datasets, features)
        return Hasher(functions, features, self.getOutputCol())

    def _functions(self) -> HashFunctions:
        """The hash functions, by the parameters as they are now."""
        raise NotImplementedError


class LSH(Estimator, LSHParams, HasSeed, MLReadable, MLWritable):
    """The estimator of any family."""

    default_seed: ClassVar[int] = DEFAULT_SEED

    seed = param("seed", "random seed.", to_int, signed_64_bits)

    def __init__(
        self,
        *,
        inputCol: str | None = None,
        outputCol: str | None = None,
        seed: int | None = None,
        numHashTables: int | None = None,
        numHashFunctions: int | None = None,
    ) -> None:
        super().__init__()
        self._setDefault(seed=self.default_seed)
        self._set(
            inputCol=inputCol,
            outputCol=outputCol,
            seed=seed,
            numHashTables=numHashTables,
            numHashFunctions=numHashFunctions,
        )

    def setParams(
        self,
        *,
        inputCol: str | None = None,
        outputCol: str | None = None,
        seed: int | None = None,
        numHashTables: int | None = None,
        numHashFunctions: int | None = None,
    ) -> Self:
        """Sets those that are given."""
        return self._set(
            inputCol=inputCol,
            outputCol=outputCol,
            seed=seed,
            numHashTables=numHashTables,
            numHashFunctions=numHashFunctions,
        )

    def setSeed(self, value: int) -> Self:
        """Sets the seed, a signed 64-bit integer."""
        return self._set(seed=value)

    def setNumHashTables(self, value: int) -> Self:
        """Sets the number of tables."""
        return self._set(numHashTables=value)

    def setNumHashFunctions(self, value: int) -> Self:
        """Sets the number of functions a table (AND)."""
        return self._set(numHashFunctions=value)

    def write(self) -> Writer:
        """A writer: ``write().overwrite().save(path)``."""
        return Writer(self)

    @classmethod
    def read(cls) -> Reader:
        """A reader: ``read().load(path)``."""
        return Reader(cls)

    def _fit(self, dataset: DataFrame) -> LSHModel:
        _check_absent(dataset, self.getOutputCol())
        model = self._draw(dataset)
        return self._copyValues(model._resetUid(self.uid))

    def _draw(self, dataset: DataFrame) -> LSHModel:
        """A model of functions that are drawn for a data frame, without parameters."""
        raise NotImplementedError


def _check_absent(dataset: DataFrame, name: str) -> None:
    if name in dataset.columns:
        raise ValueError(f"Column {name} already exists.")
    _check_case(dataset, name)


def _check_case(dataset: DataFrame, name: str) -> None:
    """Refuses the name of a new column that Spark would take for that of another one."""
    if dataset.sparkSession.conf.get("spark.sql.caseSensitive") == "true":
        return
    for column in dataset.columns:
        if column != name and column.lower() == name.lower():
            raise ValueError(
                f"Column {column} already exists, and Spark takes {name} for the same name."
            )
