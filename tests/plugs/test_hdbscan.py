"""HDBSCAN of a graph of our neighbours, beside HDBSCAN of the rows: docs/recipes/hdbscan.md."""

import re
from pathlib import Path

import numpy as np
import pytest
import sklearn.cluster
from lshjoin import JoinPlan, knn_join
from scipy.sparse.csgraph import connected_components
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score

hdbscan = pytest.importorskip("hdbscan", reason="hdbscan is not installed")

RECIPE = Path(__file__).resolve().parents[2] / "docs/recipes/hdbscan.md"


def graph_of(rows, found):
    """Symmetric and connected, as the recipe makes it; and in how many parts it was."""
    parts, _ = connected_components(found.to_csr(), directed=False)
    code = re.search(r"^graph = knn_join.*?(?=^print)", RECIPE.read_text(), re.M | re.S)[0]
    names = {
        "connected_components": connected_components,
        "embeddings": rows,
        "knn_join": lambda *sides, k: found if k == 30 else knn_join(*sides, k=k),
        "np": np,
    }
    exec(code, names)
    return names["graph"], parts


def assert_same_clusters(rows, found, *, min_samples, parts=None):
    graph, number = graph_of(rows, found)
    assert parts is None or number == parts
    sizes = {"min_cluster_size": 20, "min_samples": min_samples}
    exact = hdbscan.HDBSCAN(**sizes, approx_min_span_tree=False).fit_predict(rows)
    assert len(set(exact)) > 3
    ours = hdbscan.HDBSCAN(**sizes, metric="precomputed").fit_predict(graph)
    assert adjusted_rand_score(exact, ours) >= 0.99
    ours = sklearn.cluster.HDBSCAN(**sizes, metric="precomputed", copy=True).fit_predict(graph)
    sizes["min_samples"] += 1  # where the row itself counts
    exact = sklearn.cluster.HDBSCAN(**sizes, copy=True).fit_predict(rows)
    assert adjusted_rand_score(exact, ours) >= 0.99


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("spread", "dim", "parts"), [(2.0, 10, 9), (0.6, 10, 12), (1.0, 2, 2)])
def test_labels_are_those_of_all_distances(spread, dim, parts, dtype):
    rows, _ = make_blobs(3000, dim, centers=12, cluster_std=spread, random_state=1)
    rows = rows.astype(dtype)
    assert_same_clusters(rows, knn_join(rows, k=30), min_samples=10, parts=parts)


def test_labels_of_digits(digits):
    assert_same_clusters(digits[0], knn_join(digits[0], k=30), min_samples=5)


def test_labels_of_neighbours_of_which_some_are_missed():
    rows, _ = make_blobs(5000, 10, centers=12, cluster_std=2.0, random_state=1)
    found = knn_join(rows, k=30, plan=JoinPlan.ivf(lists=100, probes=4))
    assert (found.indices != knn_join(rows, k=30, recall=1.0).indices).any()
    assert_same_clusters(rows, found, min_samples=10)
