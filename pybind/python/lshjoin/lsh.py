"""What the estimators of all hash families share, and their models."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, SupportsIndex, TypeVar, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lshjoin import _lshjoin
from lshjoin.arrays import knn_join
from lshjoin.checks import at_least_one, to_float, to_int
from lshjoin.frames import Dataset, Frame, open_frame, open_pair
from lshjoin.params import (
    ParamMap,
    Params,
    declare,
    finite_positive,
    signed_64_bits,
    to_string,
    whole_positive,
)
from lshjoin.progress import Progress, reporter
from lshjoin.report import Estimate
from lshjoin.storage import Storable, read_functions, write_functions
from lshjoin.vectors import check_key, key_and_rows, key_matrix, same_dtype

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

    from lshjoin.arrays import Metric

# Spark's own default: the hash code of the class name of its BucketedRandomProjectionLSH.
DEFAULT_SEED = 772209414


class LSHParams(Params):
    """The parameters that estimators and models have in common."""

    family: ClassVar[Metric]

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
        """The column of vectors."""
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
        """Sets the column of vectors."""
        return self._set(inputCol=value)

    def setOutputCol(self, value: str) -> Self:
        """Sets the column of hashes that ``transform`` adds."""
        return self._set(outputCol=value)

    def _bucket_length(self) -> float:
        return 1.0  # a family without buckets of a length ignores it

    def _is_sparks(self) -> bool:
        return self.family == "euclidean" and self.getNumHashFunctions() == 1


class BucketLengthParam(LSHParams):
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


Model = TypeVar("Model", bound="LSHModel")


class LSH(LSHParams, Storable, Generic[Model]):
    """An estimator: draws the hash functions for a data frame's column of vectors."""

    model_class: ClassVar[type[LSHModel]]

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
        self._setDefault(seed=DEFAULT_SEED)
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
        """The seed, 772209414 unless set: the default of Spark's Scala side."""
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
        """Draws hash functions for the vectors in ``inputCol``.

        Args:
            dataset: a pandas or polars DataFrame, a pyarrow Table or another holder of Arrow
                columns. ``inputCol`` holds vectors of one dimension: fixed-size lists, lists or,
                in pandas, arrays of float16, float32, float64 or integers, which are widened to
                floats exactly.
            params: values to set over the estimator's for this call; a list of such maps gives a
                list of models.
            num_threads: threads to use; all cores if None.
            progress: as for :func:`lshjoin.knn_join`.

        Raises:
            KeyError: when a parameter without default is not set.
            TypeError: when the column does not hold vectors of numbers.
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
        rows = frame.features(self.getInputCol())
        if len(rows) == 0:
            raise ValueError("cannot fit on an empty frame: its rows tell the dimension")
        with reporter(progress, "fit") as on_progress:
            engine = _lshjoin.Model.fit(
                rows,
                family=self.family,
                num_hash_functions=self.getNumHashFunctions(),
                num_hash_tables=self.getNumHashTables(),
                bucket_length=self._bucket_length(),
                seed=self.getSeed(),
                num_threads=num_threads,
                on_progress=on_progress,
            )
        model = self.model_class(engine, self.uid, self._bucket_length())
        model._copy_values(self)
        return cast(Model, model)

    @classmethod
    def _blank(cls, uid: str) -> Self:
        estimator = cls.__new__(cls)
        LSHParams.__init__(estimator, uid)
        estimator._setDefault(seed=DEFAULT_SEED)
        return estimator


@dataclass(frozen=True)
class Suggestion:
    """What to expect of the parameters that an estimator's ``suggest`` chose."""

    recall: Estimate  #: of near rows, measured on sampled rows that were not used to choose
    candidates: float  #: rows that each row shares buckets with, counted once for each table


