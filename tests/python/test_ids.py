"""Ids in the place of row numbers, pairs left out, and the nearest few within a radius."""

import copy
import pickle
import uuid

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from lshjoin import JoinPlan, dedup, knn_join, radius_join

METRICS = ["euclidean", "manhattan", "cosine"]
LETTERS = ["d", "a", "c", "b", "e"]
ROWS = np.array([[0.0], [1.0], [3.0], [7.0], [15.0]])
UUIDS = [uuid.UUID(int=number) for number in (5, 3, 8, 1, 2)]


def brute_force(queries, items, metric):
    a, b = queries.astype(np.float64)[:, None], items.astype(np.float64)[None]
    if metric == "manhattan":
        return np.abs(a - b).sum(-1)
    if metric == "cosine":
        norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        return 1 - (a * b).sum(-1) / norms
    if metric == "inner_product":
        return -(a * b).sum(-1)
    return np.sqrt(((a - b) ** 2).sum(-1))


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_same_matrix(found, expected):
    assert found.shape == expected.shape
    assert_same(
        (found.indptr, found.indices, found.data),
        (expected.indptr, expected.indices, expected.data),
    )


# Ids.


@pytest.mark.parametrize(
    ("ids", "dtype", "nothing"),
    [
        (np.array([70, 10, -5, 0, 9]), "int64", -1),
        (np.array([7, 1, 5, 0, 9], np.int16), "int16", -1),
        (np.array([7, 1, 5, 0, 2**64 - 2], np.uint64), "uint64", 2**64 - 1),
        (np.array([7, 1, 5, 0, 9], np.uint8), "uint8", 255),
        (np.array(LETTERS), "<U1", ""),
        (np.array(LETTERS, "S1"), "S1", b""),
        (np.array(LETTERS, object), "object", None),
        (np.array([3, 1, 2, 9, 5], "datetime64[D]"), "datetime64[D]", np.datetime64("NaT", "D")),
        (np.array([3.5, 1, 2, 9, 5]), "float64", np.nan),
        (LETTERS, "object", None),
        ([4, 3, 2, 1, 0], "int64", -1),
        (range(4, -1, -1), "int64", -1),
        (UUIDS, "object", None),
        (pa.array(LETTERS), "object", None),
        (pa.array(LETTERS).dictionary_encode(), "object", None),
        (pa.chunked_array([[7, 8], [1, 2, 3]], pa.int32()), "int32", -1),
        (pl.Series(LETTERS), "object", None),
        (pl.Series(LETTERS, dtype=pl.Categorical), "object", None),
        (pl.Series([7, 8, 1, 2, 3], dtype=pl.UInt16), "uint16", 2**16 - 1),
        (pd.Series([7, 8, 1, 2, 3], dtype="Int64"), "int64", -1),
        (pd.Series(LETTERS, index=[9, 8, 7, 6, 5]), "object", None),
    ],
)
def test_results_hold_ids(ids, dtype, nothing):
    values = np.asarray(ids)
    for queries, items in ((None, ROWS), (ROWS[:3] + 0.1, ROWS)):
        plain = knn_join(queries, items, 7)
        found = knn_join(queries, items, 7, ids=ids)
        there = plain.indices >= 0
        assert found.indices.dtype == dtype
        assert_same([found.indices[there]], [values[plain.indices[there]]])
        empty = found.indices[~there]
        assert len(empty) == (~there).sum() > 0
        np.testing.assert_array_equal(empty, np.full(len(empty), nothing, dtype))
        near, named = radius_join(queries, items, 5.0), radius_join(queries, items, 5.0, ids=ids)
        assert named.indices.dtype == dtype
        assert_same(named, (near.lims, near.distances, values[near.indices]))
        for of_rows, of_ids in ((plain, found), (near, named)):
            for include_self in (False, True)[: 1 + (queries is None)]:
                assert_same_matrix(
                    of_ids.to_csr(include_self=include_self),
                    of_rows.to_csr(include_self=include_self),
                )
            left, right, distance = of_rows.to_edges()
            called = values[left] if queries is None else left
            assert_same(of_ids.to_edges(), (called, values[right], distance))
        if queries is None:
            assert_same(found.to_umap(), plain.to_umap())


