"""The estimator and the model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyspark import keyword_only
from pyspark.ml.base import Estimator, Model
from pyspark.ml.param.shared import HasSeed
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

from lshjoin import engine
from lshjoin.base.checks import at_least_one, to_float, to_int, to_recall
from lshjoin.frames.lsh_params import DEFAULT_SEED
from lshjoin.frames.params import signed_64_bits
from lshjoin.spark.hashing import Hasher, HashFunctions
from lshjoin.spark.nearest import nearest_join, nearest_to_key
from lshjoin.spark.params import LSHParams, param
from lshjoin.spark.rows import distinctly_named, quoted
from lshjoin.spark.similarity import similarity_join
from lshjoin.spark.storage import Reader, Writer
from lshjoin.spark.vectors import dimension, key_vector, value_bytes

if TYPE_CHECKING:
    from pyspark.ml.linalg import Vector
    from pyspark.sql import DataFrame
    from typing_extensions import Self


# Spark counts in 32 bits.
_MOST_ROWS = 2**31 - 1


class BucketedRandomProjectionLSHModel(Model, LSHParams, MLReadable, MLWritable):
    """Fitted by :class:`BucketedRandomProjectionLSH`; distances are Euclidean."""

    #: Who else reads and writes the same.
    spark_class = "org.apache.spark.ml.feature.BucketedRandomProjectionLSHModel"

    def __init__(self, directions: NDArray[np.float64]) -> None:
        """Of directions (tables, functions, dim)."""
        super().__init__()
        self._directions = directions

    def __repr__(self) -> str:
        """As in Spark."""
        tables = self.getNumHashTables()
        return f"{type(self).__name__}: uid={self.uid}, numHashTables={tables}"

    def approxNearestNeighbors(
        self,
        dataset: DataFrame,
        key: Vector | ArrayLike,
        numNearestNeighbors: SupportsIndex,
        distCol: str = "distCol",
    ) -> DataFrame:
        """The rows nearest to ``key``, nearest first, of those that share a bucket with it.

        As in Spark there is one probe and no fallback: with too few candidates fewer rows come
        back. More tables, longer buckets or fewer functions find more.

        Args:
            dataset: a hash column that it already has is kept as it is.
            key: one vector of Spark's, list or 1-D array.
            numNearestNeighbors: at least 1.
            distCol: name for the column of distances.

        Returns:
            The dataset's columns, ``outputCol``, and ``distCol`` with exact distances, double.
        """
        k = min(at_least_one(numNearestNeighbors), _MOST_ROWS)
        hasher = self._hasher(dataset)
        for name in (self.getOutputCol(), distCol):
            _check_case(dataset, name)
        named = distinctly_named(dataset, [self.getInputCol(), self.getOutputCol(), distCol])
        found = nearest_to_key(hasher, named, key_vector(key, hasher.functions.dim), k, distCol)
        if named is dataset:
            return found
        names = [*dataset.columns, *found.columns[len(dataset.columns) :]]
        return found.toDF(*names)

    def approxSimilarityJoin(
        self, datasetA: DataFrame, datasetB: DataFrame, threshold: float, distCol: str = "distCol"
    ) -> DataFrame:
        """The pairs of rows that share a bucket and are nearer than ``threshold`` (strictly).

        With one data frame for both sides each pair comes both ways, and each row with itself. A
        side of up to ``spark.lshjoin.broadcastBytes`` goes to every task, larger ones are shuffled
        by table and bucket: docs/spark.md. When this is called, the rows of both are counted, equal
        ones are looked for, and the smaller side, or a sample of both, is collected; the join
        itself is lazy. As in Spark no pair comes twice: rows of a side that are equal in all
        columns count as one.

        Args:
            datasetA: a hash column that it already has is kept as it is.
            datasetB: the other side, or the same data frame.
            threshold: in the units of the vectors; at 0 and below there are no pairs.
            distCol: name for the column of distances.

        Returns:
            Struct columns ``datasetA`` and ``datasetB``, each with all columns of its side and
            ``outputCol``, and ``distCol``, double.
        """
        limit = to_float(threshold)
        if math.isnan(limit):
            raise ValueError("threshold is NaN; pass a distance")
        hasher = self._hasher(datasetA, datasetB)
        for dataset in (datasetA, datasetB):
            _check_case(dataset, self.getOutputCol())
        named = self._named(datasetA, datasetB)
        joined = similarity_join(hasher, *named, max(limit, 0.0), distCol)
        return self._renamed(joined, (datasetA, datasetB), named)

    def approxNearestNeighborsJoin(
        self,
        datasetA: DataFrame,
        datasetB: DataFrame,
        numNearestNeighbors: SupportsIndex,
        distCol: str = "distCol",
        *,
        recall: float = 0.95,
    ) -> DataFrame:
        """For every row of ``datasetA`` the rows of ``datasetB`` nearest to it.

        Not in Spark. The model says which column holds the vectors; its hash functions play no
        part, since :func:`lshjoin.knn_join` finds the neighbours: each row gets as many as it asks
        for. With one data frame for both sides a row is a neighbour of itself, as in
        :meth:`approxSimilarityJoin`.

        Where B is larger than ``spark.lshjoin.broadcastBytes`` the data are read several times: to
        measure them, to take the sample that the join is planned from, to find the neighbours and
        to fetch their rows. Persist data frames that are expensive to compute; vectors must come
        out the same, bit for bit, each time.

        Args:
            datasetA: the rows that want neighbours.
            datasetB: the rows to choose from, or the same data frame.
            numNearestNeighbors: neighbours a row of A, at least 1; fewer when B has fewer.
            distCol: name for the column of distances.
            recall: the share of the true neighbours to find, above 0, at most 1 (all of them).

        Returns:
            Struct columns ``datasetA`` and ``datasetB`` with the columns of their sides, and
            ``distCol``, double; in no order.
        """
        k = min(at_least_one(numNearestNeighbors), _MOST_ROWS)
        share = to_recall(recall)
        hasher = self._hasher(datasetA, datasetB)
        named = self._named(datasetA, datasetB)
        joined = nearest_join(hasher, *named, k, share, distCol)
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

    def _named(self, *datasets: DataFrame) -> tuple[DataFrame, DataFrame]:
        """The two sides of a join, which stay one when they are."""
        kept = [self.getInputCol(), self.getOutputCol()]
        left, right = datasets
        named = distinctly_named(left, kept)
        return named, named if right is left else distinctly_named(right, kept)

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

    def _hasher(self, *datasets: DataFrame) -> Hasher:
        for dataset in datasets:
            value_bytes(dataset, self.getInputCol())
        functions = HashFunctions(self._directions, self.getBucketLength())
        return Hasher(functions, self.getInputCol(), self.getOutputCol())


class BucketedRandomProjectionLSH(Estimator, LSHParams, HasSeed, MLReadable, MLWritable):
    """LSH for Euclidean distance: Spark's class of this name, with the same answers.

    A hash function projects a vector on a random Gaussian direction of length 1 and cuts the
    projection into buckets of ``bucketLength`` (Datar, Immorlica, Indyk and Mirrokni 2004, without
    their random offset, as in Spark). Directions are drawn with Spark's generator: the same seed
    gives the same buckets. A table asks ``numHashFunctions`` functions to agree (AND; 1 in Spark),
    and one table that agrees makes two rows candidates (OR).

    Args:
        inputCol: the column of vectors: VectorUDT, dense or sparse, array<float> or array<double>.
        outputCol: the column of hashes; ``uid + "__output"`` unless set.
        seed: signed 64-bit; 772209414 unless set, the default of Spark's Scala side. (PySpark's own
            default changes from one Python process to the next.)
        numHashTables: tables, 1 unless set.
        bucketLength: width of a bucket in the units of the vectors; must be set.
        numHashFunctions: functions a table, 1 unless set.

    Examples:
        The example in Spark's documentation; ``spark`` is a session.

        >>> from lshjoin.spark import BucketedRandomProjectionLSH
        >>> from pyspark.ml.linalg import Vectors
        >>> corners = [(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)]
        >>> df = spark.createDataFrame(
        ...     [(i, Vectors.dense(corner)) for i, corner in enumerate(corners)], ["id", "features"]
        ... )
        >>> brp = BucketedRandomProjectionLSH(inputCol="features", outputCol="hashes")
        >>> model = brp.setSeed(12345).setBucketLength(1.0).fit(df)
        >>> model.transform(df).orderBy("id").first()
        Row(id=0, features=DenseVector([-1.0, -1.0]), hashes=[DenseVector([-1.0])])
        >>> others = [(2.0, 2.0), (2.0, 3.0), (3.0, 2.0), (3.0, 3.0)]
        >>> df2 = spark.createDataFrame(
        ...     [(i, Vectors.dense(other)) for i, other in enumerate(others, 4)], ["id", "features"]
        ... )
        >>> model.approxNearestNeighbors(df2, Vectors.dense([1.0, 2.0]), 1).collect()
        [Row(id=4, features=DenseVector([2.0, 2.0]), hashes=[DenseVector([1.0])], distCol=1.0)]
        >>> pairs = model.approxSimilarityJoin(df, df2, 3.0, distCol="EuclideanDistance")
        >>> pairs.select("datasetA.id", "datasetB.id", "EuclideanDistance").collect()
        [Row(id=3, id=6, EuclideanDistance=2.23606797749979)]

        Not in Spark:

        >>> nearest = model.approxNearestNeighborsJoin(df2, df, 1, distCol="distance")
        >>> nearest.select("datasetA.id", "datasetB.id", "distance").orderBy("distance").first()
        Row(id=4, id=3, distance=1.4142135623730951)
    """

    spark_class = "org.apache.spark.ml.feature.BucketedRandomProjectionLSH"

    seed = param("seed", "random seed.", to_int, signed_64_bits)

    @keyword_only
    def __init__(
        self,
        *,
        inputCol: str | None = None,
        outputCol: str | None = None,
        seed: int | None = None,
        numHashTables: int = 1,
        bucketLength: float | None = None,
        numHashFunctions: int = 1,
    ) -> None:
        super().__init__()
        self._setDefault(seed=DEFAULT_SEED)
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(
        self,
        *,
        inputCol: str | None = None,
        outputCol: str | None = None,
        seed: int | None = None,
        numHashTables: int = 1,
        bucketLength: float | None = None,
        numHashFunctions: int = 1,
    ) -> Self:
        """Sets those that are given."""
        return self._set(**self._input_kwargs)

    def setSeed(self, value: int) -> Self:
        """Sets the seed, a signed 64-bit integer."""
        return self._set(seed=value)

    def setNumHashTables(self, value: int) -> Self:
        """Sets the number of tables."""
        return self._set(numHashTables=value)

    def setNumHashFunctions(self, value: int) -> Self:
        """Sets the number of functions a table (AND)."""
        return self._set(numHashFunctions=value)

    def setBucketLength(self, value: float) -> Self:
        """Sets the width of a bucket, in the units of the vectors; there is no default."""
        return self._set(bucketLength=value)

    def write(self) -> Writer:
        """A writer: ``write().overwrite().save(path)``."""
        return Writer(self)

    @classmethod
    def read(cls) -> Reader:
        """A reader: ``read().load(path)``."""
        return Reader(cls)

    def _fit(self, dataset: DataFrame) -> BucketedRandomProjectionLSHModel:
        features = self.getInputCol()
        value_bytes(dataset, features)
        _check_absent(dataset, self.getOutputCol())
        native = engine.Model.fit(
            np.zeros((1, dimension(dataset, features))),
            family="euclidean",
            num_hash_functions=self.getNumHashFunctions(),
            num_hash_tables=self.getNumHashTables(),
            bucket_length=self.getBucketLength(),
            seed=self.getSeed(),
            num_threads=1,
        )
        shape = (self.getNumHashTables(), self.getNumHashFunctions(), -1)
        model = BucketedRandomProjectionLSHModel(native.directions.reshape(shape))
        return self._copyValues(model._resetUid(self.uid))


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
