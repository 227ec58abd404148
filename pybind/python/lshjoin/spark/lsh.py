"""The family for vectors and Euclidean distance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray
from pyspark import keyword_only
from pyspark.ml.linalg import DenseMatrix, MatrixUDT

from lshjoin import engine
from lshjoin.base.checks import at_least_one, to_recall
from lshjoin.frames.lsh_params import DEFAULT_SEED
from lshjoin.frames.storage import dense_rows
from lshjoin.spark.hashing import Projections
from lshjoin.spark.nearest import Search, nearest_ids, nearest_rows
from lshjoin.spark.pairs import Ids, Structs
from lshjoin.spark.params import BucketLengthParam
from lshjoin.spark.sides import Side, Vectors
from lshjoin.spark.stages import LSH, MOST_ROWS, LSHModel
from lshjoin.spark.vectors import dimension, value_bytes

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType
    from typing_extensions import Self


class BucketedRandomProjectionLSHModel(LSHModel, BucketLengthParam):
    """Fitted by :class:`BucketedRandomProjectionLSH`; distances are Euclidean."""

    spark_class = "org.apache.spark.ml.feature.BucketedRandomProjectionLSHModel"

    def __init__(self, directions: NDArray[np.float64]) -> None:
        """Of directions (tables, functions, dim)."""
        super().__init__()
        self._directions = directions

    def approxNearestNeighborsJoin(
        self,
        datasetA: DataFrame,
        datasetB: DataFrame,
        numNearestNeighbors: SupportsIndex,
        distCol: str = "distCol",
        *,
        recall: float = 0.95,
        idCol: str | None = None,
        nested: bool = False,
    ) -> DataFrame:
        """For every row of ``datasetA`` the rows of ``datasetB`` nearest to it.

        Not in Spark. The model says which column holds the vectors; its hash functions play no
        part, since :func:`lshjoin.knn_join` finds the neighbours: each row gets as many as it asks
        for. With one data frame for both sides a row is a neighbour of itself, as in
        :meth:`approxSimilarityJoin`.

        Where B is larger than ``spark.lshjoin.broadcastBytes`` the data are read several times: to
        measure them, to take the sample that the join is planned from, to find the neighbours and,
        without ``idCol``, to fetch their rows. Persist data frames that are expensive to compute;
        vectors must come out the same, bit for bit, each time.

        Args:
            datasetA: the rows that want neighbours.
            datasetB: the rows to choose from, or the same data frame.
            numNearestNeighbors: neighbours a row of A, at least 1; fewer when B has fewer.
            distCol: name for the column of distances.
            recall: the share of the true neighbours to find, above 0, at most 1 (all of them).
            idCol: a column of both sides, of numbers, strings or the like without nulls: of the
                rows that are found its values alone come back, and no row is fetched. Of rows with
                one id each is a row of its own.
            nested: with ``idCol``, one row for each row of A, with all its neighbours.

        Returns:
            Struct columns ``datasetA`` and ``datasetB`` with the columns of their sides, and
            ``distCol``, double; in no order. With ``idCol`` the columns ``idA``, ``idB`` and
            ``distCol``; nested ``idA`` and ``neighbors``, an array of structs of ``idB`` and
            ``distCol``, nearest first, ties by id.

        Raises:
            TypeError: for a column of vectors or ids of another type, or ``nested`` without
                ``idCol``.
            ValueError: for fewer than 1 neighbours, a recall that is not above 0 and at most 1,
                columns that are not there. Nulls, NaN and infinity end the job, with the row or the
                column named.
        """
        search = Search(min(at_least_one(numNearestNeighbors), MOST_ROWS), to_recall(recall))
        if nested and idCol is None:
            raise TypeError("nested is for ids: pass idCol=, the name of their column")
        hasher = self._hasher(datasetA, datasetB)
        vectors = Vectors(hasher.features, hasher.functions.dim)
        if idCol is not None:
            left, right = self._with_ids(datasetA, datasetB, idCol)
            sides = Side(left, vectors), Side(right, vectors)
            return nearest_ids(*sides, search, Ids(distCol, idCol), nested)
        named = self._named(datasetA, datasetB)
        sides = Side(named[0], vectors), Side(named[1], vectors)
        joined = nearest_rows(*sides, search, Structs(distCol))
        return self._renamed(joined, (datasetA, datasetB), named)

    def _functions(self) -> Projections:
        return Projections(self._directions, self.getBucketLength())

    def _stored(self) -> tuple[str, Any, DataType]:
        rows = self._directions.reshape(-1, self._directions.shape[2])
        matrix = DenseMatrix(*rows.shape, rows.ravel(), isTransposed=True)
        return "randUnitVectors", matrix, MatrixUDT()

    @classmethod
    def _functions_of(cls, row: dict[str, Any], spark_version: str) -> NDArray[np.float64]:
        if any(row.get("offsets", [])):
            raise ValueError("it holds offsets; these functions have none")
        matrix = row["randUnitVectors"]
        if not isinstance(matrix, DenseMatrix):
            raise ValueError(f"it holds {matrix!r}; hash functions are a dense matrix")
        shape = matrix.numRows, matrix.numCols
        return dense_rows(matrix.values, shape, matrix.isTransposed, spark_version)


class BucketedRandomProjectionLSH(LSH, BucketLengthParam):
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
        >>> nearest = model.approxNearestNeighborsJoin(df2, df, 1, distCol="distance", idCol="id")
        >>> nearest.orderBy("distance").first()
        Row(idA=4, idB=3, distance=1.4142135623730951)
    """

    spark_class = "org.apache.spark.ml.feature.BucketedRandomProjectionLSH"

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

    def setBucketLength(self, value: float) -> Self:
        """Sets the width of a bucket, in the units of the vectors; there is no default."""
        return self._set(bucketLength=value)

    def _draw(self, dataset: DataFrame) -> BucketedRandomProjectionLSHModel:
        features = self.getInputCol()
        value_bytes(dataset, features)
        dim = dimension(dataset, features)
        if dim == 0:
            raise ValueError("cannot fit on an empty data frame: its first row tells the dimension")
        native = engine.Model.fit(
            np.zeros((1, dim)),
            family="euclidean",
            num_hash_functions=self.getNumHashFunctions(),
            num_hash_tables=self.getNumHashTables(),
            bucket_length=self.getBucketLength(),
            seed=self.getSeed(),
            num_threads=1,
        )
        shape = (self.getNumHashTables(), self.getNumHashFunctions(), -1)
        return BucketedRandomProjectionLSHModel(native.directions.reshape(shape))