class BucketedLSH(BucketLengthParam, LSH[Model]):
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
            threshold: for :meth:`~LSHModel.approxSimilarityJoin` with this threshold.
            numNearestNeighbors: for :meth:`~LSHModel.approxNearestNeighbors` with so many
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
            text = _lshjoin.suggest(
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


class LSHModel(LSHParams, Storable):
    """Hash functions, fitted; made by an estimator's ``fit`` or by ``load``."""

    def __init__(self, engine: _lshjoin.Model, uid: str, engine_bucket_length: float) -> None:
        super().__init__(uid)
        self._fitted = engine
        self._fitted_bucket_length = engine_bucket_length

    def __repr__(self) -> str:
        """As in Spark."""
        tables = self.getNumHashTables()
        return f"{type(self).__name__}: uid={self.uid}, numHashTables={tables}"

    @property
    def keyModes(self) -> list[str]:
        """How each table packs its bucket ids into a key of 128 bits.

        "packed" loses nothing; "rehash" is a universal hash, for ids that do not fit. Distances
        are exact in both: a collision only adds a candidate.
        """
        return self._engine.key_modes

    def transform(
        self,
        dataset: Dataset,
        params: ParamMap | None = None,
        *,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> Dataset:
        """Adds ``outputCol``: per table, a vector of ``numHashFunctions`` bucket ids.

        The column is list<list<double>>; in pandas it is an Arrow-backed one.

        Args:
            dataset: a data frame, as for the estimator's ``fit``.
            params: values to set over the model's for this call.
            num_threads: threads to use; all cores if None.
            progress: as for :func:`lshjoin.knn_join`.

        Raises:
            ValueError: when ``outputCol`` exists already, or for vectors that ``fit`` would refuse
                or that are of another dimension.
        """
        if params is not None and not isinstance(params, dict):
            raise TypeError(f"Params must be a param map but got {type(params)}.")
        model = self.copy(params)
        frame = open_frame(dataset)
        frame.check_absent(model.getOutputCol())
        return cast(Dataset, model._with_hashes(frame, num_threads, progress).data)

    def approxNearestNeighbors(
        self,
        dataset: Dataset,
        key: ArrayLike,
        numNearestNeighbors: SupportsIndex,
        distCol: str = "distCol",
        *,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> Dataset:
        """The rows nearest to ``key``, nearest first, of those that share a bucket with it.

        As in Spark there is one probe and no fallback: with too few candidates fewer rows come
        back. More tables, longer buckets or fewer functions find more.

        Args:
            dataset: a data frame; a hash column that it already has is kept as it is.
            key: one vector: a list or 1-D array.
            numNearestNeighbors: at least 1.
            distCol: name for the column of distances.
            num_threads: threads to use; all cores if None.
            progress: as for :func:`lshjoin.knn_join`.

        Returns:
            The dataset's columns, ``outputCol`` and ``distCol``: exact distances, float32 for
            float16 and float32 vectors, else float64.
        """
        k = at_least_one(numNearestNeighbors)
        frame = open_frame(dataset)
        rows = self._features(frame)
        query = key_matrix(key)
        check_key(query, self._fitted.dim)
        query, rows = key_and_rows(query, rows)
        with reporter(progress, "approxNearestNeighbors") as on_progress:
            distances, indices = self._engine.nearest_neighbors(
                query,
                rows,
                min(k, max(len(rows), 1)),
                num_threads=num_threads,
                on_progress=on_progress,
            )
        found = indices[0] >= 0
        nearest = self._with_hashes(frame.take(indices[0][found]), num_threads, None)
        return cast(Dataset, nearest.with_distances(distCol, distances[0][found]).data)

    def approxSimilarityJoin(
        self,
        datasetA: Dataset,
        datasetB: Dataset,
        threshold: float,
        distCol: str = "distCol",
        *,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> Dataset:
        """The pairs of rows that share a bucket and are nearer than ``threshold`` (strictly).

        With one frame for both sides each pair comes both ways, and each row with itself. Rows that
        are equal in all columns make pairs of their own, unlike in Spark.

        Args:
            datasetA: a data frame; a hash column that it already has is kept as it is.
            datasetB: one of the same library, or the same frame.
            threshold: in the units of the distance; at 0 and below there are no pairs.
            distCol: name for the column of distances.
            num_threads: threads to use; all cores if None.
            progress: as for :func:`lshjoin.knn_join`.

        Returns:
            Struct columns ``datasetA`` and ``datasetB``, each with all columns of its side and
            ``outputCol`` (in pandas pairs of names: ``("datasetA", "id")``), and ``distCol``: by
            row of A, then row of B.
        """
        limit = to_float(threshold)
        if math.isnan(limit):
            raise ValueError("threshold is NaN; pass a distance")
        frame_a, frame_b = self._sides(datasetA, datasetB, distCol)
        rows_a = self._features(frame_a)
        if frame_b is frame_a:
            side_a, side_b = rows_a, None
        else:
            side_a, side_b = same_dtype(rows_a, self._features(frame_b))
        with reporter(progress, "approxSimilarityJoin") as on_progress:
            index_a, index_b, distances = self._engine.similarity_join(
                side_a, side_b, max(limit, 0.0), num_threads=num_threads, on_progress=on_progress
            )
        return cast(
            Dataset,
            self._paired(frame_a, index_a, frame_b, index_b, distCol, distances, num_threads),
        )

    def approxNearestNeighborsJoin(
        self,
        datasetA: Dataset,
        datasetB: Dataset,
        numNearestNeighbors: SupportsIndex,
        distCol: str = "distCol",
        *,
        recall: float = 0.95,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> Dataset:
        """For every row of ``datasetA`` the rows of ``datasetB`` nearest to it.

        Not in Spark, but in ``lshjoin.spark``, where it means the same. The model says which column
        holds the vectors and which distance is meant; its hash functions play no part, since
        :func:`lshjoin.knn_join` finds the neighbours: each row gets as many as it asks for. With
        one frame for both sides a row is a neighbour of itself, as in :meth:`approxSimilarityJoin`.

        Args:
            datasetA: a data frame, the rows that want neighbours.
            datasetB: one of the same library, the rows to choose from, or the same frame.
            numNearestNeighbors: neighbours a row of A, at least 1; fewer when B has fewer.
            distCol: name for the column of distances.
            recall: the share of the true neighbours to find, above 0, at most 1 (all of them).
            num_threads: threads to use; all cores if None.
            progress: as for :func:`lshjoin.knn_join`.

        Returns:
            Struct columns ``datasetA`` and ``datasetB`` with the columns of their sides (in pandas
            pairs of names: ``("datasetA", "id")``), and ``distCol``: by row of A, nearest first.
        """
        k = at_least_one(numNearestNeighbors)
        frame_a, frame_b = self._sides(datasetA, datasetB, distCol)
        queries = self._features(frame_a)
        items = queries if frame_b is frame_a else self._features(frame_b)
        distances, indices = knn_join(
            *same_dtype(queries, items),
            min(k, max(len(items), 1)),
            metric=self.family,
            recall=recall,
            num_threads=num_threads,
            progress=progress,
        )
        found = indices >= 0
        with _room_for(int(found.sum())):
            sides = frame_a.take(np.nonzero(found)[0]), frame_b.take(indices[found])
            return cast(Dataset, sides[0].pair(sides[1], distCol, distances[found]).data)

    @property
    def _engine(self) -> _lshjoin.Model:
        """The native model, for the bucket length as it is now: Spark looks at every use, too."""
        length = self._bucket_length()
        if length != self._fitted_bucket_length:
            self._fitted = _lshjoin.Model.from_directions(
                self._fitted.directions,
                self._fitted.offsets,
                family=self.family,
                num_hash_functions=self.getNumHashFunctions(),
                num_hash_tables=self.getNumHashTables(),
                bucket_length=length,
            )
            self._fitted_bucket_length = length
        return self._fitted

    def _features(self, frame: Frame) -> _lshjoin.Matrix:
        return frame.features(self.getInputCol(), self._fitted.dim)

    def _with_hashes(self, frame: Frame, num_threads: int | None, progress: Progress) -> Frame:
        if self.getOutputCol() in frame.columns:
            return frame
        rows = self._features(frame)
        with reporter(progress, "transform") as on_progress:
            hashes = self._engine.hash(rows, num_threads=num_threads, on_progress=on_progress)
        return frame.with_hashes(self.getOutputCol(), hashes)

    def _sides(self, a: object, b: object, dist_col: str) -> tuple[Frame, Frame]:
        if dist_col in ("datasetA", "datasetB"):
            raise ValueError(f"Column {dist_col} already exists.")
        return open_pair(a, b)

    def _paired(
        self,
        frame_a: Frame,
        index_a: NDArray[np.int64],
        frame_b: Frame,
        index_b: NDArray[np.int64],
        dist_col: str,
        distances: _lshjoin.Floats,
        num_threads: int | None,
    ) -> Any:
        with _room_for(len(distances)):
            hashed_a = self._with_hashes(frame_a, num_threads, None)
            hashed_b = (
                hashed_a if frame_b is frame_a else self._with_hashes(frame_b, num_threads, None)
            )
            return hashed_a.take(index_a).pair(hashed_b.take(index_b), dist_col, distances).data

    def _copy_values(self, estimator: LSHParams) -> None:
        """Takes over the parameters that the model has as well (not the seed)."""
        for source, target in (
            (estimator._paramMap, self._paramMap),
            (estimator._defaultParamMap, self._defaultParamMap),
        ):
            target.update(
                {self.getParam(p.name): v for p, v in source.items() if self.hasParam(p.name)}
            )

    def _is_sparks(self) -> bool:
        return super()._is_sparks() and not self._fitted.offsets.any()

    def _save_data(self, directory: Path) -> None:
        offsets = None if self._is_sparks() else self._fitted.offsets
        write_functions(directory, self._fitted.directions, offsets)

    @classmethod
    def _blank(cls, uid: str) -> Self:
        model = cls.__new__(cls)
        LSHParams.__init__(model, uid)
        return model

    def _load_data(self, directory: Path, spark_version: str) -> None:
        directions, offsets = read_functions(directory, spark_version)
        num_hash_functions = self.getNumHashFunctions()
        self._fitted_bucket_length = self._bucket_length()
        self._fitted = _lshjoin.Model.from_directions(
            directions,
            offsets,
            family=self.family,
            num_hash_functions=num_hash_functions,
            num_hash_tables=len(directions) // num_hash_functions,
            bucket_length=self._fitted_bucket_length,
        )


class BucketedLSHModel(BucketLengthParam, LSHModel):
    """A model with a bucket length."""


@contextmanager
def _room_for(pairs: int) -> Iterator[None]:
    """Adds to a MemoryError what there was no room for, and a way out."""
    try:
        yield
    except MemoryError as error:
        raise MemoryError(
            f"there is no memory for frames of {pairs} pairs ({error}): pass frames of the columns "
            "that are asked for, a key among them, or join them in parts"
        ) from error
