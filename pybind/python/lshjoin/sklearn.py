"""Transformers for scikit-learn's pipelines: rows in, the sparse graph of their neighbours out.

:class:`KNNTransformer` and :class:`RadiusTransformer` stand where ``KNeighborsTransformer`` and
``RadiusNeighborsTransformer`` would, before an estimator with ``metric="precomputed"``. Needs
``pip install 'lshjoin[sklearn]'``. Uses ``arrays`` and ``base``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lshjoin.arrays.knn import knn_join
from lshjoin.arrays.neighbors import Metric
from lshjoin.arrays.radius import radius_join
from lshjoin.base.checks import at_least_one, to_radius, to_recall

try:
    from scipy.sparse import csr_matrix, eye
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"lshjoin.sklearn needs scikit-learn 1.6 or later: pip install 'lshjoin[sklearn]' ({error})"
    ) from None

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["KNNTransformer", "RadiusTransformer"]

Mode = Literal["distance", "connectivity"]


class _GraphTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What is fitted is only kept: the join is done where rows are transformed."""

    mode: Mode
    metric: Metric

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Keeps the rows that will be neighbours.

        Args:
            X: (n, d) array-like of float16, float32 or float64; others are made float64.
            y: ignored.

        Raises:
            TypeError, ValueError: for parameters that can't be, NaN and infinity, and arrays that
                are not 2-D.
        """
        for name, allowed in (("mode", Mode), ("metric", Metric)):
            if getattr(self, name) not in get_args(allowed):
                choices = ", ".join(map(repr, get_args(allowed)))
                raise ValueError(f"{name} must be one of {choices}, not {getattr(self, name)!r}")
        self._check()
        self._fit_X = self._rows(X, reset=True)
        self.n_samples_fit_ = len(self._fit_X)
        return self

    def transform(self, X: ArrayLike) -> csr_matrix:
        """The graph from rows of X to the rows that were fitted.

        Args:
            X: (m, d) array-like. The rows that were fitted are joined with themselves: each is
                its own first neighbour, at distance zero, also where it has duplicates.

        Returns:
            scipy CSR of shape (m, n), in each row nearest first; zeros are stored.
        """
        check_is_fitted(self)
        rows = self._rows(X, reset=False)
        return self._graph(None if np.array_equal(rows, self._fit_X) else rows)

    def _check(self) -> None:
        """Refuses parameters that can't be."""
        raise NotImplementedError

    def _graph(self, queries: NDArray[Any] | None) -> csr_matrix:
        """The graph from these rows, or from the fitted ones if None."""
        raise NotImplementedError

    def _weighted(self, graph: csr_matrix) -> csr_matrix:
        if self.mode == "connectivity":
            graph.data.fill(1)
        return graph

    def _rows(self, X: ArrayLike, *, reset: bool) -> NDArray[Any]:
        rows: NDArray[Any] = validate_data(
            self, X, reset=reset, order="C", dtype=[np.float64, np.float32, np.float16]
        )
        return rows

    @property
    def _n_features_out(self) -> int:
        """For ``get_feature_names_out``: a column for each row that was fitted."""
        return self.n_samples_fit_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class KNNTransformer(_GraphTransformer):
    """The graph of the k nearest neighbours, as scikit-learn's ``KNeighborsTransformer`` gives it.

    As there, ``mode="distance"`` gives n_neighbors + 1 entries a row, since each row counts itself
    as a neighbour, which estimators disagree on; ``mode="connectivity"`` gives n_neighbors.

    Args:
        n_neighbors: neighbours a row, at least 1, and fewer than the rows that are fitted.
        mode: "distance" or "connectivity", which has ones in the place of distances.
        metric: "euclidean", "manhattan" or "cosine" (1 - cosine similarity).
        recall: the share of the true neighbours to find, above 0 and at most 1; as for
            :func:`lshjoin.knn_join`, where small joins find all.
        num_threads: threads to use; all cores if None. Results do not depend on it.

    Attributes:
        n_features_in_: values of a row that was fitted.
        feature_names_in_: their names, where rows came with any.
        n_samples_fit_: rows that were fitted.

    Examples:
        >>> from lshjoin.sklearn import KNNTransformer
        >>> KNNTransformer(n_neighbors=1).fit_transform([[0.0], [1.0], [3.0]]).toarray()
        array([[0., 1., 0.],
               [1., 0., 0.],
               [0., 2., 0.]])
        >>> import numpy as np
        >>> from sklearn.manifold import Isomap
        >>> from sklearn.pipeline import make_pipeline
        >>> isomap = make_pipeline(
        ...     KNNTransformer(n_neighbors=6), Isomap(n_neighbors=6, metric="precomputed")
        ... )
        >>> isomap.fit_transform(np.random.default_rng(0).random((50, 3))).shape
        (50, 2)
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        mode: Mode = "distance",
        metric: Metric = "euclidean",
        recall: float = 0.95,
        num_threads: int | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.mode = mode
        self.metric = metric
        self.recall = recall
        self.num_threads = num_threads

    def _check(self) -> None:
        at_least_one(self.n_neighbors)
        to_recall(self.recall)

    def _graph(self, queries: NDArray[Any] | None) -> csr_matrix:
        entries = self.n_neighbors + (self.mode == "distance")
        if entries > self.n_samples_fit_:
            raise ValueError(
                f"n_neighbors={self.n_neighbors} asks for {entries} entries a row, but "
                f"n_samples_fit_={self.n_samples_fit_}: fit more rows, or ask for fewer"
            )
        others = entries - (queries is None)
        if others == 0:
            return eye(self.n_samples_fit_, dtype=self._fit_X.dtype, format="csr")
        found = knn_join(
            queries,
            self._fit_X,
            others,
            metric=self.metric,
            recall=self.recall,
            num_threads=self.num_threads,
        )
        return self._weighted(found.to_csr(include_self=queries is None))


class RadiusTransformer(_GraphTransformer):
    """The graph of all neighbours up to a radius, as ``RadiusNeighborsTransformer`` gives it.

    As there, the radius itself is within, and each row that was fitted is its own first neighbour.
    All neighbours are found.

    Args:
        radius: in the units of the metric, at least 0.
        mode: "distance" or "connectivity", which has ones in the place of distances.
        metric: "euclidean", "manhattan" or "cosine" (1 - cosine similarity).
        num_threads: threads to use; all cores if None. Results do not depend on it.

    Attributes:
        n_features_in_: values of a row that was fitted.
        feature_names_in_: their names, where rows came with any.
        n_samples_fit_: rows that were fitted.

    Examples:
        >>> from lshjoin.sklearn import RadiusTransformer
        >>> from sklearn.cluster import DBSCAN
        >>> from sklearn.pipeline import make_pipeline
        >>> rows = [[0.0], [1.0], [2.0], [7.0], [8.0]]
        >>> clusters = make_pipeline(
        ...     RadiusTransformer(radius=1.0), DBSCAN(eps=1.0, min_samples=2, metric="precomputed")
        ... )
        >>> clusters.fit_predict(rows)
        array([0, 0, 0, 1, 1])
    """

    def __init__(
        self,
        radius: float = 1.0,
        *,
        mode: Mode = "distance",
        metric: Metric = "euclidean",
        num_threads: int | None = None,
    ) -> None:
        self.radius = radius
        self.mode = mode
        self.metric = metric
        self.num_threads = num_threads

    def _check(self) -> None:
        to_radius(self.radius)

    def _graph(self, queries: NDArray[Any] | None) -> csr_matrix:
        found = radius_join(
            queries,
            self._fit_X,
            math.nextafter(self.radius, math.inf),  # what is at the radius is within, here
            metric=self.metric,
            num_threads=self.num_threads,
        )
        return self._weighted(found.to_csr(include_self=queries is None))
