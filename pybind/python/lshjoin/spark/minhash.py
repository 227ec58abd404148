"""The family for sets and Jaccard distance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql.types import ArrayType, IntegerType

from lshjoin import engine
from lshjoin.frames.lsh_params import SETS_DEFAULT_SEED
from lshjoin.frames.storage import pairs_of_coefficients
from lshjoin.spark.hashing import MinHashes
from lshjoin.spark.sets import check_same_kind
from lshjoin.spark.stages import LSH, LSHModel

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType


class MinHashLSHModel(LSHModel):
    """Fitted by :class:`MinHashLSH`; distances are Jaccard's."""

    spark_class = "org.apache.spark.ml.feature.MinHashLSHModel"

    def __init__(self, coefficients: NDArray[np.int32]) -> None:
        """Of coefficients (tables, functions, 2)."""
        super().__init__()
        self._coefficients = coefficients

    def _functions(self) -> MinHashes:
        return MinHashes(self._coefficients)

    def _stored(self) -> dict[str, tuple[Any, DataType]]:
        values = self._coefficients.ravel().tolist()
        return {"randCoefficients": (values, ArrayType(IntegerType(), containsNull=False))}

    @classmethod
    def _functions_of(cls, row: dict[str, Any], spark_version: str) -> tuple[NDArray[np.int32]]:
        return (pairs_of_coefficients(row["randCoefficients"]),)


class MinHashLSH(LSH):
    """LSH for sets and their Jaccard distance: Spark's class of this name, with the same answers.

    Functions and their parameters are those of :class:`lshjoin.MinHashLSH`. A table asks
    ``numHashFunctions`` functions to agree (AND; 1 in Spark), and one table that agrees makes two
    sets candidates (OR).

    Args:
        inputCol: the column of sets, none of them empty: VectorUDT, dense or sparse, or
            array<float> or array<double>, which are the sets of the positions that do not hold 0;
            arrays of whole numbers from 0 to 2038074742; array<string>, each of which stands for
            its xxh3 (64 bits, modulo 2038074743).
        outputCol: the column of hashes; ``uid + "__output"`` unless set.
        seed: signed 64-bit; 328749633 unless set, the default of Spark's Scala side. (PySpark's own
            default changes from one Python process to the next.)
        numHashTables: tables, 1 unless set.
        numHashFunctions: functions a table, 1 unless set.

    Examples:
        The example in Spark's documentation; ``spark`` is a session.

        >>> from lshjoin.spark import MinHashLSH
        >>> from pyspark.ml.linalg import Vectors
        >>> def sets(first, *of):
        ...     rows = [(i, Vectors.sparse(6, each, [1.0] * 3)) for i, each in enumerate(of, first)]
        ...     return spark.createDataFrame(rows, ["id", "features"])
        >>> df = sets(0, [0, 1, 2], [2, 3, 4], [0, 2, 4])
        >>> mh = MinHashLSH(inputCol="features", outputCol="hashes", seed=12345)
        >>> model = mh.fit(df)
        >>> model.transform(df).select("id", "hashes").orderBy("id").first()
        Row(id=0, hashes=[DenseVector([617966841.0])])
        >>> df2 = sets(3, [1, 3, 5], [2, 3, 5], [1, 2, 4])
        >>> key = Vectors.sparse(6, [1, 2], [1.0, 1.0])
        >>> model.approxNearestNeighbors(df2, key, 1).select("id", "distCol").collect()
        [Row(id=5, distCol=0.33333333333333337)]
        >>> pairs = model.approxSimilarityJoin(df, df2, 0.6, distCol="JaccardDistance")
        >>> found = pairs.select("datasetA.id", "datasetB.id", "JaccardDistance")
        >>> sorted(tuple(row) for row in found.collect())
        [(0, 5, 0.5), (1, 4, 0.5)]
    """

    spark_class = "org.apache.spark.ml.feature.MinHashLSH"
    default_seed = SETS_DEFAULT_SEED

    def _draw(self, dataset: DataFrame) -> MinHashLSHModel:
        check_same_kind((dataset,), self.getInputCol())
        native = engine.MinHashModel.draw(
            num_hash_functions=self.getNumHashFunctions(),
            num_hash_tables=self.getNumHashTables(),
            seed=self.getSeed(),
        )
        shape = (self.getNumHashTables(), self.getNumHashFunctions(), 2)
        return MinHashLSHModel(native.coefficients.reshape(shape))
