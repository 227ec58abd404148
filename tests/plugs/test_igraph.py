"""Graphs of igraph from our edges, and communities in them."""

import random

import numpy as np
import pytest
from lshjoin import knn_join, radius_join
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import kneighbors_graph, radius_neighbors_graph

igraph = pytest.importorskip("igraph", reason="igraph is not installed")


def graph_of(rows, left, right, weights):
    graph = igraph.Graph(n=len(rows), edges=np.column_stack([left, right]))
    graph.es["weight"] = 1 / (1 + weights)
    return graph.simplify(combine_edges="max")


def theirs_of(rows, matrix):
    matrix = matrix.tocoo()
    return graph_of(rows, matrix.row, matrix.col, matrix.data)


def assert_same_graph(ours, theirs):
    assert sorted(ours.get_edgelist()) == sorted(theirs.get_edgelist())
    weights = [
        [graph.es["weight"][edge] for edge in np.argsort([e.tuple for e in graph.es], axis=0)[:, 0]]
        for graph in (ours, theirs)
    ]
    np.testing.assert_allclose(np.sort(weights[0]), np.sort(weights[1]), rtol=1e-5)


def test_edges_of_the_nearest(digits):
    rows, labels = digits
    ours = graph_of(rows, *knn_join(rows, k=15).to_edges())
    theirs = theirs_of(rows, kneighbors_graph(rows, 15, mode="distance"))
    assert_same_graph(ours, theirs)
    found = []
    for graph in (ours, theirs):
        igraph.set_random_number_generator(random.Random(0))
        found.append(graph.community_leiden("modularity", weights="weight").membership)
    assert adjusted_rand_score(*found) > 0.95
    assert adjusted_rand_score(found[0], labels) > 0.8


def test_edges_within_a_radius(digits):
    rows, _ = digits
    ours = graph_of(rows, *radius_join(rows, radius=20.0).to_edges())
    theirs = theirs_of(rows, radius_neighbors_graph(rows, 20.0, mode="distance"))
    assert ours.ecount() > 1000
    assert_same_graph(ours, theirs)
    assert len(ours.connected_components()) == len(theirs.connected_components())


def test_leidenalg_of_neighbours_of_which_some_are_missed(many, missed):
    leidenalg = pytest.importorskip("leidenalg", reason="leidenalg is not installed")
    rows, labels = many
    exact = knn_join(rows, k=30, recall=1.0)
    found = []
    for neighbors in (missed, exact):
        graph = graph_of(rows, *neighbors.to_edges())
        part = leidenalg.find_partition(graph, leidenalg.ModularityVertexPartition, seed=0)
        found.append(adjusted_rand_score(labels, part.membership))
    assert found[0] > found[1] - 0.03
