"""Joins within groups of rows, and of rows kept apart: against brute force in float64."""

from __future__ import annotations

import itertools
import math
from typing import Any

import lshjoin
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lshjoin import JoinPlan, dedup, knn_join, plan_knn_join, radius_join, radius_join_batches

METRICS = ["euclidean", "manhattan", "cosine", "inner_product"]


def distances(a, b, metric):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if metric == "manhattan":
        return np.abs(a[:, None] - b[None]).sum(-1)
    if metric == "inner_product":
        return -(a @ b.T)
    if metric == "cosine":
        lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
        return np.where(lengths > 0, 1 - a @ b.T / np.where(lengths > 0, lengths, 1), 1.0)
    return np.linalg.norm(a[:, None] - b[None], axis=-1)


def allowed(n, m, self_join, within, apart):
    """Which pairs may be neighbours; keys are objects, None for none."""
    pairs = np.ones((n, m), bool)
    if self_join:
        np.fill_diagonal(pairs, False)
    for keys, must_be_equal in ((within, True), (apart, False)):
        if keys is not None:
            left, right = (np.array(side, object) for side in keys)
            equal = (left[:, None] == right[None]) & np.not_equal(left, None)[:, None]
            pairs &= equal if must_be_equal else ~equal
    return pairs


def nearest(of_pairs, pairs, k):
    """The k smallest distances of each row among the pairs, padded with infinity."""
    far = np.where(pairs, of_pairs, np.inf)
    far = np.pad(far, ((0, 0), (0, max(k - far.shape[1], 0))), constant_values=np.inf)
    return np.sort(far, axis=1)[:, :k]


def check_knn(found, of_pairs, pairs, k):
    """The distances are right, and of pairs that may be; what is padded is so on both sides."""
    expected = nearest(of_pairs, pairs, k)
    np.testing.assert_allclose(found.distances, expected, rtol=2e-5, atol=1e-6)
    there = found.indices >= 0
    np.testing.assert_array_equal(there, np.isfinite(expected))
    rows = np.nonzero(there)[0]
    assert pairs[rows, found.indices[there]].all()
    np.testing.assert_allclose(
        of_pairs[rows, found.indices[there]], found.distances[there], rtol=2e-5, atol=1e-6
    )
    for row in np.flatnonzero(there.any(axis=1)):
        assert len(set(found.indices[row][there[row]])) == there[row].sum()


def rows(rng, count, dim=8, dtype=np.float32):
    """Rows around few centres, some of them equal."""
    values = rng.integers(-3, 4, (count, dim)) + 5.0 * rng.integers(0, 3, (count, 1))
    values[rng.random(count) < 0.3] = values[0] if count else 0
    return values.astype(dtype)


def zipf(rng, count):
    return np.minimum(rng.zipf(1.3, count), 1000)


KEYS = {
    "one group": lambda rng, n: np.zeros(n, int),
    "of one row each": lambda rng, n: rng.permutation(n),
    "few": lambda rng, n: rng.integers(0, 5, n),
    "small": lambda rng, n: rng.integers(0, n // 4 + 1, n),
    "Zipf": zipf,
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KEYS)
def test_within_is_brute_force_by_group(metric, kind):
    rng = np.random.default_rng(0)
    x, q = rows(rng, 300), rows(rng, 90)
    keys, of_queries = KEYS[kind](rng, 300), KEYS[kind](rng, 90)
    for k in (1, 4, 20, 400):
        pairs = allowed(300, 300, True, (keys, keys), None)
        found = knn_join(x, k=k, metric=metric, within=keys)
        check_knn(found, distances(x, x, metric), pairs, k)
        assert found.report.recall.value == 1
        pairs = allowed(90, 300, False, (of_queries, keys), None)
        found = knn_join(q, x, k=k, metric=metric, within=(of_queries, keys))
        check_knn(found, distances(q, x, metric), pairs, k)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KEYS)
def test_apart_is_brute_force(metric, kind):
    rng = np.random.default_rng(1)
    x, q = rows(rng, 300), rows(rng, 90)
    keys, of_queries = KEYS[kind](rng, 300), KEYS[kind](rng, 90)
    groups = rng.integers(0, 4, 300)
    for k in (1, 4, 20, 400):
        pairs = allowed(300, 300, True, None, (keys, keys))
        found = knn_join(x, k=k, metric=metric, apart=keys)
        check_knn(found, distances(x, x, metric), pairs, k)
        pairs = allowed(90, 300, False, None, (of_queries, keys))
        found = knn_join(q, x, k=k, metric=metric, apart=(of_queries, keys))
        check_knn(found, distances(q, x, metric), pairs, k)
        pairs = allowed(300, 300, True, (groups, groups), (keys, keys))
        found = knn_join(x, k=k, metric=metric, within=groups, apart=keys)
        check_knn(found, distances(x, x, metric), pairs, k)


