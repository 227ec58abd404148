"""Results as sparse matrices, edges and what UMAP takes, against scikit-learn and brute force."""

import copy
import pickle

import numpy as np
import pytest
from lshjoin import Index, Neighbors, RadiusNeighbors, knn_join, radius_join
from sklearn.neighbors import kneighbors_graph, radius_neighbors_graph


@pytest.fixture
def rows(rng):
    return rng.standard_normal((40, 5))


@pytest.fixture
def others(rng):
    return rng.standard_normal((30, 5))


def assert_same_graph(found, expected):
    """The same places stored, zeros among them, in the same order, with the same distances."""
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found.indptr, expected.indptr)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.data, expected.data, atol=1e-12)


def sorted_by_distance(graph):
    order = np.lexsort((graph.data, np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))))
    graph.data, graph.indices = graph.data[order], graph.indices[order]
    return graph


@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "cosine"])
@pytest.mark.parametrize("include_self", [False, True])
def test_csr_is_that_of_scikit_learn(rows, metric, include_self):
    theirs = {"mode": "distance", "metric": metric, "include_self": include_self}
    ours = knn_join(rows, k=4, metric=metric).to_csr(include_self=include_self)
    assert_same_graph(ours, kneighbors_graph(rows, 4 + include_self, **theirs))
    near = radius_join(rows, radius=1.3, metric=metric).to_csr(include_self=include_self)
    assert_same_graph(near, sorted_by_distance(radius_neighbors_graph(rows, 1.3, **theirs)))


def test_csr_of_two_sides(rows, others):
    found = knn_join(rows, others, 3)
    dense = found.to_csr().toarray()
    assert dense.shape == (40, 30)
    np.testing.assert_array_equal(np.take_along_axis(dense, found.indices, axis=1), found.distances)
    assert (dense > 0).sum() == 40 * 3
    near = radius_join(rows, others, 2.0).to_csr()
    truth = np.linalg.norm(rows[:, None] - others, axis=2)
    np.testing.assert_allclose(near.toarray(), np.where(truth < 2, truth, 0))


def test_distances_of_zero_are_stored():
    twins = [[1.0, 2.0]] * 3
    assert knn_join(twins, k=2).to_csr().nnz == 6
    assert knn_join(twins, k=2).to_csr(include_self=True).indices.tolist() == [
        *[0, 1, 2],
        *[1, 0, 2],
        *[2, 0, 1],
    ]
    assert radius_join(twins, radius=1.0).to_csr(include_self=True).nnz == 9


def test_places_without_a_neighbour_are_left_out(rows):
    found = knn_join(rows[:3], k=5)
    assert found.to_csr().nnz == 6
    assert found.to_csr(include_self=True).indptr.tolist() == [0, 3, 6, 9]
    assert [len(column) for column in found.to_edges()] == [6, 6, 6]
    indices, distances = found.to_umap()
    assert indices.shape == distances.shape == (3, 3)
    assert knn_join(rows, rows[:0], 2).to_csr().shape == (40, 0)
    for none in (knn_join(rows[:0], k=2), radius_join(rows[:0], radius=2.0)):
        assert none.to_csr(include_self=True).shape == (0, 0)
        assert len(none.to_edges().left) == 0
    alone = knn_join(rows[:1], k=2)
    assert alone.to_umap()[0].tolist() == [[0]]
    assert alone.to_csr().nnz == 0
    assert alone.to_csr(include_self=True).nnz == 1


def test_rows_without_any_neighbour_within_the_radius():
    near = radius_join([[0.0], [1.0], [9.0], [1.5]], radius=1.1)
    matrix = near.to_csr(include_self=True)
    assert matrix.indptr.tolist() == [0, 2, 5, 6, 8]
    assert matrix.indices.tolist() == [0, 1, 1, 3, 0, 2, 3, 1]


def test_edges(rows, others):
    for found in (knn_join(rows, others, 3), radius_join(rows, others, 2.0)):
        left, right, distance = found.to_edges()
        truth = np.linalg.norm(rows[left] - others[right], axis=1)
        np.testing.assert_allclose(distance, truth)
        assert left.dtype == right.dtype == np.int64
        assert sorted(zip(left, distance, strict=True)) == list(zip(left, distance, strict=True))


def test_umap_gets_each_row_first(rows):
    rows = rows.astype(np.float32)
    rows[7] = rows[3]
    found = knn_join(rows, k=6)
    indices, distances = found.to_umap()
    assert (indices.dtype, distances.dtype) == (np.int64, np.float32)
    np.testing.assert_array_equal(indices[:, 0], np.arange(40))
    np.testing.assert_array_equal(distances[:, 0], 0)
    np.testing.assert_array_equal(indices[:, 1:], found.indices)
    np.testing.assert_array_equal(distances[:, 1:], found.distances)


def test_umap_has_no_place_for_an_empty_one(rows):
    found = knn_join(rows, k=3)
    found.distances[5, 2], found.indices[5, 2] = np.inf, -1
    with pytest.raises(ValueError, match=r"row 5 has 2 neighbours, but others have 3"):
        found.to_umap()
    assert np.diff(found.to_csr().indptr).tolist() == [3] * 5 + [2] + [3] * 34


def test_a_matrix_is_a_copy(rows):
    found, near = knn_join(rows, k=3), radius_join(rows, radius=2.0)
    kept = found.distances.copy(), near.distances.copy()
    for result in (found, near):
        result.to_csr().data[:] = -1
        result.to_edges().distance[:] = -1
    np.testing.assert_array_equal(found.distances, kept[0])
    np.testing.assert_array_equal(near.distances, kept[1])


def test_rows_that_are_no_neighbours_of_themselves(rows, others):
    for found in (knn_join(rows, others, 2), radius_join(rows, others, 2.0), knn_join(rows, rows)):
        with pytest.raises(ValueError, match="one array alone"):
            found.to_csr(include_self=True)
    with pytest.raises(ValueError, match="one array alone"):
        knn_join(rows, others, 2).to_umap()
    products = knn_join(rows, k=2, metric="inner_product")
    assert (products.to_csr().data == products.distances.ravel()).all()
    for convert in (products.to_umap, lambda: products.to_csr(include_self=True)):
        with pytest.raises(ValueError, match="not at distance zero of itself by inner products"):
            convert()


def test_ids_of_an_index_are_edges_only(rows):
    index = Index.build(rows.astype(np.float32), ids=np.arange(40) - 1)
    for found in (index.knn(rows, 50), index.radius(rows, 100.0)):
        left, right, _ = found.to_edges()
        assert sorted(zip(left, right, strict=True)) == [
            (row, item - 1) for row in range(40) for item in range(40)
        ]
        with pytest.raises(ValueError, match="ids, which are no columns"):
            found.to_csr()


def test_copies_have_the_same_formats(rows):
    for found in (knn_join(rows, k=2), radius_join(rows, radius=1.0)):
        expected = found.to_csr(include_self=True)
        copies = (pickle.loads(pickle.dumps(found)), copy.deepcopy(found), found._replace())
        for again in copies:
            assert type(again) in (Neighbors, RadiusNeighbors)
            assert_same_graph(again.to_csr(include_self=True), expected)
