"""knn_join and radius_join against brute force."""

import numpy as np
import pytest
from lshjoin import knn_join, radius_join

METRICS = ["euclidean", "manhattan", "cosine"]


def distances(metric, a, b):
    """All distances between two arrays, in float64."""
    a, b = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    if metric == "euclidean":
        return np.sqrt(((a - b) ** 2).sum(-1))
    if metric == "manhattan":
        return np.abs(a - b).sum(-1)
    return 1 - (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def tolerance(dtype):
    return {"rtol": 1e-12, "atol": 1e-12} if dtype == np.float64 else {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(params=[np.float16, np.float32, np.float64])
def dtype(request):
    return request.param


@pytest.fixture
def sides(rng, dtype):
    return rng.standard_normal((37, 9)).astype(dtype), rng.standard_normal((53, 9)).astype(dtype)


@pytest.mark.parametrize("metric", METRICS)
def test_knn_join(sides, metric, dtype):
    queries, items = sides
    truth = distances(metric, queries, items)
    result = knn_join(queries, items, 5, metric=metric)
    assert result.distances.shape == result.indices.shape == (37, 5)
    assert result.indices.dtype == np.int64
    assert result.distances.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_array_equal(result.indices, np.argsort(truth, axis=1)[:, :5])
    np.testing.assert_allclose(result.distances, np.sort(truth, axis=1)[:, :5], **tolerance(dtype))


@pytest.mark.parametrize("metric", METRICS)
def test_knn_self_join(sides, metric, dtype):
    items = sides[1]
    truth = distances(metric, items, items)
    np.fill_diagonal(truth, np.inf)
    result = knn_join(items=items, k=5, metric=metric)
    np.testing.assert_array_equal(result.indices, np.argsort(truth, axis=1)[:, :5])
    np.testing.assert_allclose(result.distances, np.sort(truth, axis=1)[:, :5], **tolerance(dtype))


@pytest.mark.parametrize("self_join", [False, True])
def test_largest_inner_products(sides, self_join, dtype):
    queries, items = (sides[1], sides[1]) if self_join else sides
    truth = -(queries.astype(np.float64) @ items.astype(np.float64).T)
    if self_join:
        np.fill_diagonal(truth, np.inf)
    result = knn_join(None if self_join else queries, items, 5, metric="inner_product")
    np.testing.assert_array_equal(result.indices, np.argsort(truth, axis=1)[:, :5])
    np.testing.assert_allclose(result.distances, np.sort(truth, axis=1)[:, :5], **tolerance(dtype))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("self_join", [False, True])
def test_radius_join(sides, metric, dtype, self_join):
    queries, items = (None, sides[1]) if self_join else sides
    truth = distances(metric, items if self_join else queries, items)
    if self_join:
        np.fill_diagonal(truth, np.inf)
    # Half way between two distances, so that rounding cannot decide.
    middle = np.sort(truth, axis=None)[truth.size // 5 :][:2]
    radius = float(middle.mean())
    lims, found, indices = radius_join(queries, items, radius, metric=metric)
    assert (lims.dtype, indices.dtype) == (np.int64, np.int64)
    assert found.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert lims[0] == 0
    assert lims[-1] == len(found) == len(indices) == (truth < radius).sum()
    for query, row in enumerate(truth):
        mine = slice(lims[query], lims[query + 1])
        order = np.argsort(indices[mine])
        np.testing.assert_array_equal(indices[mine][order], np.flatnonzero(row < radius))
        np.testing.assert_allclose(found[mine][order], row[row < radius], **tolerance(dtype))


def test_names(rng):
    rows = rng.standard_normal((5, 2))
    assert knn_join(items=rows, k=1)._fields == ("distances", "indices")
    assert radius_join(items=rows, radius=1.0)._fields == ("lims", "distances", "indices")


def test_padding(rng):
    items = rng.standard_normal((3, 4))
    for k in (3, 4, 10):
        distances, indices = knn_join(items=items, k=k)
        assert distances.shape == indices.shape == (3, k)
        assert (indices[:, 2:] == -1).all()
        assert np.isinf(distances[:, 2:]).all()
        assert (np.sort(indices[:, :2]) == [[1, 2], [0, 2], [0, 1]]).all()
        assert np.isfinite(distances[:, :2]).all()
    assert knn_join(items, items, 5).indices[:, 3:].tolist() == [[-1, -1]] * 3


def test_zero_rows_are_at_cosine_distance_1(rng):
    items = rng.standard_normal((300, 64)).astype(np.float32)
    items[[7, 200]] = 0
    queries = np.concatenate([rng.standard_normal((50, 64)), np.zeros((1, 64))])
    queries = queries.astype(np.float32)
    with np.errstate(invalid="ignore"):
        expected = np.nan_to_num(distances("cosine", queries, items), nan=1.0)
    for k in (1, 5):
        found = knn_join(queries, items, k, metric="cosine", recall=1.0)
        np.testing.assert_allclose(found.distances, np.sort(expected)[:, :k], atol=1e-5)
        assert found.indices[50].tolist() == list(range(k))  # ties
    near = radius_join(queries, items, 1.0, metric="cosine")
    assert not np.isin(near.indices, [7, 200]).any()


def test_ties_by_row():
    items = np.array([[1.0], [-1.0], [1.0], [0.0], [-1.0]])
    assert knn_join([[0.0]], items, 5).indices.tolist() == [[3, 0, 1, 2, 4]]


def test_radius_is_strict_and_may_be_anything_up_to_infinity():
    items = np.array([[0.0], [1.0], [2.0]])
    assert radius_join([[0.0]], items, 1.0).indices.tolist() == [0]
    assert radius_join([[0.0]], items, 0.0).indices.tolist() == []
    assert sorted(radius_join([[0.0]], items, np.inf).indices.tolist()) == [0, 1, 2]


@pytest.mark.parametrize("wide", [np.float32, np.float64])
def test_two_types(rng, wide):
    rows = rng.integers(-5, 6, (20, 4))
    distances, indices = knn_join(rows.astype(np.float16), rows.astype(wide), 3)
    assert distances.dtype == wide
    np.testing.assert_array_equal(indices[:, 0], knn_join(rows, rows, 1).indices[:, 0])


@pytest.mark.parametrize(
    "layout",
    [np.asfortranarray, lambda x: np.repeat(x, 2, axis=0)[::2], lambda x: x[:, ::-1][:, ::-1]],
    ids=["fortran", "strided", "reversed"],
)
def test_layouts(rng, layout):
    items = rng.standard_normal((20, 4))
    expected = knn_join(items=items, k=3)
    items = layout(items)
    items.flags.writeable = False
    result = knn_join(items=items, k=3)
    np.testing.assert_array_equal(result.indices, expected.indices)
    np.testing.assert_array_equal(result.distances, expected.distances)
