"""knn_join and radius_join against brute force."""

import copy
import pickle
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from frames import arrow_vectors
from lshjoin import (
    Index,
    Neighbors,
    knn_join,
    plan_knn_join,
    radius_join,
    radius_join_batches,
)

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


def test_one_array_alone_is_joined_with_itself(rng):
    rows = rng.standard_normal((60, 4))
    itself, named = knn_join(rows, k=3), knn_join(items=rows, k=3)
    assert (itself.indices != np.arange(60)[:, None]).all()
    np.testing.assert_array_equal(itself.indices, named.indices)
    np.testing.assert_array_equal(knn_join(rows, rows, 4).indices[:, 1:], itself.indices)
    assert plan_knn_join(rows, k=3).predicted.share == plan_knn_join(items=rows).predicted.share
    near = radius_join(rows, radius=1.0)
    np.testing.assert_array_equal(near.indices, radius_join(items=rows, radius=1.0).indices)
    assert len(near.indices) + 60 == len(radius_join(rows, rows, 1.0).indices)
    assert len(radius_join_batches(rows, radius=1.0).read_all()) == len(near.indices)


def test_names(rng):
    rows = rng.standard_normal((5, 2))
    assert knn_join(items=rows, k=1)._fields == ("distances", "indices")
    assert radius_join(items=rows, radius=1.0)._fields == ("lims", "distances", "indices")


@pytest.mark.parametrize("of_index", [False, True])
def test_results_are_values(rng, of_index):
    rows = rng.standard_normal((50, 4))
    result = Index.build(rows).knn(rows, 70) if of_index else knn_join(rows, k=70)
    replaced = [result._replace(indices=result.indices), result._replace()]
    if sys.version_info >= (3, 13):
        replaced.append(copy.replace(result, distances=result.distances))
    pickled = [pickle.loads(pickle.dumps(result, version)) for version in range(6)]
    for again in (*replaced, *pickled, copy.copy(result), copy.deepcopy(result)):
        assert type(again) is Neighbors
        assert (again.plan, again.report) == (result.plan, result.report)
        distances, indices = again
        np.testing.assert_array_equal(distances, result.distances)
        np.testing.assert_array_equal(indices, result.indices)
    assert result._replace(indices=None) == (result.distances, None)
    assert result._replace(plan=None).plan is None
    with pytest.raises(TypeError):
        result._replace(neighbours=None)


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


def column_kinds(rows):
    """The same vectors as columns of every kind."""
    arrow, number = arrow_vectors(rows), pa.from_numpy_dtype(rows.dtype)
    lists = rows.tolist()
    cells = np.empty(len(rows), object)
    cells[:] = list(rows)
    views = pa.array(lists, pa.list_view(number))
    length = rows.shape[1]
    starts = np.arange(len(rows), dtype=np.int32)[::-1] * length
    backwards = pa.array(rows[::-1].ravel())
    tensor = pa.fixed_shape_tensor(number, [length])
    tensors = pa.ExtensionArray.from_storage(tensor, arrow)
    return {
        "pandas": pd.Series(list(rows), index=np.arange(len(rows))[::-1]),
        "pandas of lists": pd.Series([list(row) for row in rows], dtype=object),
        "pandas of Arrow": pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([arrow]))),
        "cells": cells,
        "polars lists": pl.Series(pa.array(lists, pa.large_list(number))),
        "polars arrays": pl.Series(arrow),
        "lists": pa.array(lists, pa.list_(number)),
        "fixed lists": arrow,
        "views": views,
        "large views": pa.array(lists, pa.large_list_view(number)),
        "views in another order": pa.ListViewArray.from_arrays(
            starts, np.full(len(rows), length, np.int32), backwards
        ),
        "tensors": tensors,
        "sliced": pa.array([[0.0], *lists], pa.list_(number))[1:],
        "sliced views": pa.array([[0.0], *lists], pa.list_view(number))[1:],
        "sliced tensors": pa.ExtensionArray.from_storage(
            tensor, arrow_vectors(np.concatenate([rows[:2], rows]))
        )[2:],
        "chunks": pa.chunked_array([arrow[:2], arrow[2:2], arrow[2:]]),
        "chunks of tensors": pa.chunked_array([tensors[:3], tensors[3:]]),
        "chunks of views": pa.chunked_array([views[:3], views[3:]]),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_columns_are_arrays(dtype, rng):
    rows = (10 * rng.standard_normal((7, 3))).astype(dtype)
    expected = knn_join(rows[:4], rows, 3)
    near = radius_join(items=rows, radius=5.0)
    whole, few = column_kinds(rows), column_kinds(rows[:4])
    for kind in whole:
        found = knn_join(few[kind], whole[kind], 3)
        assert found.indices.tolist() == expected.indices.tolist(), kind
        assert found.distances.tolist() == expected.distances.tolist(), kind
        assert found.distances.dtype == expected.distances.dtype, kind
        assert radius_join(items=whole[kind], radius=5.0)[0].tolist() == near[0].tolist(), kind
        batches = radius_join_batches(items=whole[kind], radius=5.0).read_all()
        assert len(batches) == len(near.indices), kind


def test_columns_without_rows(rng):
    rows = rng.standard_normal((5, 3)).astype(np.float32)
    lists = pa.list_(pa.float32())
    for none in (
        pd.Series([], dtype=object),
        pl.Series([], dtype=pl.List(pl.Float32)),
        pl.Series([], dtype=pl.Array(pl.Float32, 3)),
        pa.array([], lists),
        pa.chunked_array([], lists),
        pa.array([], pa.list_view(pa.float32())),
    ):
        assert knn_join(none, rows, 2).indices.shape == (0, 2)
        assert knn_join(rows, none, 2).indices.tolist() == [[-1, -1]] * 5
        assert knn_join(items=none, k=2).indices.shape == (0, 2)
        assert len(radius_join(rows, none, 1.0).indices) == 0
    # The type of a column tells that of the distances, whether there are rows or not.
    assert knn_join(pa.array([], lists), rows, 2).distances.dtype == np.float32
