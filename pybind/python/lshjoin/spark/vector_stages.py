"""The estimator and the model that the families for vectors share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, SupportsIndex

import numpy as np
from numpy.typing import NDArray
from pyspark.ml.linalg import DenseMatrix, MatrixUDT
from pyspark.sql.types import ArrayType, DoubleType

from lshjoin import engine
from lshjoin.base.checks import at_least_one, to_recall
from lshjoin.frames.storage import dense_rows
from lshjoin.spark.groups import check_keys, in_groups
from lshjoin.spark.hashing import Projections
from lshjoin.spark.nearest import nearest_ids, nearest_rows
from lshjoin.spark.pairs import Ids, Structs
from lshjoin.spark.params import BucketLengthParam, VectorLSHParams
from lshjoin.spark.parts import Search
from lshjoin.spark.sides import Side, Vectors
from lshjoin.spark.stages import LSH, MOST_ROWS, LSHModel
from lshjoin.spark.vectors import dimension, value_bytes

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType
    from typing_extensions import Self


class VectorLSHModel(VectorLSHParams, LSHModel):
    """A model for vectors."""

    def __init__(self, directions: NDArray[np.float64], offsets: NDArray[np.float64]) -> None:
        """Of directions (tables, functions, dim), with offsets (tables, functions)."""
        super().__init__()
        self._directions = directions
        self._offsets = offsets

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
        within: str | None = None,
        apart: str | None = None,
    ) -> DataFrame:
        """For every row of ``datasetA`` the rows of ``datasetB`` nearest to it.

        Not in Spark. The model says which column holds the vectors and which distance is meant; its
        hash functions play no part, since :func:`lshjoin.knn_join` finds the neighbours: each row
        gets as many as it asks for. With one data frame for both sides a row is a neighbour of
        itself, as in :meth:`approxSimilarityJoin`.

        Where both sides are small they are joined on the driver when this is called; else the join
        itself is lazy. Where B is larger than ``spark.lshjoin.broadcastBytes`` the data are read
        several times: to
        measure them, to take the sample that the join is planned from, to find the neighbours and,
        without ``idCol``, to fetch their rows. Persist data frames that are expensive to compute;
        vectors, ids and keys must come out the same, bit for bit, each time, and without ``idCol``
        the first column of numbers or strings.

        Args:
            datasetA: the rows that want neighbours.
            datasetB: the rows to choose from, or the same data frame.
            numNearestNeighbors: neighbours a row of A, at least 1; fewer when B has fewer.
            distCol: name for the column of distances.
            recall: the share of the true neighbours to find, above 0, at most 1 (all of them).
            idCol: a column of both sides, of numbers, strings or the like without nulls: of the
                rows that are found its values alone come back, and no row is fetched. Of rows with
                one id each is a row of its own.
            nested: with ``idCol``, one row for each row of A that has neighbours, with all of them.
            within: a column of both sides, of keys of one type, integers or strings: only rows of
                equal keys are neighbours, as within a country or a postcode. A row whose key is
                null has no neighbours.
            apart: a column like ``within``, but keys of neighbours have to differ: none is of the
                same document, user or day. A row whose key is null may have any neighbours.

        Returns:
            Struct columns ``datasetA`` and ``datasetB`` with the columns of their sides, and
            ``distCol``, double; in no order. With ``idCol`` the columns ``idA``, ``idB`` and
            ``distCol``; nested ``idA`` and ``neighbors``, an array of structs of ``idB`` and
            ``distCol``, nearest first, ties by id.

        Raises:
            TypeError: for a column of vectors, ids or keys of another type, keys of two types, or
                ``nested`` without ``idCol``.
            ValueError: for fewer than 1 neighbours, a recall that is not above 0 and at most 1,
                columns that are not there. Nulls, NaN and infinity end the job, with the row or the
                column named.
        """
        k = min(at_least_one(numNearestNeighbors), MOST_ROWS)
        search = Search(k, to_recall(recall), self.family, within, apart)
        if nested and idCol is None:
            raise TypeError("nested is for ids: pass idCol=, the name of their column")
        for column in search.keys:
            check_keys(column, datasetA, datasetB)
        hasher = self._hasher(datasetA, datasetB)
        vectors = Vectors(hasher.features, hasher.functions.dim)

        def sides(left: DataFrame, right: DataFrame) -> tuple[Side, Side]:
            side = Side(in_groups(left, within), vectors)
            return side, side if right is left else Side(in_groups(right, within), vectors)

        if idCol is not None:
            named = self._with_ids(datasetA, datasetB, idCol, *search.keys)
            return nearest_ids(*sides(*named), search, Ids(distCol, idCol), nested)
        named = self._named(datasetA, datasetB, keys=search.keys)
        joined = nearest_rows(*sides(*named), search, Structs(distCol))
        return self._renamed(joined, (datasetA, datasetB), named)

    def _functions(self) -> Projections:
        return Projections(self.family, self._directions, self._offsets, self._bucket_length())

    def _stored(self) -> dict[str, tuple[Any, DataType]]:
        rows = self._directions.reshape(-1, self._directions.shape[2])
        matrix = DenseMatrix(*rows.shape, rows.ravel(), isTransposed=True)
        columns: dict[str, tuple[Any, DataType]] = {"randUnitVectors": (matrix, MatrixUDT())}
        if self._offsets.any():
            doubles = ArrayType(DoubleType(), containsNull=False)
            columns["offsets"] = self._offsets.ravel().tolist(), doubles
        return columns

    @classmethod
    def _functions_of(
        cls, row: dict[str, Any], spark_version: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        matrix = row["randUnitVectors"]
        if not isinstance(matrix, DenseMatrix):
            raise ValueError(f"it holds {matrix!r}; hash functions are a dense matrix")
        shape = matrix.numRows, matrix.numCols
        directions = dense_rows(matrix.values, shape, matrix.isTransposed, spark_version)
        offsets = np.array(row.get("offsets", np.zeros(len(directions))), np.float64)
        if offsets.shape != directions.shape[:1]:
            raise ValueError(f"it holds {len(directions)} functions and {offsets.size} offsets")
        if cls.spark_class is not None and offsets.any():
            raise ValueError("it holds offsets; these functions have none")
        return directions, offsets


class VectorLSH(VectorLSHParams, LSH):
    """An estimator for vectors."""

    model_class: ClassVar[type[VectorLSHModel]]

    def _draw(self, dataset: DataFrame) -> VectorLSHModel:
        features = self.getInputCol()
        value_bytes(dataset, features)
        dim = dimension(dataset, features)
        if dim == 0:
            raise ValueError("cannot fit on an empty data frame: its first row tells the dimension")
        native = engine.Model.fit(
            np.zeros((1, dim)),
            family=self.family,
            num_hash_functions=self.getNumHashFunctions(),
            num_hash_tables=self.getNumHashTables(),
            bucket_length=self._bucket_length(),
            seed=self.getSeed(),
            num_threads=1,
        )
        shape = (self.getNumHashTables(), self.getNumHashFunctions())
        return self.model_class(
            native.directions.reshape(*shape, dim), native.offsets.reshape(shape)
        )


class BucketedLSHModel(BucketLengthParam, VectorLSHModel):
    """A model with a bucket length."""


class BucketedLSH(BucketLengthParam, VectorLSH):
    """An estimator with a bucket length."""

    def __init__(
        self,
        *,
        inputCol: str | None = None,
        outputCol: str | None = None,
        seed: int | None = None,
        numHashTables: int | None = None,
        bucketLength: float | None = None,
        numHashFunctions: int | None = None,
    ) -> None:
        super().__init__(
            inputCol=inputCol,
            outputCol=outputCol,
            seed=seed,
            numHashTables=numHashTables,
            numHashFunctions=numHashFunctions,
        )
        self._set(bucketLength=bucketLength)

    def setParams(
        self,
        *,
        inputCol: str | None = None,
        outputCol: str | None = None,
        seed: int | None = None,
        numHashTables: int | None = None,
        bucketLength: float | None = None,
        numHashFunctions: int | None = None,
    ) -> Self:
        """Sets those that are given."""
        super().setParams(
            inputCol=inputCol,
            outputCol=outputCol,
            seed=seed,
            numHashTables=numHashTables,
            numHashFunctions=numHashFunctions,
        )
        return self._set(bucketLength=bucketLength)

    def setBucketLength(self, value: float) -> Self:
        """Sets the width of a bucket, in the units of the vectors; there is no default."""
        return self._set(bucketLength=value)
