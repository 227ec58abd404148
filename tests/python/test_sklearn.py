"""lshjoin.sklearn against scikit-learn's own transformers, and in its pipelines."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from lshjoin.sklearn import KNNTransformer, RadiusTransformer
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.cluster import DBSCAN, HDBSCAN, SpectralClustering
from sklearn.datasets import make_blobs
from sklearn.manifold import TSNE, Isomap
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsTransformer,
    RadiusNeighborsTransformer,
)
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

METRICS = ["euclidean", "manhattan", "cosine"]
MODES = ["distance", "connectivity"]


@pytest.fixture
def rows(rng):
    return rng.standard_normal((60, 6))


@pytest.fixture
def others(rng):
    return rng.standard_normal((25, 6))


@pytest.fixture(scope="module")
def blobs():
    return make_blobs(150, n_features=8, centers=4, cluster_std=0.6, random_state=4)


@parametrize_with_checks([KNNTransformer(num_threads=1), RadiusTransformer(num_threads=1)])
def test_estimator(estimator, check):
    check(estimator)


def assert_same_graph(found, expected):
    """The same places stored, zeros among them, in the same order, with the same values."""
    assert type(found) is csr_matrix
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found.indptr, expected.indptr)
    np.testing.assert_array_equal(found.indices, expected.indices)
    # scikit-learn's distance of a row to itself is that of rounding, ours is zero.
    np.testing.assert_allclose(found.data, expected.data, atol=1e-7)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_neighbors", [1, 7, 59])
def test_nearest(rows, others, metric, mode, n_neighbors):
    common = {"n_neighbors": n_neighbors, "mode": mode, "metric": metric}
    ours, theirs = KNNTransformer(**common), KNeighborsTransformer(**common)
    assert_same_graph(ours.fit_transform(rows), theirs.fit_transform(rows))
    assert_same_graph(ours.transform(rows), theirs.transform(rows))
    assert_same_graph(ours.transform(others), theirs.transform(others))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("radius", [0.0, 0.4, 1.5, 100.0])
def test_radius(rows, others, metric, mode, radius):
    common = {"radius": radius, "mode": mode, "metric": metric}
    ours = RadiusTransformer(**common).fit(rows)
    theirs = RadiusNeighborsTransformer(**common).fit(rows)
    # Connections of scikit-learn are in the order of columns, not of distances.
    ordered = csr_matrix.sorted_indices if mode == "connectivity" else csr_matrix
    assert_same_graph(ordered(ours.transform(others)), ordered(theirs.transform(others)))
    if radius > 0:  # where rounding keeps scikit-learn's rows from themselves
        assert_same_graph(ordered(ours.fit_transform(rows)), ordered(theirs.fit_transform(rows)))


def test_radius_of_zero(rows):
    rows[40:] = rows[:20]
    graph = RadiusTransformer(radius=0.0).fit_transform(rows)
    assert np.diff(graph.indptr).tolist() == [2] * 20 + [1] * 20 + [2] * 20
    assert not graph.data.any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_is_at_the_radius_is_within(dtype):
    rows = np.array([[0.0], [0.1], [0.2]], dtype)
    radius = float(np.abs(rows[0] - rows[1])[0])
    graph = RadiusTransformer(radius=radius).fit_transform(rows)
    assert graph[0].indices.tolist() == [0, 1]
    assert RadiusTransformer(radius=radius).fit(rows[:1]).transform(rows).nnz == 2


def test_each_row_is_its_own_first_neighbour_among_its_duplicates(rows):
    rows[10:30] = rows[0]
    for graph in (
        KNNTransformer(n_neighbors=4).fit_transform(rows),
        RadiusTransformer(radius=1.0).fit(rows).transform(rows.copy()),
    ):
        np.testing.assert_array_equal(graph.indices[graph.indptr[:-1]], np.arange(60))
        np.testing.assert_array_equal(graph.data[graph.indptr[:-1]], 0)
        np.testing.assert_array_equal(graph.diagonal(), 0)


def test_float32_stays(rows):
    for transformer in (KNNTransformer(), RadiusTransformer()):
        assert transformer.fit_transform(rows.astype(np.float32)).dtype == np.float32
        assert transformer.fit_transform(rows).dtype == np.float64


def test_names(rows):
    frame = pd.DataFrame(rows, columns=list("abcdef"))
    transformer = KNNTransformer(n_neighbors=2).fit(frame)
    assert transformer.feature_names_in_.tolist() == list("abcdef")
    assert transformer.get_feature_names_out()[[0, 59]].tolist() == [
        "knntransformer0",
        "knntransformer59",
    ]
    with pytest.raises(ValueError, match="feature names"):
        transformer.transform(frame[list("fedcba")])
    assert len(RadiusTransformer().fit(rows).get_feature_names_out()) == 60


@pytest.mark.parametrize("transformer", [KNNTransformer(3, recall=0.9), RadiusTransformer(1.2)])
def test_copies(transformer, rows, others):
    again = clone(transformer)
    assert again.get_params() == transformer.get_params()
    fitted = again.fit(rows)
    pickled = pickle.loads(pickle.dumps(fitted))
    assert_same_graph(pickled.transform(others), fitted.transform(others))
    assert_same_graph(pickled.transform(rows), fitted.transform(rows))


@pytest.mark.parametrize(
    ("transformer", "message"),
    [
        (KNNTransformer(0), "less than 1"),
        (KNNTransformer(recall=0), "recall must be above 0"),
        (KNNTransformer(mode="distances"), "mode must be one of 'distance', 'connectivity'"),
        (KNNTransformer(metric="inner_product"), "metric must be one of 'euclidean'"),
        (RadiusTransformer(-1.0), "radius must not be negative"),
        (RadiusTransformer(metric="minkowski"), "metric must be one of 'euclidean'"),
    ],
)
def test_parameters_that_cannot_be(transformer, message, rows):
    with pytest.raises(ValueError, match=message):
        transformer.fit(rows)


def test_more_neighbours_than_rows(rows):
    with pytest.raises(ValueError, match=r"asks for 61 entries a row, but n_samples_fit_=60"):
        KNNTransformer(60).fit_transform(rows)
    assert KNNTransformer(60, mode="connectivity").fit_transform(rows).nnz == 3600


# In pipelines: what our graph leads to is what scikit-learn's does.


def both(n_neighbors, make):
    ours = make_pipeline(KNNTransformer(n_neighbors, num_threads=1), make())
    return ours, make_pipeline(KNeighborsTransformer(n_neighbors=n_neighbors), make())


def test_dbscan(blobs):
    rows, truth = blobs
    ours, theirs = both(20, lambda: DBSCAN(eps=2.0, min_samples=5, metric="precomputed"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that a graph is not sorted, for one
        found = ours.fit_predict(rows)
    np.testing.assert_array_equal(found, theirs.fit_predict(rows))
    within = make_pipeline(
        RadiusTransformer(2.0), DBSCAN(eps=2.0, min_samples=5, metric="precomputed")
    ).fit_predict(rows)
    np.testing.assert_array_equal(within, DBSCAN(eps=2.0, min_samples=5).fit_predict(rows))
    assert adjusted_rand_score(truth, within) > 0.9


def test_hdbscan(rng):
    # HDBSCAN wants a graph that is connected, and symmetric.
    rows = np.concatenate([rng.normal(0, 1, (40, 3)), rng.normal(6, 1, (40, 3))])
    graph = RadiusTransformer(radius=30.0).fit_transform(rows)
    found = HDBSCAN(metric="precomputed", copy=True).fit_predict(graph)
    assert adjusted_rand_score(found, HDBSCAN(copy=True).fit_predict(rows)) == 1


def test_isomap(blobs):
    ours, theirs = both(10, lambda: Isomap(n_neighbors=10, metric="precomputed"))
    rows = blobs[0][blobs[1] == 0]
    found, expected = ours.fit_transform(rows), theirs.fit_transform(rows)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-6)
    np.testing.assert_allclose(
        np.abs(ours.transform(rows[:5] + 0.01)),
        np.abs(theirs.transform(rows[:5] + 0.01)),
        atol=1e-6,
    )


def test_tsne(blobs):
    # t-SNE asks for 3 * perplexity + 1 neighbours.
    ours, theirs = both(
        31,
        lambda: TSNE(
            metric="precomputed",
            init="random",
            perplexity=10,
            max_iter=250,
            random_state=0,
            n_jobs=1,
        ),
    )
    rows = blobs[0].astype(np.float32)
    found = ours.fit_transform(rows)
    assert found.shape == (150, 2)
    np.testing.assert_allclose(
        ours[-1].kl_divergence_, theirs.fit(rows)[-1].kl_divergence_, rtol=0.2
    )


def test_spectral_clustering(blobs):
    rows, truth = blobs
    ours, theirs = both(
        10,
        lambda: SpectralClustering(
            n_clusters=4, n_neighbors=10, affinity="precomputed_nearest_neighbors", random_state=0
        ),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # blobs apart are not one component
        found, expected = ours.fit_predict(rows), theirs.fit_predict(rows)
    assert adjusted_rand_score(found, expected) == 1
    assert adjusted_rand_score(found, truth) > 0.9


def test_classifier(blobs):
    rows, truth = blobs
    ours, theirs = both(5, lambda: KNeighborsClassifier(n_neighbors=5, metric="precomputed"))
    train, test = slice(None, 100), slice(100, None)
    ours.fit(rows[train], truth[train])
    theirs.fit(rows[train], truth[train])
    np.testing.assert_array_equal(ours.predict(rows[test]), theirs.predict(rows[test]))
    assert ours.score(rows[test], truth[test]) > 0.9


def test_without_scikit_learn():
    script = "import sys; sys.modules['sklearn'] = None; import lshjoin; import lshjoin.sklearn"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pip install 'lshjoin[sklearn]'" in result.stderr.splitlines()[-1]
