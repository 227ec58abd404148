"""The parameters that estimators and models share."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lshjoin.base.checks import to_float, to_int
from lshjoin.frames.params import declare, finite_positive, to_string, whole_positive
from lshjoin.frames.storage import Storable

if TYPE_CHECKING:
    from typing_extensions import Self

    from lshjoin.arrays.neighbors import Metric


# Spark's own defaults: the hash codes of the names of its classes, of which one is for vectors and
# one for sets.
DEFAULT_SEED, SETS_DEFAULT_SEED = 772209414, 328749633


class LSHParams(Storable):
    """The parameters that estimators and models have in common."""

    inputCol = declare("inputCol", "input column name.", to_string)
    outputCol = declare("outputCol", "output column name.", to_string)
    numHashTables = declare(
        "numHashTables",
        "number of hash tables, where increasing number of hash tables lowers the false negative "
        "rate, and decreasing it improves the running performance.",
        to_int,
        whole_positive,
    )
    numHashFunctions = declare(
        "numHashFunctions",
        "number of hash functions a table, all of which must agree for two rows to share a "
        "bucket: more of them mean fewer candidates and more false negatives.",
        to_int,
        whole_positive,
    )

    def __init__(self, uid: str | None = None) -> None:
        super().__init__(uid)
        self._setDefault(numHashTables=1, numHashFunctions=1, outputCol=f"{self.uid}__output")

    def getInputCol(self) -> str:
        """The column of vectors, or of sets."""
        return self.getOrDefault(self.inputCol)

    def getOutputCol(self) -> str:
        """The column of hashes that ``transform`` adds."""
        return self.getOrDefault(self.outputCol)

    def getNumHashTables(self) -> int:
        """Tables; two rows are candidates when they share a bucket in any (OR)."""
        return self.getOrDefault(self.numHashTables)

    def getNumHashFunctions(self) -> int:
        """Functions a table; two rows share its bucket when all agree (AND)."""
        return self.getOrDefault(self.numHashFunctions)

    def setInputCol(self, value: str) -> Self:
        """Sets the column of vectors, or of sets."""
        return self._set(inputCol=value)

    def setOutputCol(self, value: str) -> Self:
        """Sets the column of hashes that ``transform`` adds."""
        return self._set(outputCol=value)

    def _is_sparks(self) -> bool:
        return self.spark_class is not None and self.getNumHashFunctions() == 1


class VectorLSHParams(LSHParams):
    """The parameters of the families for vectors."""

    family: ClassVar[Metric]

    def _bucket_length(self) -> float:
        return 1.0  # a family without buckets of a length ignores it


class BucketLengthParam(VectorLSHParams):
    """For families that cut projections into buckets of a length."""

    bucketLength = declare(
        "bucketLength",
        "the length of each hash bucket, a larger bucket lowers the false negative rate.",
        to_float,
        finite_positive,
    )

    def getBucketLength(self) -> float:
        """The width of a bucket, in the units of the vectors."""
        return self.getOrDefault(self.bucketLength)

    def _bucket_length(self) -> float:
        return self.getBucketLength()
