"""UMAP of our neighbours, beside UMAP of those that it finds itself."""

import numpy as np
import pytest
from lshjoin import knn_join
from sklearn.manifold import trustworthiness

umap = pytest.importorskip("umap", reason="umap-learn is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore:n_jobs value"),  # since a random_state asks for one thread
    pytest.mark.filterwarnings("ignore:.*transforming new data with transform"),
]


@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "cosine"])
def test_the_graph_is_the_one_of_exact_neighbours(metric, digits):
    rows, _ = digits  # so few that UMAP compares all pairs
    options = {"n_neighbors": 15, "metric": metric, "n_epochs": 0, "init": "random"}
    theirs = umap.UMAP(**options).fit(rows)
    for k in (14, 40):
        indices, distances = knn_join(rows, k=k, metric=metric).to_umap()
        given = indices[:, :15], distances[:, :15]  # which UMAP itself cuts of more rows only
        ours = umap.UMAP(**options, precomputed_knn=given).fit(rows)
        assert abs(ours.graph_ - theirs.graph_).max() < 1e-4


def test_layouts_are_as_good(many, missed):
    rows, _ = many
    part = slice(None, None, 2)  # which can be compared in full
    trust = []
    for given in ({}, {"precomputed_knn": missed.to_umap()}):
        layout = umap.UMAP(n_neighbors=15, random_state=0, **given).fit_transform(rows)
        trust.append(trustworthiness(rows[part], layout[part], n_neighbors=15))
    assert trust[1] > trust[0] - 0.005


def test_duplicates(digits):
    rows = digits[0].copy()
    rows[50:80] = rows[0]  # more than neighbours are asked for
    neighbours = knn_join(rows, k=14).to_umap()
    assert np.isfinite(umap.UMAP(precomputed_knn=neighbours, n_epochs=50).fit_transform(rows)).all()