def cells(found):
    """Pairs and distances of a radius join."""
    left, right, distance = found.to_edges()
    return dict(zip(zip(left.tolist(), right.tolist(), strict=True), distance, strict=True))


@pytest.mark.parametrize("metric", METRICS[:3])
@pytest.mark.parametrize("kind", KEYS)
def test_a_radius_is_brute_force(metric, kind):
    rng = np.random.default_rng(2)
    x, q = rows(rng, 300, 4), rows(rng, 90, 4)
    keys, of_queries = KEYS[kind](rng, 300), KEYS[kind](rng, 90)
    radius = {"euclidean": 3.1, "manhattan": 5.5, "cosine": 0.21}[metric]
    for left, of_left in ((None, keys), (q, of_queries)):
        side = x if left is None else left
        of_pairs = distances(side, x, metric)
        for within, apart in ((True, False), (False, True)):
            both = (of_left, keys)
            pairs = allowed(
                len(side), 300, left is None, both if within else None, both if apart else None
            )
            passed = keys if left is None else both
            options = {"within": passed} if within else {"apart": passed}
            found = cells(radius_join(left, x, radius, metric=metric, **options))
            near = np.argwhere(pairs & (of_pairs < radius)).tolist()
            assert set(found) == set(map(tuple, near))
            for (row, other), distance in found.items():
                assert math.isclose(of_pairs[row, other], distance, rel_tol=1e-5, abs_tol=1e-6)
            batches = radius_join_batches(left, x, radius, metric=metric, **options).read_all()
            assert len(batches) == len(near)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_keys_of_any_rows(data):
    n, m = data.draw(st.integers(0, 12)), data.draw(st.integers(0, 12))
    key = st.one_of(st.none(), st.sampled_from(["a", "b", "ü"]))
    draw = lambda count, of: data.draw(st.lists(of, min_size=count, max_size=count))  # noqa: E731
    value = st.lists(st.integers(-2, 2), min_size=2, max_size=2)
    items = np.array(draw(m, value), np.float32).reshape(m, 2)
    queries = np.array(draw(n, value), np.float32).reshape(n, 2)
    self_join = data.draw(st.booleans())
    left = items if self_join else queries
    keys = [(draw(m, key),) * 2 if self_join else (draw(n, key), draw(m, key)) for _ in range(2)]
    within, apart = (of if data.draw(st.booleans()) else None for of in keys)
    k, metric = data.draw(st.integers(1, 14)), data.draw(st.sampled_from(METRICS))
    options = {
        name: of if of is None else of[0] if self_join else of
        for name, of in (("within", within), ("apart", apart))
    }
    pairs = allowed(len(left), m, self_join, within, apart)
    of_pairs = distances(left, items, metric)
    sides = (None if self_join else queries, items)
    check_knn(knn_join(*sides, k=k, metric=metric, **options), of_pairs, pairs, k)
    if metric != "inner_product":
        found = cells(radius_join(*sides, 1.5, metric=metric, **options))
        assert set(found) == set(map(tuple, np.argwhere(pairs & (of_pairs < 1.5)).tolist()))


def test_keys_come_as_they_are():
    x = np.array([[0.0], [1.0], [2.0], [3.5]])
    expected = [[2], [-1], [0], [-1]]
    words = ["at", None, "at", "de"]
    numbers = [7, None, 7, 8]
    for keys in (
        words,
        np.array(words, object),
        pd.Series(words),
        pd.Series(words, dtype="category"),
        pl.Series(words),
        pl.Series(words, dtype=pl.Categorical),
        pa.array(words),
        pa.chunked_array([words[:1], words[1:]]),
        numbers,
        pd.Series(numbers),  # floats with NaN
        pd.Series(numbers, dtype="Int32"),
        pl.Series(numbers),
        np.array([7, np.nan, 7, 8]),
        pl.Series([7.0, math.nan, 7.0, 8.0]),
        np.ma.masked_array([7, 7, 7, 8], [0, 1, 0, 0]),
        np.array(["at", "fr", "at", "de"]),
        [True, None, True, False],
        pd.to_datetime(["2020-01-01", None, "2020-01-01", "2021-01-01"]),
    ):
        np.testing.assert_array_equal(knn_join(x, k=1, within=keys).indices, expected)
    narrow, wide = np.array([7, 8], np.int8), np.array([8, 7, 9, 9], np.uint64)
    found = knn_join(x[:2], x, k=1, within=(narrow, wide))
    np.testing.assert_array_equal(found.indices, [[1], [0]])


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ([1, 2], ValueError, "has 2 for 3 rows"),
        ("abc", TypeError, "the text 'abc'"),
        ([1.5, 2, 3], TypeError, "fractions"),
        ([[1], [2], [3]], TypeError, "integers or strings"),
        ([1, "a", 2], TypeError, "integers or strings"),
        (np.zeros((3, 2)), TypeError, "one a row"),
        (7, TypeError, "one a row"),
    ],
)
def test_what_is_no_key_is_an_error(keys, error, message):
    x = np.eye(3)
    for name, join in itertools.product(
        ("within", "apart"), (knn_join, lambda x, **keys: radius_join(x, radius=1, **keys))
    ):
        with pytest.raises(error, match=message):
            join(x, **{name: keys})