def test_queries_have_ids_of_their_own():
    for join in (knn_join, radius_join):
        plain = join(ROWS[:2], ROWS, 2)
        found = join(ROWS[:2], ROWS, 2, query_ids=["x", "y"], ids=UUIDS)
        left, right, distance = plain.to_edges()
        expected = np.array(["x", "y"], object)[left], np.array(UUIDS, object)[right], distance
        assert_same(found.to_edges(), expected)
        only_queries = join(ROWS[:2], ROWS, 2, query_ids=["x", "y"])
        assert_same(only_queries, plain)
        assert_same(only_queries.to_edges(), (expected[0], right, distance))


def test_copies_keep_ids():
    for found in (
        knn_join(ROWS, k=2, ids=LETTERS),
        radius_join(ROWS, radius=3.0, ids=np.array(LETTERS)),
    ):
        for again in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found), found._replace()):
            assert_same(again, found)
            assert_same(again.to_edges(), found.to_edges())
            assert_same_matrix(again.to_csr(), found.to_csr())


def test_no_rows():
    none = np.empty((0, 1))
    assert knn_join(none, k=2, ids=[]).indices.shape == (0, 2)
    assert knn_join(ROWS, none, 2, ids=[]).to_csr().nnz == 0
    assert radius_join(none, ROWS, 2.0, query_ids=[], ids=LETTERS).to_edges().left.size == 0
    assert knn_join(ROWS, none, 2, ids=np.array([], "U3")).indices.tolist() == [["", ""]] * 5


def test_dedup_by_ids():
    rows, old = np.array([[0.0], [0.1], [5.0], [5.2], [9.0]]), np.array([[9.1], [20.0]])
    for linkage in ("component", "representative"):
        found = dedup(rows, 0.5, ids=LETTERS, linkage=linkage)
        assert found.representatives.tolist() == ["d", "d", "c", "c", "e"]
        assert (found.keep.tolist(), found.matches) == ([True, False, True, False, True], None)
        found = dedup(
            rows, 0.5, keep="last", ids=LETTERS, against=old, against_ids=[70, 80], linkage=linkage
        )
        assert found.representatives.tolist() == ["a", "a", "b", "b", None]
        assert found.matches.tolist() == [-1, -1, -1, -1, 70]
        assert found.groups.tolist() == [0, 0, 1, 1, 2]
    with pytest.raises(TypeError, match="against_ids are given, but not the old rows"):
        dedup(rows, 0.5, against_ids=[1])
    with pytest.raises(ValueError, match="against_ids has 1 ids for 2 rows"):
        dedup(rows, 0.5, against=old, against_ids=[1])


# Pairs that are left out.


def known_pairs(rng, queries, items, count):
    return np.column_stack([rng.integers(queries, size=count), rng.integers(items, size=count)])


def assert_nearest(found, truth):
    """As brute force has it, in which pairs left out are at inf; ties in any order."""
    k = found.indices.shape[1]
    np.testing.assert_allclose(found.distances, np.sort(truth)[:, :k], rtol=1e-5, atol=1e-6)
    rows, places = np.nonzero(found.distances < np.inf)
    items = found.indices[rows, places]
    np.testing.assert_allclose(
        truth[rows, items], found.distances[rows, places], rtol=1e-5, atol=1e-6
    )
    assert len(set(zip(rows, items, strict=True))) == len(rows)
    assert (found.indices[~(found.distances < np.inf)] == -1).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pairs_left_out(rng, metric, dtype):
    rows = rng.standard_normal((150, 4)).astype(dtype)
    others = rng.standard_normal((90, 4)).astype(dtype)
    # The nearest of each, some at random, nearly all of one row, all of another.
    near = knn_join(rows, others, 3, metric=metric).to_edges()
    pairs = np.concatenate(
        [
            np.column_stack(near[:2]),
            known_pairs(rng, 150, 90, 200),
            [(7, item) for item in range(88)],
            [(9, item) for item in range(90)],
        ]
    )
    truth = brute_force(rows, others, metric)
    truth[tuple(pairs.T)] = np.inf
    found = knn_join(rows, others, 6, metric=metric, exclude=pairs)
    assert_nearest(found, truth)
    assert (found.indices[9] == -1).all()
    assert_nearest(knn_join(rows, others, 120, metric=metric, exclude=pairs), _wide(truth, 120))
    radius = float(np.median(truth))
    within = radius_join(rows, others, radius, metric=metric, exclude=pairs)
    assert set(zip(*within.to_edges()[:2], strict=True)) == set(
        zip(*np.nonzero(truth < radius), strict=True)
    )
    np.testing.assert_array_equal(np.diff(within.lims), (truth < radius).sum(axis=1))
    # Edges are what an earlier join found.
    truth = brute_force(rows, others, metric)
    truth[near.left, near.right] = np.inf
    assert_nearest(knn_join(rows, others, 3, metric=metric, exclude=near), truth)


