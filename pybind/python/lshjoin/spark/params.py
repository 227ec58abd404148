"""The parameters of the estimator and the model, as Spark has them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ClassVar, TypeVar

from pyspark.ml.param import Param, Params
from pyspark.ml.param.shared import HasInputCol, HasOutputCol

from lshjoin.base.checks import short, to_float, to_int
from lshjoin.frames.lsh_params import BucketLengthParam as Documented
from lshjoin.frames.params import finite_positive, whole_positive

if TYPE_CHECKING:
    from typing_extensions import Self

    from lshjoin.arrays.neighbors import Metric

Number = TypeVar("Number", int, float)


def _checked(
    name: str, convert: Callable[[object], Number], valid: Callable[[Number], bool], value: object
) -> Number:
    converted = convert(value)
    if not valid(converted):
        raise ValueError(f"parameter {name} given invalid value {short(converted)}.")
    return converted


def param(
    name: str, doc: str, convert: Callable[[object], Number], valid: Callable[[Number], bool]
) -> Param[Number]:
    """A parameter in a class body, which refuses what Spark's own refuses."""
    # Partial, not a function in here: parameters are pickled with those that own them.
    return Param(Params._dummy(), name, doc, partial(_checked, name, convert, valid))


class LSHParams(HasInputCol, HasOutputCol):
    """The parameters that the estimator and the model have in common."""

    #: The class of Spark's that reads and writes the same, if there is one.
    spark_class: ClassVar[str | None] = None

    numHashTables = param("numHashTables", Documented.numHashTables.doc, to_int, whole_positive)
    numHashFunctions = param(
        "numHashFunctions", Documented.numHashFunctions.doc, to_int, whole_positive
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(numHashTables=1, numHashFunctions=1)

    def _set(self, **values: object) -> Self:
        """Sets by name; None leaves a parameter as it is."""
        given = {name: value for name, value in values.items() if value is not None}
        return super()._set(**given)

    def getNumHashTables(self) -> int:
        """Tables; two rows are candidates when they share a bucket in any (OR)."""
        return self.getOrDefault(self.numHashTables)

    def getNumHashFunctions(self) -> int:
        """Functions a table; two rows share its bucket when all agree (AND). 1 in Spark."""
        return self.getOrDefault(self.numHashFunctions)

    def setInputCol(self, value: str) -> Self:
        """Sets the column of vectors, or of sets."""
        return self._set(inputCol=value)

    def setOutputCol(self, value: str) -> Self:
        """Sets the column of hashes that ``transform`` adds."""
        return self._set(outputCol=value)


class VectorLSHParams(LSHParams):
    """The parameters of the families for vectors."""

    family: ClassVar[Metric]

    def _bucket_length(self) -> float:
        return 1.0  # a family without buckets of a length ignores it


class BucketLengthParam(VectorLSHParams):
    """For families that cut projections into buckets of a length."""

    bucketLength = param("bucketLength", Documented.bucketLength.doc, to_float, finite_positive)

    def getBucketLength(self) -> float:
        """The width of a bucket, in the units of the vectors. KeyError when it is not set."""
        if not self.isDefined(self.bucketLength):
            raise KeyError("Failed to find a default value for bucketLength")
        return self.getOrDefault(self.bucketLength)

    def _bucket_length(self) -> float:
        return self.getBucketLength()
