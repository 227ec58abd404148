"""openTSNE of our neighbours, beside openTSNE of those that it finds itself."""

import numpy as np
import pytest
from lshjoin import knn_join

openTSNE = pytest.importorskip("openTSNE", reason="openTSNE is not installed")
PerplexityBasedNN = openTSNE.affinity.PerplexityBasedNN


def of_ours(found):
    index = openTSNE.nearest_neighbors.PrecomputedNeighbors(found.indices, found.distances)
    return PerplexityBasedNN(knn_index=index, perplexity=found.indices.shape[1] // 3, n_jobs=1)


@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "cosine"])
def test_affinities_are_those_of_exact_neighbours(metric, digits):
    rows, _ = digits
    theirs = PerplexityBasedNN(rows, perplexity=30, method="exact", metric=metric, n_jobs=1)
    ours = of_ours(knn_join(rows, k=90, metric=metric))
    assert abs(ours.P - theirs.P).max() < 1e-6 * theirs.P.max()


def test_layouts_are_as_good(many, missed):
    rows = many[0]
    start = openTSNE.initialization.pca(rows, random_state=0)
    theirs = PerplexityBasedNN(rows, perplexity=10, method="exact", n_jobs=1)

    def divergence(affinities):
        """Of the layout that these lead to from what all neighbours say."""
        layout = openTSNE.TSNEEmbedding(start, affinities, n_jobs=1, random_state=0)
        layout.optimize(100, exaggeration=12, momentum=0.5, inplace=True)
        layout.optimize(100, momentum=0.8, inplace=True)
        layout = openTSNE.TSNEEmbedding(np.asarray(layout), theirs, n_jobs=1)
        return layout.optimize(0).kl_divergence

    assert divergence(of_ours(missed)) < 1.02 * divergence(theirs)