def _wide(truth, k):
    return np.pad(truth, ((0, 0), (0, k - truth.shape[1])), constant_values=np.inf)


@pytest.mark.parametrize("metric", [*METRICS, "inner_product"])
def test_pairs_of_one_array_are_left_out_both_ways(rng, metric):
    rows = rng.standard_normal((120, 3)).astype(np.float32)
    rows[50:54] = rows[49]
    near = knn_join(rows, k=2, metric=metric).to_edges()
    pairs = np.concatenate(
        [
            np.column_stack(near[:2]),
            known_pairs(rng, 120, 120, 100),
            [(5, item) for item in range(120)],
        ]
    )
    truth = brute_force(rows, rows, metric)
    truth[tuple(pairs.T)] = truth[tuple(pairs.T[::-1])] = np.inf
    np.fill_diagonal(truth, np.inf)
    assert_nearest(knn_join(rows, k=5, metric=metric, exclude=pairs), truth)
    if metric == "inner_product":
        return
    radius = float(np.median(truth))
    within = radius_join(rows, radius=radius, metric=metric, exclude=pairs)
    assert set(zip(*within.to_edges()[:2], strict=True)) == set(
        zip(*np.nonzero(truth < radius), strict=True)
    )


def test_pairs_are_left_out_of_an_approximate_join(rng):
    rows = rng.standard_normal((1_000, 6)).astype(np.float32)
    plan = JoinPlan.ivf(lists=30, probes=10)
    first = knn_join(rows, k=3, plan=plan)
    found = knn_join(rows, k=6, plan=plan, exclude=first.to_edges())
    pairs = set(zip(*first.to_edges()[:2], strict=True))
    edges = set(zip(*found.to_edges()[:2], strict=True))
    assert not edges & (pairs | {(right, left) for left, right in pairs})
    truth = brute_force(rows, rows, "euclidean")
    truth[tuple(first.to_edges()[:2])] = truth[tuple(first.to_edges()[1::-1])] = np.inf
    np.fill_diagonal(truth, np.inf)
    limit = np.sort(truth)[:, 5:6]
    assert (found.distances <= limit + 1e-5).mean() > 0.9
    assert_same(knn_join(rows, k=6, plan=found.plan, exclude=first.to_edges()), found)
    assert_same(
        knn_join(rows, k=6, plan=plan, exclude=np.empty((0, 2))), knn_join(rows, k=6, plan=plan)
    )


def test_pairs_are_of_ids():
    pairs = [("a", "d"), ("e", "b")]
    found = knn_join(ROWS, k=1, ids=LETTERS, exclude=pairs)
    assert found.indices.ravel().tolist() == ["c", "c", "a", "c", "c"]
    arrays = [np.array(LETTERS), pa.array(LETTERS), pd.Series(LETTERS)]
    for ids in arrays:
        assert_same([knn_join(ROWS, k=1, ids=ids, exclude=pairs).indices], [found.indices])
    # Of two kinds.
    of_two = knn_join(ROWS, ROWS, 1, query_ids=LETTERS, ids=[5, 6, 7, 8, 9], exclude=[("d", 5)])
    assert of_two.indices.ravel().tolist() == [6, 6, 7, 8, 9]
    again = knn_join(
        ROWS, ROWS, 1, query_ids=LETTERS, ids=[5, 6, 7, 8, 9], exclude=of_two.to_edges()
    )
    assert again.indices.ravel().tolist() == [5, 5, 6, 7, 8]
    ids = np.array([7, 2**63, 2**64 - 1, 0, 1], np.uint64)
    by_large = radius_join(ROWS, radius=1.5, ids=ids, exclude=[(2**63, 7)])
    assert by_large.indices.size == 0


# The nearest few within a radius.


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_nearest_within_a_radius(rng, metric, dtype):
    rows = rng.standard_normal((200, 4)).astype(dtype)
    rows[20:25] = rows[3]
    others = rng.standard_normal((70, 4)).astype(dtype)
    for sides in ((rows, others), (None, rows)):
        radius = float(np.quantile(brute_force(rows, sides[1], metric), 0.1))
        every = radius_join(*sides, radius, metric=metric)
        left, right, distance = every.to_edges()
        place = np.arange(len(left)) - every.lims[left]
        for count in (1, 3, 10**6):
            found = radius_join(*sides, radius, metric=metric, max_neighbors=count)
            few = place < count
            assert_same(found.to_edges(), (left[few], right[few], distance[few]))
            # They come in this order.
            assert_same(found[1:], (distance[few], right[few]))
            np.testing.assert_array_equal(
                np.diff(found.lims), np.minimum(np.diff(every.lims), count)
            )
    endless = radius_join(rows, others, np.inf, metric=metric, max_neighbors=2)
    assert (np.diff(endless.lims) == 2).all()


