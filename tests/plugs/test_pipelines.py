"""scikit-learn's estimators after our transformer, which misses some neighbours, and after its own.

Of so few rows that none is missed: tests/python/test_sklearn.py.
"""

import numpy as np
import pytest
from lshjoin.sklearn import KNNTransformer, RadiusTransformer
from sklearn.cluster import DBSCAN, SpectralClustering
from sklearn.manifold import TSNE, Isomap, trustworthiness
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsRegressor,
    KNeighborsTransformer,
    LocalOutlierFactor,
)
from sklearn.pipeline import make_pipeline


def both(n_neighbors, make):
    """Ours and theirs."""
    ours = KNNTransformer(n_neighbors, recall=0.9)
    theirs = KNeighborsTransformer(n_neighbors=n_neighbors)
    return [make_pipeline(transformer, make()) for transformer in (ours, theirs)]


def test_some_are_missed(many):
    rows, _ = many
    ours, theirs = (pipeline[0].fit_transform(rows) for pipeline in both(20, DBSCAN))
    assert ours.nnz == theirs.nnz == 21 * len(rows)
    far = [graph.data.reshape(len(rows), 21)[:, -1] for graph in (ours, theirs)]
    assert (far[0] > far[1] * (1 + 1e-4)).mean() > 0.02


def test_dbscan(many, digits):
    rows, _ = many
    expected = DBSCAN(eps=5.6, min_samples=5).fit_predict(rows)
    assert len(set(expected)) > 3
    within = make_pipeline(
        RadiusTransformer(5.6), DBSCAN(eps=5.6, min_samples=5, metric="precomputed")
    )
    np.testing.assert_array_equal(within.fit_predict(rows), expected)
    # Of the nearest none may be missed: single pairs hold clusters together.
    rows, _ = digits
    ours, theirs = both(50, lambda: DBSCAN(eps=22.0, min_samples=5, metric="precomputed"))
    found = ours.fit_predict(rows)
    assert len(set(found)) > 3
    np.testing.assert_array_equal(found, theirs.fit_predict(rows))


@pytest.mark.parametrize("kind", [KNeighborsClassifier, KNeighborsRegressor])
def test_labels_of_new_rows(kind, many):
    rows, labels = many
    train, test = np.arange(6000) % 4 > 0, np.arange(6000) % 4 == 0
    scores = [
        pipeline.fit(rows[train], labels[train]).score(rows[test], labels[test])
        for pipeline in both(15, lambda: kind(n_neighbors=15, metric="precomputed"))
    ]
    assert scores[0] > scores[1] - 0.01


def test_tsne(many):
    rows, _ = many
    options = {"metric": "precomputed", "init": "random", "perplexity": 10, "max_iter": 300}
    trust = [
        trustworthiness(rows[::2], pipeline.fit_transform(rows)[::2], n_neighbors=15)
        for pipeline in both(31, lambda: TSNE(**options, random_state=0, n_jobs=1))
    ]
    assert trust[0] > trust[1] - 0.02


def test_isomap(digits):
    rows, _ = digits
    found, expected = (
        pipeline.fit_transform(rows)
        for pipeline in both(10, lambda: Isomap(n_neighbors=10, metric="precomputed"))
    )
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-4, atol=1e-2)


def test_spectral_clustering(digits):
    rows, labels = digits
    found, expected = (
        pipeline.fit_predict(rows)
        for pipeline in both(
            12,
            lambda: SpectralClustering(
                n_clusters=10,
                n_neighbors=12,
                affinity="precomputed_nearest_neighbors",
                random_state=0,
            ),
        )
    )
    assert adjusted_rand_score(found, expected) > 0.99
    assert adjusted_rand_score(found, labels) > 0.6


def test_outliers(many):
    ours, theirs = both(20, lambda: LocalOutlierFactor(n_neighbors=20, metric="precomputed"))
    rows = many[0].copy()
    rows[:40] *= 3
    found, expected = ours.fit_predict(rows), theirs.fit_predict(rows)
    assert (found[:40] == -1).all()
    assert (found == expected).mean() > 0.99
