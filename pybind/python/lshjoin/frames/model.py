"""Models: hash functions, and the joins of data frames by them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, SupportsIndex, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lshjoin import engine
from lshjoin.arrays.knn import knn_join
from lshjoin.base.checks import at_least_one, to_float
from lshjoin.base.progress import Progress, reporter
from lshjoin.base.vectors import check_key, key_and_rows, key_matrix, same_dtype
from lshjoin.frames.adapters import Dataset, Frame, memory_for, open_frame, open_pair
from lshjoin.frames.lsh_params import BucketLengthParam, LSHParams, VectorLSHParams
from lshjoin.frames.params import ParamMap
from lshjoin.frames.storage import read_functions, write_functions

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

    from lshjoin._lshjoin import Floats, Matrix


class LSHModel(LSHParams):
    """Hash functions, fitted; made by an estimator's ``fit`` or by ``load``."""

    _fitted: Any

    def __init__(self, native: Any, uid: str) -> None:
        super().__init__(uid)
        self._fitted = native

    def __repr__(self) -> str:
        """As in Spark."""
        tables = self.getNumHashTables()
        return f"{type(self).__name__}: uid={self.uid}, numHashTables={tables}"

    @property
    def keyModes(self) -> list[str]:
        """How each table packs its hash values into a key of 128 bits.

        "packed" loses nothing; "rehash" is a universal hash, for ids that do not fit. Distances
        are exact in both: a collision only adds a candidate.
        """
        return cast("list[str]", self._native.key_modes)

    def transform(
        self,
        dataset: Dataset,
        params: ParamMap | None = None,
        *,
        num_threads: int | None = None,
        progress: Progress = None,
    ) -> Dataset:
        """Adds ``outputCol``: per table, a vector of ``numHashFunctions`` hash values.

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
        key: Any,
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
            key: one vector, a list or 1-D array; or one set.
            numNearestNeighbors: at least 1.
            distCol: name for the column of distances.
            num_threads: threads to use; all cores if None.
            progress: as for :func:`lshjoin.knn_join`.

        Returns:
            The dataset's columns, ``outputCol``, and ``distCol`` with exact distances, float64
            where vectors are, or integers of 32 bits and more, else float32.
        """
        k = at_least_one(numNearestNeighbors)
        frame = open_frame(dataset)
        query, rows = self._key_and_rows(key, self._features(frame))
        with reporter(progress, "approxNearestNeighbors") as on_progress:
            distances, indices = self._native.nearest_neighbors(
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
            side_a, side_b = self._alike(rows_a, self._features(frame_b))
        with reporter(progress, "approxSimilarityJoin") as on_progress:
            index_a, index_b, distances = self._native.similarity_join(
                side_a, side_b, max(limit, 0.0), num_threads=num_threads, on_progress=on_progress
            )
        return cast(
            Dataset,
            self._paired(frame_a, index_a, frame_b, index_b, distCol, distances, num_threads),
        )

    # What the family decides.

    @property
    def _native(self) -> Any:
        """The native model, as parameters are now."""
        return self._fitted

    def _features(self, frame: Frame) -> Any:
        """What the input column holds, as the native model takes it."""
        raise NotImplementedError

    def _alike(self, a: Any, b: Any) -> tuple[Any, Any]:
        """The features of two frames, as one join takes them."""
        raise NotImplementedError

    def _key_and_rows(self, key: Any, rows: Any) -> tuple[Any, Any]:
        """A key, and the features of a frame, as one search takes them."""
        raise NotImplementedError

    def _with_hashes(self, frame: Frame, num_threads: int | None, progress: Progress) -> Frame:
        if self.getOutputCol() in frame.columns:
            return frame
        rows = self._features(frame)
        with reporter(progress, "transform") as on_progress:
            hashes = self._native.hash(rows, num_threads=num_threads, on_progress=on_progress)
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
        distances: Floats,
        num_threads: int | None,
    ) -> Any:
        with memory_for(len(distances)):
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

    @classmethod
    def _blank(cls, uid: str) -> Self:
        model = cls.__new__(cls)
        LSHParams.__init__(model, uid)
        return model


class VectorLSHModel(VectorLSHParams, LSHModel):
    """A model for vectors."""

    _fitted: engine.Model

    def __init__(self, native: engine.Model, uid: str, bucket_length: float) -> None:
        super().__init__(native, uid)
        self._fitted_bucket_length = bucket_length

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
        with memory_for(int(found.sum())):
            sides = frame_a.take(np.nonzero(found)[0]), frame_b.take(indices[found])
            return cast(Dataset, sides[0].pair(sides[1], distCol, distances[found]).data)

    @property
    def _native(self) -> engine.Model:
        """The native model, for the bucket length as it is now: Spark looks at every use, too."""
        length = self._bucket_length()
        if length != self._fitted_bucket_length:
            self._fitted = engine.Model.from_directions(
                self._fitted.directions,
                self._fitted.offsets,
                family=self.family,
                num_hash_functions=self.getNumHashFunctions(),
                num_hash_tables=self.getNumHashTables(),
                bucket_length=length,
            )
            self._fitted_bucket_length = length
        return self._fitted

    def _features(self, frame: Frame) -> Matrix:
        return frame.features(self.getInputCol(), self._fitted.dim)

    def _alike(self, a: Matrix, b: Matrix) -> tuple[Matrix, Matrix]:
        return same_dtype(a, b)

    def _key_and_rows(self, key: ArrayLike, rows: Matrix) -> tuple[Matrix, Matrix]:
        query = key_matrix(key)
        check_key(query, self._fitted.dim)
        return key_and_rows(query, rows)

    def _is_sparks(self) -> bool:
        return super()._is_sparks() and not self._fitted.offsets.any()

    def _save_data(self, directory: Path) -> None:
        offsets = None if self._is_sparks() else self._fitted.offsets
        write_functions(directory, self._fitted.directions, offsets)

    def _load_data(self, directory: Path, spark_version: str) -> None:
        directions, offsets = read_functions(directory, spark_version)
        num_hash_functions = self.getNumHashFunctions()
        self._fitted_bucket_length = self._bucket_length()
        self._fitted = engine.Model.from_directions(
            directions,
            offsets,
            family=self.family,
            num_hash_functions=num_hash_functions,
            num_hash_tables=len(directions) // num_hash_functions,
            bucket_length=self._fitted_bucket_length,
        )


class BucketedLSHModel(BucketLengthParam, VectorLSHModel):
    """A model with a bucket length."""