def test_the_nearest_of_what_is_not_left_out():
    options = {"radius": 4.5, "ids": LETTERS, "exclude": [("d", "a")]}
    found = radius_join(ROWS, **options, max_neighbors=1)
    assert found.to_edges().left.tolist() == ["d", "a", "c", "b"]
    assert found.indices.tolist() == ["c", "c", "a", "c"]
    assert found.to_csr().toarray().nonzero()[1].tolist() == [2, 2, 1, 2]


# What can't be.


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (ValueError, "ids has 4 ids for 5 rows: pass one for each", {"ids": [1, 2, 3, 4]}),
        (ValueError, "ids: b is the id of rows 1 and 4; every", {"ids": ["a", "b", "c", "d", "b"]}),
        (ValueError, "ids: 7 is the id of rows 0 and 3", {"ids": np.array([7, 8, 9, 7, 1])}),
        (ValueError, "ids: row 2 has none", {"ids": ["a", "b", None, "c", "d"]}),
        (ValueError, "ids: row 1 has none", {"ids": pa.array([1, None, 3, 4, 5])}),
        (ValueError, "ids: row 1 has none", {"ids": pa.array(["a", None, "b", "c", "d"])}),
        (ValueError, "ids: row 4 has none", {"ids": pd.Series([1, 2, 3, 4, pd.NA], dtype="Int64")}),
        (ValueError, "ids: row 0 has none", {"ids": np.array(["NaT", 1, 2, 3, 4], "M8[s]")}),
        (ValueError, "masked", {"ids": np.ma.array([1, 2, 3, 4, 5], mask=[0, 0, 1, 0, 0])}),
        (ValueError, "ids must be 1-D", {"ids": np.arange(10).reshape(5, 2)}),
        (TypeError, "row 0 has one of int and row 3 one of str", {"ids": [1, 2, 3, "4", 5]}),
        (TypeError, "must be integers, strings", {"ids": np.array([1j, 2, 3, 4, 5])}),
        (
            TypeError,
            "must be integers, strings",
            {"ids": np.array([True, False, True, True, True])},
        ),
        (TypeError, "row 0 has a dict for an id", {"ids": [{}, {}, {}, {}, {}]}),
        (TypeError, "pass ids=, which is for both", {"query_ids": [1, 2, 3, 4, 5]}),
        (ValueError, "of shape", {"exclude": [1, 2, 3]}),
        (ValueError, "of shape", {"exclude": np.zeros((2, 3), int)}),
        (TypeError, "exclude must be pairs", {"exclude": 3}),
        (ValueError, "exclude: no row has the id 5", {"exclude": [(0, 5)]}),
        (ValueError, "exclude: no row has the id -1", {"exclude": np.array([(0, 1), (-1, 2)])}),
        (TypeError, "exclude has float64 where ids are int64", {"exclude": np.array([(0.5, 1)])}),
        (ValueError, "exclude: no row has the id 'x'", {"ids": LETTERS, "exclude": [("x", "a")]}),
        (ValueError, "exclude: no row has the id 0", {"ids": LETTERS, "exclude": [(0, 1)]}),
        (ValueError, "exclude: row 1 has none", {"exclude": [(0, 1), (2, None)]}),
        (
            ValueError,
            "exclude: no row has the id 'ddd'",
            {"ids": np.array(LETTERS), "exclude": [("ddd", "a")]},
        ),
    ],
)
def test_ids_and_pairs_that_cannot_be(error, message, options):
    for join in (knn_join, radius_join):
        with pytest.raises(error, match=message):
            join(None, ROWS, 2, **options)


def test_max_neighbors_that_cannot_be():
    with pytest.raises(ValueError, match="cannot be less than 1"):
        radius_join(ROWS, radius=1.0, max_neighbors=0)
    with pytest.raises(ValueError, match="metric must be .*not inner_product"):
        radius_join(ROWS, radius=1.0, max_neighbors=1, metric="inner_product")
    with pytest.raises(TypeError):
        radius_join(ROWS, radius=1.0, max_neighbors=1.5)