def test_two_sides_have_a_pair_of_keys_of_one_kind():
    x = np.eye(3)
    with pytest.raises(TypeError, match="must be a pair"):
        knn_join(x, x, within=[1, 2, 3])
    with pytest.raises(TypeError, match="must be of one kind, not string and int64"):
        knn_join(x, x, within=(["a", "b", "c"], [1, 2, 3]))
    with pytest.raises(ValueError, match="within of items must have one key a row"):
        knn_join(x, x, within=([1, 2, 3], [1, 2]))


def test_the_row_of_an_error_is_that_of_the_array():
    x = np.zeros((50, 2))
    x[33] = np.nan
    with pytest.raises(lshjoin.NotFiniteError, match="row 33 of items"):
        knn_join(x, within=np.arange(50) % 7)


@pytest.fixture(scope="module")
def large():
    """Groups of which some are joined by lists, some in full, and some are tiny."""
    rng = np.random.default_rng(3)
    sizes = [9000, 6000, 1500, *[12] * 80, *[1] * 40]
    keys = np.repeat(np.arange(len(sizes)), sizes)
    centres = 4 * rng.standard_normal((200, 16))
    x = centres[rng.integers(0, 200, len(keys))] + rng.standard_normal((len(keys), 16))
    order = rng.permutation(len(keys))
    return x[order].astype(np.float32), keys[order]


def recall(found, truth):
    furthest = truth.distances[:, -1:]
    there = np.isfinite(truth.distances)
    return ((found.distances <= furthest) & there).sum() / there.sum()


def test_large_groups_follow_one_plan_to_the_recall(large):
    x, keys = large
    truth = knn_join(x, k=5, within=keys, recall=1.0)
    pairs = sum(n * (n - 1) // 2 for n in np.bincount(keys).tolist())
    # Those of the warm start are compared twice, and those of no other group at all.
    assert pairs <= truth.report.pairs < 1.2 * pairs
    assert truth.report.recall.value == 1
    for key in (0, 1, 2, 5):
        mine = np.flatnonzero(keys == key)
        alone = knn_join(x[mine], k=5, recall=1.0)
        np.testing.assert_array_equal(alone.distances, truth.distances[mine])
        np.testing.assert_array_equal(mine[alone.indices], truth.indices[mine])
    plan = JoinPlan.ivf(lists=60, probes=4, until_recall=0.9)
    found = knn_join(x, k=5, within=keys, plan=plan)
    assert found.plan is plan
    assert found.report.recall.value > 0.85
    assert recall(found, truth) > 0.85
    again = knn_join(x, k=5, within=keys, plan=plan, num_threads=1)
    np.testing.assert_array_equal(again.indices, found.indices)
    assert list(again.report.seconds) == list(found.report.seconds)
    planned = knn_join(x, k=5, within=keys, recall=0.9)
    assert repr(planned.plan) == repr(plan_knn_join(x, k=5, within=keys, recall=0.9))
    assert recall(planned, truth) > 0.85


@pytest.mark.parametrize("metric", ["euclidean", "inner_product"])
def test_apart_keeps_its_recall_by_lists(large, metric):
    x, _ = large
    x = np.repeat(x[:2000], 5, axis=0)
    x += np.random.default_rng(4).normal(0, 0.01, x.shape).astype(np.float32)
    # The nearest of each row, and most of its list, are of its own document.
    documents = np.repeat(np.arange(2000), 5)
    truth = knn_join(x, k=4, metric=metric, apart=documents, recall=1.0)
    some = np.arange(0, len(x), 97)
    of_pairs = distances(x[some], x, metric)
    pairs = documents[some][:, None] != documents
    np.testing.assert_allclose(
        truth.distances[some], nearest(of_pairs, pairs, 4), rtol=1e-4, atol=1e-4
    )
    for plan in (
        JoinPlan.ivf(lists=80, probes=3, until_recall=0.9),
        JoinPlan.ivf(lists=80, probes=4, rounds=1),
        JoinPlan.lsh(axes=12, functions=6, tables=4, probes=2, rounds=0, until_recall=0.9),
        JoinPlan.partitions(lists=80, probes=3, until_recall=0.9),
    ):
        found = knn_join(x, k=4, metric=metric, apart=documents, plan=plan)
        there = found.indices >= 0
        assert there.all()
        assert (documents[found.indices] != documents[:, None]).all()
        assert recall(found, truth) > 0.85 or plan == JoinPlan.ivf(lists=80, probes=4, rounds=1)
        one = knn_join(x, k=4, metric=metric, apart=documents, plan=plan, num_threads=1)
        np.testing.assert_array_equal(one.indices, found.indices)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner_product"])
@pytest.mark.parametrize("both", [False, True])
def test_partitions_of_rows_kept_apart_find_what_a_row_may_have(large, both, metric):
    # Among them many equal rows, with few keys, some of which have none.
    x = np.concatenate([large[0][:5000], large[0][:40].repeat(30, axis=0)])
    keys = np.arange(len(x)) % 7
    keys = [None if key == 5 else int(key) for key in keys]
    sides = (x[:4500], x[1700:]) if both else (None, x)
    apart = (keys[:4500], keys[1700:]) if both else keys
    common = {"k": 5, "metric": metric, "apart": apart}
    plan = JoinPlan.partitions(lists=60, probes=60)
    found = knn_join(*sides, plan=plan, **common)
    truth = knn_join(*sides, recall=1.0, **common)
    assert recall(found, truth) > 0.99  # some rows would have to probe further than most
    of_queries, of_items = (np.array(side, object) for side in (keys[:4500], keys[1700:]))
    if not both:
        of_queries = of_items = np.array(keys, object)
    differ = of_items[found.indices] != of_queries[:, None]
    assert (differ | np.equal(of_queries, None)[:, None]).all()
    for until in (0.9, None):
        plan = JoinPlan.partitions(lists=60, probes=4, until_recall=until)
        some = knn_join(*sides, plan=plan, **common)
        assert recall(some, truth) > (0.85 if until else 0.3)


FRAMES: dict[str, Any] = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}


