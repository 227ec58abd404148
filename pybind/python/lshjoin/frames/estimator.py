"""Estimators: they draw the hash functions, or suggest how many and how wide."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, SupportsIndex, TypeVar, cast, overload

from lshjoin import engine
from lshjoin.base.checks import at_least_one, to_float, to_int
from lshjoin.base.progress import OnProgress, Progress, reporter
from lshjoin.base.report import Estimate
from lshjoin.frames.adapters import Frame, open_frame
from lshjoin.frames.lsh_params import (
    DEFAULT_SEED,
    BucketLengthParam,
    LSHParams,
    VectorLSHParams,
)
from lshjoin.frames.model import LSHModel, VectorLSHModel
from lshjoin.frames.params import ParamMap, declare, signed_64_bits

if TYPE_CHECKING:
    from typing_extensions import Self


Model = TypeVar("Model", bound="LSHModel")


class LSH(LSHParams, Generic[Model]):
    """An estimator: draws the hash functions for a data frame's column."""

    default_seed: ClassVar[int] = DEFAULT_SEED

    seed = declare("seed", "random seed.", to_int, signed_64_bits)

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

    def setNumHashTables(self, value: int) -> Self:
        """Sets the number of tables (OR)."""
        return self._set(numHashTables=value)

    def setNumHashFunctions(self, value: int) -> Self:
        """Sets the number of functions a table (AND)."""
        return self._set(numHashFunctions=value)

    def getSeed(self) -> int:
        """The seed; unless set, the default of Spark's Scala side."""
        return self.getOrDefault(self.seed)

    def setSeed(self, value: int) -> Self:
        """Sets the seed, a signed 64-bit integer."""
        return self._set(seed=value)

    @overload
    def fit(
        self,
        dataset: object,
        params: ParamMap | None = None,
        *,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> Model: ...
    @overload
    def fit(
        self,
        dataset: object,
        params: Sequence[ParamMap],
        *,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> list[Model]: ...
    def fit(
        self,
        dataset: object,
        params: ParamMap | Sequence[ParamMap] | None = None,
        *,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> Model | list[Model]:
        """Draws hash functions for what ``inputCol`` holds.

        Args:
            dataset: a pandas or polars DataFrame, a pyarrow Table or another holder of Arrow
                columns. For vectors ``inputCol`` holds fixed-size lists, lists or, in pandas,
                arrays, all of one length, of float16, float32, float64 or integers, which are
                widened to floats exactly; for sets see :class:`lshjoin.MinHashLSH`.
            params: values to set over the estimator's for this call; a list of such maps gives a
                list of models.
            num_threads: threads to use; all cores if None.
            progress: as for :func:`lshjoin.knn_join`.

        Raises:
            KeyError: when a parameter without default is not set.
            TypeError: when the column does not hold vectors of numbers, or sets.
            NotFiniteError: for NaN and infinity, with the row and the dimension; a ValueError.
            ValueError: for an empty frame, a missing or ragged column, nulls, or when
                ``outputCol`` exists already.
        """
        if isinstance(params, (list, tuple)):
            fits = self.fitMultiple(dataset, params, num_threads=num_threads, progress=progress)
            return [model for _, model in sorted(fits, key=operator.itemgetter(0))]
        if params is not None and not isinstance(params, dict):
            raise TypeError(
                "Params must be either a param map or a list/tuple of param maps, "
                f"but got {type(params)}."
            )
        return self.copy(params)._fit(open_frame(dataset), num_threads, progress)

    def fitMultiple(
        self,
        dataset: object,
        paramMaps: Sequence[ParamMap],
        *,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> Iterator[tuple[int, Model]]:
        """Pairs of index and model, one for each map; models are fitted as they are asked for."""
        estimator = self.copy()

        def fit_one(index: int) -> tuple[int, Model]:
            model = estimator.fit(
                dataset, paramMaps[index], num_threads=num_threads, progress=progress
            )
            return index, model

        # Unlike a generator, `map` may be advanced from several threads, as Spark allows.
        return map(fit_one, range(len(paramMaps)))

    def _fit(self, frame: Frame, num_threads: int | None, progress: Progress) -> Model:
        frame.check_absent(self.getOutputCol())
        with reporter(progress, "fit") as on_progress:
            model = self._draw(frame, num_threads, on_progress)
        model._copy_values(self)
        return model

    def _draw(self, frame: Frame, num_threads: int | None, on_progress: OnProgress) -> Model:
        """A model of functions that are drawn for a frame, without parameters."""
        raise NotImplementedError

    @classmethod
    def _blank(cls, uid: str) -> Self:
        estimator = cls.__new__(cls)
        LSHParams.__init__(estimator, uid)
        estimator._setDefault(seed=cls.default_seed)
        return estimator


class VectorLSH(VectorLSHParams, LSH[Model]):
    """An estimator for vectors."""

    model_class: ClassVar[type[VectorLSHModel]]

    def _draw(self, frame: Frame, num_threads: int | None, on_progress: OnProgress) -> Model:
        rows = frame.features(self.getInputCol())
        if len(rows) == 0:
            raise ValueError("cannot fit on an empty frame: its rows tell the dimension")
        native = engine.Model.fit(
            rows,
            family=self.family,
            num_hash_functions=self.getNumHashFunctions(),
            num_hash_tables=self.getNumHashTables(),
            bucket_length=self._bucket_length(),
            seed=self.getSeed(),
            num_threads=num_threads,
            on_progress=on_progress,
        )
        return cast(Model, self.model_class(native, self.uid, self._bucket_length()))


@dataclass(frozen=True)
class Suggestion:
    """What to expect of the parameters that an estimator's ``suggest`` chose."""

    recall: Estimate  #: of near rows, measured on sampled rows that were not used to choose
    candidates: float  #: rows that each row shares buckets with, counted once for each table


class BucketedLSH(BucketLengthParam, VectorLSH[Model]):
    """An estimator with a bucket length."""

    suggestion: Suggestion | None = None  #: of the estimators that :meth:`suggest` returns

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
        numHashFunctions: int | None = None,
        bucketLength: float | None = None,
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

    @classmethod
    def suggest(
        cls,
        dataset: object,
        *,
        inputCol: str = "features",
        threshold: float | None = None,
        numNearestNeighbors: SupportsIndex | None = None,
        recall: float = 0.95,
        seed: int = DEFAULT_SEED,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> Self:
        """An estimator whose parameters find near rows of this data at the least cost.

        How near and random rows of a sample spread along the family's directions tells, for each
        bucket length and number of functions a table, how many tables the recall takes and how many
        rows they compare (Slaney, Lifshits and He, "Optimal parameters for locality-sensitive
        hashing", 2012; Dong et al., "Modeling LSH for performance tuning", 2008). The tables of the
        quickest combination are then tried on sampled rows, and their number corrected by these.

        Args:
            dataset: a data frame, as for :meth:`fit`, of at least two rows: what is joined with
                itself, or like both sides of the join.
            inputCol: the column of vectors.
            threshold: for the model's ``approxSimilarityJoin`` with this threshold.
            numNearestNeighbors: for the model's ``approxNearestNeighbors`` with so many
                neighbours. Exactly one of the two is given.
            recall: the share of the near rows to find, above 0 and below 1.
            seed: that of the estimator.
            num_threads: threads to use; all cores if None.
            progress: as for :func:`lshjoin.knn_join`.

        Returns:
            An estimator with ``inputCol``, ``seed``, ``bucketLength``, ``numHashTables`` and
            ``numHashFunctions`` set; its ``suggestion`` holds the predicted recall and candidates.

        Raises:
            TypeError: for both or neither of ``threshold`` and ``numNearestNeighbors``.
            ValueError: for a recall out of range, a threshold so small that no sampled row has a
                neighbour, rows that are all duplicates, or vectors that ``fit`` would refuse.

        Examples:
            >>> import numpy as np, pandas as pd
            >>> from lshjoin import BucketedRandomProjectionLSH
            >>> rng = np.random.default_rng(0)
            >>> rows = rng.standard_normal((50, 1, 8)) * 5 + rng.standard_normal((50, 20, 8))
            >>> df = pd.DataFrame({"features": list(rows.reshape(1000, 8))})
            >>> brp = BucketedRandomProjectionLSH.suggest(df, numNearestNeighbors=5, recall=0.9)
            >>> brp.suggestion.recall.value > 0.85, brp.suggestion.candidates < 1000
            (True, True)
            >>> model = brp.fit(df)
        """
        if (threshold is None) == (numNearestNeighbors is None):
            raise TypeError("pass either threshold or numNearestNeighbors")
        estimator = cls(inputCol=inputCol, seed=seed)
        rows = open_frame(dataset).features(inputCol)
        near = (
            None
            if numNearestNeighbors is None
            else min(at_least_one(numNearestNeighbors), max(len(rows), 1))
        )
        with reporter(progress, "suggest") as on_progress:
            text = engine.suggest(
                rows,
                family=cls.family,
                num_neighbors=near,
                threshold=0.0 if threshold is None else to_float(threshold),
                recall=to_float(recall),
                seed=estimator.getSeed(),
                num_threads=num_threads,
                on_progress=on_progress,
            )
        found = json.loads(text)
        estimator._set(
            numHashTables=found["tables"],
            bucketLength=found["bucket_length"],
            numHashFunctions=found["functions"],
        )
        estimator.suggestion = Suggestion(Estimate(**found["recall"]), found["candidates"])
        return estimator

    def setBucketLength(self, value: float) -> Self:
        """Sets the width of a bucket, in the units of the vectors; there is no default."""
        return self._set(bucketLength=value)
