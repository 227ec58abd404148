"""scanpy with our transformer, beside scanpy with those that it has."""

import numpy as np
import pytest
from lshjoin.sklearn import KNNTransformer
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import KNeighborsTransformer

sc = pytest.importorskip("scanpy", reason="scanpy is not installed")


@pytest.fixture
def cells():
    """700 cells that come with scanpy, in 50 principal components."""
    return sc.datasets.pbmc68k_reduced()


def neighbors(cells, use_rep="X_pca", **options):
    """The cells with their neighbours and, from these, their clusters."""
    cells = cells.copy()
    sc.pp.neighbors(cells, use_rep=use_rep, **options)
    sc.tl.leiden(cells, flavor="igraph", n_iterations=2, directed=False, random_state=0)
    return cells


def assert_same(ours, theirs, name):
    assert abs(ours.obsp[name] - theirs.obsp[name]).max() < 1e-4


@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "cosine"])
def test_connectivities_are_those_of_exact_neighbours(metric, cells):
    theirs = neighbors(cells, n_neighbors=15, metric=metric)
    ours = neighbors(cells, transformer=KNNTransformer(15, metric=metric))
    assert ours.uns["neighbors"]["params"]["n_neighbors"] == 15
    assert_same(ours, theirs, "connectivities")
    np.testing.assert_array_equal(ours.obs["leiden"], theirs.obs["leiden"])
    assert ours.obs["leiden"].nunique() > 4
    sc.tl.umap(ours, maxiter=20)
    assert np.isfinite(ours.obsm["X_umap"]).all()


def test_all_is_as_with_the_transformer_of_scikit_learn(cells):
    # By method="umap" it is not: there scikit-learn's cells are by rounding some 1e-7 away from
    # themselves, which is then taken for the distance of the nearest neighbour.
    theirs = neighbors(cells, method="gauss", transformer=KNeighborsTransformer(n_neighbors=15))
    ours = neighbors(cells, method="gauss", transformer=KNNTransformer(15))
    assert_same(ours, theirs, "distances")
    assert_same(ours, theirs, "connectivities")


def test_cells_that_are_the_same(cells):
    cells.obsm["X_pca"][:30] = cells.obsm["X_pca"][0]
    ours = neighbors(cells, transformer=KNNTransformer(15))
    np.testing.assert_array_equal(ours.obsp["distances"].diagonal(), 0)
    assert ours.obs["leiden"][:30].nunique() == 1


def test_clusters_of_neighbours_of_which_some_are_missed(many):
    rows, labels = many
    ours = neighbors(sc.AnnData(rows), use_rep="X", transformer=KNNTransformer(15, recall=0.9))
    theirs = neighbors(sc.AnnData(rows), use_rep="X", transformer="sklearn")
    assert abs(ours.obsp["distances"] - theirs.obsp["distances"]).max() > 0
    found = [adjusted_rand_score(labels, cells.obs["leiden"]) for cells in (ours, theirs)]
    assert found[0] > found[1] - 0.01


def test_counts_are_to_be_made_dense(cells):
    from scipy.sparse import csr_matrix

    with pytest.raises(TypeError, match="dense data is required"):
        sc.pp.neighbors(sc.AnnData(csr_matrix(cells.X)), use_rep="X", transformer=KNNTransformer())