@pytest.mark.parametrize("library", FRAMES)
def test_frames_have_columns_of_keys(library):
    frame = FRAMES[library]
    shops = frame({"name": list("abcd"), "zip": [1, 1, 2, None], "v": [[0.0], [2.0], [1.0], [1.5]]})
    others = frame({"other": list("xyz"), "zip": [2, 1, 1], "v": [[1.0], [5.0], [4.0]]})

    def pairs(found):
        table = pa.table(found)
        left, right = (name for name in table.column_names if name[0] in "no" and name != "zip")
        return list(zip(*(table[name].to_pylist() for name in (left, right)), strict=True))

    found = lshjoin.join(shops, others, on="v", k=1, within="zip", how="left")
    assert pairs(found) == [("a", "z"), ("b", "z"), ("c", "x"), ("d", None)]
    found = lshjoin.join(shops, on="v", radius=1.8, apart="zip", columns=["name"])
    assert pairs(found) == [
        ("a", "c"), ("a", "d"), ("b", "d"), ("b", "c"),
        ("c", "d"), ("c", "a"), ("c", "b"), ("d", "b"), ("d", "c"), ("d", "a"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="right has no columns 'post'"):
        lshjoin.join(frame({"post": [1], "v": [[1.0]]}), others, on="v", within="post")


@pytest.mark.parametrize("linkage", ["component", "representative"])
def test_duplicates_are_of_one_key(linkage):
    v = [[0.0], [0.1], [0.2], [5.0]]
    keys = ["a", "b", "a", None]
    found = dedup(np.array(v), 1, within=keys, linkage=linkage)
    assert found.groups.tolist() == [0, 1, 0, 2]
    frame = pl.DataFrame({"key": keys, "v": v})
    old = pl.DataFrame({"key": ["b", None], "v": [[0.0], [5.0]]})
    found = dedup(frame, 1, on="v", within="key", against=old, linkage=linkage)
    assert found.matches.tolist() == [-1, 0, -1, -1]
    assert found.frame["key"].to_list() == ["a", None]
    pair = (keys, ["b", None])
    found = dedup(np.array(v), 1, within=pair, against=np.array([[0.0], [5.0]]), linkage=linkage)
    assert found.matches.tolist() == [-1, 0, -1, -1]
    with pytest.raises(ValueError, match="arrays have none"):
        dedup(np.array(v), 1, within="key")
    with pytest.raises(TypeError, match="must be a pair"):
        dedup(np.array(v), 1, within=keys, against=np.array(v))
    with pytest.raises(ValueError, match="items has no columns 'zip'"):
        dedup(frame, 1, on="v", within="zip")
