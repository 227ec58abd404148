"""Indexes against brute force and against the joins of arrays."""

import copy
import json
import pickle
import threading
from pathlib import Path

import lshjoin
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from lshjoin import Index, JoinPlan, knn_join, radius_join

METRICS = ["euclidean", "manhattan", "cosine", "inner_product"]
DISTANCES = METRICS[:3]
CODED = ["euclidean", "cosine", "inner_product"]


def lists(count, seed=0):
    """A plan to build an index by, of so many lists."""
    return JoinPlan.partitions(lists=count, probes=1, seed=seed)


def clustered(rng, n, dim=12, clusters=60):
    centres = 4 * rng.standard_normal((clusters, dim))
    rows = centres[rng.integers(clusters, size=n)] + rng.standard_normal((n, dim))
    return rows.astype(np.float32)


def some_ids(rng, n):
    """Ids in no order, some negative, some beyond 32 bits."""
    return rng.choice(10 * n, n, replace=False) * 2**30 - 2**33


def distances(metric, a, b):
    a, b = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    if metric == "euclidean":
        return np.sqrt(((a - b) ** 2).sum(-1))
    if metric == "manhattan":
        return np.abs(a - b).sum(-1)
    products = (a * b).sum(-1)
    if metric == "inner_product":
        return -products
    return 1 - products / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


def recall_of(exact, found):
    return np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)])


def pairs_of(left, near):
    columns = (left, near.indices, near.distances)
    return set(zip(*(column.tolist() for column in columns), strict=True))


def assert_answers_alike(metric, index, other, queries):
    """The same answers where they are exact."""
    exact = JoinPlan.exact()
    assert_same(index.knn(queries, 7, plan=exact), other.knn(queries, 7, plan=exact))
    if metric != "inner_product":
        radius = float(index.knn(queries, 4, plan=exact).distances[:, 3].mean())
        assert_same(index.radius(queries, radius), other.radius(queries, radius))


@pytest.fixture(params=["memory", "mapped", "read"])
def kept(request, tmp_path):
    """What to do with an index before it is asked."""

    def keep(index):
        if request.param == "memory":
            return index
        index.save(tmp_path / "kept")
        return Index.load(tmp_path / "kept", mmap=request.param == "mapped")

    return keep


@pytest.fixture
def mapped(tmp_path):
    """The same for one way to keep it."""

    def keep(index):
        index.save(tmp_path / "mapped")
        return Index.load(tmp_path / "mapped")

    return keep


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [1, 5, 400])
def test_exact_search_is_brute_force(metric, n, kept, rng):
    items, queries = clustered(rng, n), clustered(rng, 30)
    ids = some_ids(rng, n)
    index = kept(Index.build(items, ids=ids, metric=metric))
    assert (len(index), index.dim, index.metric) == (n, 12, metric)
    found = index.knn(queries, 5, recall=1.0)
    expected = distances(metric, queries, items)
    nearest = np.sort(expected)[:, :5]
    there = found.indices != -1
    assert (there.sum(1) == min(n, 5)).all()
    np.testing.assert_allclose(
        np.where(there, found.distances, 0)[:, : nearest.shape[1]], nearest, rtol=1e-4, atol=1e-4
    )
    row_of = {id: row for row, id in enumerate(ids.tolist())}
    for query, place in np.argwhere(there):
        of_item = expected[query, row_of[int(found.indices[query, place])]]
        np.testing.assert_allclose(found.distances[query, place], of_item, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("metric", DISTANCES)
def test_radius_is_that_of_the_join(metric, kept, rng):
    items, queries = clustered(rng, 700), clustered(rng, 50)
    index = kept(Index.build(items, metric=metric))
    radius = float(np.quantile(distances(metric, queries, items), 0.05))
    expected = lshjoin.radius_join(queries, items, radius, metric=metric)
    assert len(expected.indices)
    assert_same(index.radius(queries, radius), expected)


@pytest.mark.parametrize("metric", METRICS)
def test_default_ids_give_what_the_join_gives(metric, mapped, rng):
    n = 4200 if metric in CODED else 500
    items, queries = clustered(rng, n), clustered(rng, n)
    items[77] = items[400]  # a tie
    index = mapped(Index.build(items, metric=metric, plan=lists(42)))
    assert_same(
        index.knn(queries, 6, recall=1.0),
        lshjoin.knn_join(queries, items, 6, metric=metric, recall=1.0),
    )
    if metric in CODED:
        plan = JoinPlan.partitions(lists=42, probes=3)
        found = index.knn(queries, 6, plan=plan)
        assert found.plan == plan
        # However queries are cut into batches.
        for start in (0, 1000, 1001):
            batch = index.knn(queries[start:], 6, plan=plan)
            assert_same(batch, [array[start:] for array in found])
        exact = index.knn(queries, 6, recall=1.0).indices
        assert 0.3 < recall_of(exact, found.indices) < 1


@pytest.mark.parametrize("metric", METRICS)
def test_chunks_make_up_the_join(metric, mapped, rng):
    items = clustered(rng, 5000 if metric in CODED else 1000)
    index = mapped(Index.build(items, metric=metric, plan=lists(50, seed=3)))
    plans = [JoinPlan.exact()]
    if metric in CODED:
        open_plan = JoinPlan.partitions(seed=3, lists=50, probes=1, until_recall=0.8)
        fixed = index.fixed_plan(5, plan=open_plan)
        assert "until_recall=None" in repr(fixed)
        plans.append(fixed)
    expected = lshjoin.knn_join(items=items, k=5, metric=metric, plan=JoinPlan.exact())
    for plan in plans:
        whole = None
        for memory in (len(items) * 100, 1 << 30):
            found = [np.full_like(array, -7) for array in expected]
            chunks = index.chunks(5, memory_limit=memory)
            assert (len(chunks) > 3) == (whole is None)
            for chunk in chunks:
                ids, near = index.knn_of_chunk(chunk, 5, plan=plan)
                assert near.plan == plan
                for array, part in zip(found, near, strict=True):
                    assert (array[ids] == -7).all()
                    array[ids] = part
            if whole is not None:
                assert_same(found, whole)
            whole = found
        if plan == JoinPlan.exact():
            assert_same(whole, expected)
        assert recall_of(expected.indices, whole[1]) >= 0.78


@pytest.mark.parametrize("metric", DISTANCES)
def test_radius_chunks_make_up_the_join(metric, mapped, rng):
    items = clustered(rng, 800)
    items[5] = items[700]
    index = mapped(Index.build(items, metric=metric))
    radius = float(np.quantile(distances(metric, items[:50], items), 0.03))
    expected = lshjoin.radius_join(items=items, radius=radius, metric=metric)
    pairs = set()
    for chunk in (range(0, 300), range(300, 301), range(301, 800)):
        ids, near = index.radius_of_chunk(chunk, radius)
        left = np.repeat(ids, np.diff(near.lims))
        pairs |= set(
            zip(left.tolist(), near.indices.tolist(), near.distances.tolist(), strict=True)
        )
    left = np.repeat(np.arange(800), np.diff(expected.lims))
    assert pairs == set(
        zip(left.tolist(), expected.indices.tolist(), expected.distances.tolist(), strict=True)
    )


@pytest.mark.parametrize("metric", METRICS)
def test_added_and_removed_is_rebuilt(metric, kept, rng):
    items, queries = clustered(rng, 900), clustered(rng, 40)
    ids = some_ids(rng, 900)
    index = kept(Index.build(items[:600], ids=ids[:600], metric=metric))
    here = dict(zip(ids[:600].tolist(), range(600), strict=True))
    for step in range(3):
        gone = rng.choice(list(here), 100, replace=False)
        index.remove(gone)
        for id in gone.tolist():
            del here[id]
        new = np.arange(600 + 100 * step, 700 + 100 * step)
        index.add(items[new], ids[new])
        here |= dict(zip(ids[new].tolist(), new.tolist(), strict=True))
        # Under an id that was there before, another item.
        index.add(items[:1] + 1, gone[:1])
        index.remove(gone[:1])
        assert len(index) == len(here)
        rebuilt = Index.build(items[list(here.values())], ids=list(here), metric=metric)
        assert_answers_alike(metric, index, rebuilt, queries)
    index = kept(index)
    assert index.info["added"] == 0 or len(index) == len(here)
    assert_answers_alike(metric, index, rebuilt, queries)


def near_after_adding(index, items, ids, k):
    """What :meth:`join_new` is: one row more of each, and itself left out."""
    index.add(items, ids)
    found = index.knn(items, k + 1, recall=1.0)
    others = found.indices != ids[:, None]
    others[others.all(axis=1), k] = False  # many at no distance, of which it is not the first
    shape = len(items), k
    return found.distances[others].reshape(shape), found.indices[others].reshape(shape)


@pytest.mark.parametrize("metric", METRICS)
def test_new_items_are_joined_with_old_ones_and_each_other(metric, kept, rng):
    items = clustered(rng, 500)
    items[470:490] = items[3]  # new ones that are equal, to an old one too
    ids = some_ids(rng, 500)
    index, other = (kept(Index.build(items[:400], ids=ids[:400], metric=metric)) for _ in range(2))
    index.remove(ids[7:9])
    other.remove(ids[7:9])
    for start, stop, k in ((400, 495, 6), (495, 496, 3), (496, 500, 1), (500, 500, 2)):
        new = items[start:stop], ids[start:stop]
        assert_same(
            index.join_new(*new, k, recall=1.0, num_threads=1), near_after_adding(other, *new, k)
        )
    assert len(index) == len(other) == 498
    assert_answers_alike(metric, index, other, items[::7])


@pytest.mark.parametrize("metric", DISTANCES)
def test_new_items_within_a_radius(metric, kept, rng):
    items, ids = clustered(rng, 300), some_ids(rng, 300)
    radius = float(np.quantile(distances(metric, items, items), 0.05))
    index = kept(Index.build(items[:200], ids=ids[:200], metric=metric))
    found = index.join_new(items[200:], ids[200:], radius=radius)
    every = lshjoin.radius_join(items[200:], items, radius, metric=metric).to_edges()
    others = every.left + 200 != every.right
    expected = zip(every.left[others], ids[every.right[others]], strict=True)
    assert set(zip(*found.to_edges()[:2], strict=True)) == set(expected)
    assert len(found.indices) == others.sum() > 100
    for query in range(100):
        part = found.distances[found.lims[query] : found.lims[query + 1]]
        assert (np.diff(part) >= 0).all()
    assert len(index) == 300
    index.remove(ids)  # all of them are there


def test_new_items_of_an_approximate_join(rng):
    items = clustered(rng, 6_000)
    index = Index.build(items[:5_000])
    found = index.join_new(items[5_000:], np.arange(5_000, 6_000), 10, recall=0.9)
    exact = knn_join(items[5_000:], items, 11, recall=1.0).indices[:, 1:]
    assert recall_of(exact, found.indices) >= 0.88
    assert found.plan.kind == "partitions"


def test_new_items_of_an_empty_index():
    index = Index.build(np.empty((0, 2)))
    found = index.join_new([[0.0, 1.0], [0.0, 3.0]], [5, 6], 2)
    assert found.indices.tolist() == [[6, -1], [5, -1]]
    assert index.join_new([[0.0, 2.5]], [9], 1).indices.tolist() == [[6]]


def test_a_join_of_new_items_that_fails_adds_nothing(kept, rng):
    items = clustered(rng, 60)
    index = kept(Index.build(items[:50]))
    before = index.knn(items, 3)
    bad = items[50:].copy()
    bad[2, 1] = np.nan
    fresh = np.arange(50, 60)

    def stop(done, total):
        raise KeyboardInterrupt

    for error, message, arguments, options in (
        (lshjoin.NotFiniteError, "row 2 of items holds NaN", (bad, fresh), {}),
        (lshjoin.NotFiniteError, "row 2 of items holds NaN", (bad, fresh), {"radius": 1.0}),
        (ValueError, "id 49 is in the index already", (items[50:], fresh - 1), {}),
        (ValueError, "ids: 50 is the id of rows 0 and 9", (items[50:], [*fresh[:9], 50]), {}),
        (ValueError, "ids has 9 ids for 10 rows", (items[50:], fresh[1:]), {}),
        (TypeError, "ids must be integers", (items[50:], list("abcdefghij")), {}),
        (ValueError, "cannot be less than 1", (items[50:], fresh, 0), {}),
        (ValueError, "radius must not be negative", (items[50:], fresh), {"radius": -1.0}),
        (TypeError, "either k or radius", (items[50:], fresh, 3), {"radius": 1.0}),
        (TypeError, "recall is for k", (items[50:], fresh), {"radius": 1.0, "recall": 0.9}),
        (ValueError, "12|3", (items[50:, :3], fresh), {}),
        (KeyboardInterrupt, None, (np.repeat(items, 400, axis=0), range(50, 24_050)),
         {"progress": stop, "recall": 1.0}),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            index.join_new(*arguments, **options)
        assert len(index) == 50
        assert_same(index.knn(items, 3), before)


@pytest.mark.parametrize("metric", CODED)
def test_added_and_removed_keep_recall(metric, mapped, rng):
    items, queries = clustered(rng, 5600), clustered(rng, 4200)
    index = mapped(Index.build(items[:5000], metric=metric, plan=lists(50)))
    index.remove(np.arange(0, 5000, 10))
    index.add(items[5000:5500], np.arange(5000, 5500))
    plan = JoinPlan.partitions(lists=50, probes=1, until_recall=0.8)
    exact = index.knn(queries, 5, recall=1.0).indices
    found = index.knn(queries, 5, plan=plan).indices
    assert recall_of(exact, found) >= 0.79
    assert not np.isin(found, np.arange(0, 5000, 10)).any()


@pytest.mark.parametrize("metric", METRICS)
def test_many_equal_items(metric, mapped, rng):
    items = np.concatenate([clustered(rng, 200), np.repeat(clustered(rng, 3), 200, axis=0)])
    if metric != "inner_product":  # by which all are as near to zero: ties that nothing decides
        items[300] *= -0.0
        items[301] = 0.0
    rng.shuffle(items)
    ids = some_ids(rng, len(items))
    index = mapped(Index.build(items, ids=ids, metric=metric))
    by_id = items[np.argsort(ids)]
    for k in (1, 4):
        rank = np.searchsorted(np.sort(ids), index.knn(items, k, recall=1.0).indices)
        expected = lshjoin.knn_join(items, by_id, k, metric=metric, recall=1.0)
        np.testing.assert_array_equal(rank, expected.indices)
        found = np.full((len(items), k), -7)
        for chunk in (range(0, 350), range(350, 800)):
            of_chunk, near = index.knn_of_chunk(chunk, k, plan=JoinPlan.exact())
            found[np.searchsorted(np.sort(ids), of_chunk)] = near.indices
        expected = lshjoin.knn_join(items=by_id, k=k, metric=metric, recall=1.0)
        np.testing.assert_array_equal(found, np.sort(ids)[expected.indices])
    # Those of the lowest ids are the first to be found, and the first to go.
    gone = np.sort(ids)[:600]
    index.remove(gone)
    left = ~np.isin(ids, gone)
    rebuilt = Index.build(items[left], ids=ids[left], metric=metric)
    assert_answers_alike(metric, index, rebuilt, items[::10])


def test_a_list_of_equal_items_is_no_quadratic_job(rng):
    items = np.concatenate([np.ones((20_000, 8)), clustered(rng, 1000, dim=8)])
    plan = JoinPlan.partitions(lists=210, probes=5)
    index = Index.build(items, plan=plan)
    ids, near = index.knn_of_chunk(range(21_000), 3, plan=plan)
    for id, nearest in zip(ids.tolist(), near.indices.tolist(), strict=True):
        if id < 20_000:
            assert nearest == [other for other in range(4) if other != id][:3]


def test_saving_leaves_out_what_was_removed(tmp_path, rng):
    items = clustered(rng, 300)
    index = Index.build(items)
    index.remove(np.arange(200))
    index.add(items[:50], np.arange(1000, 1050))
    index.save(tmp_path / "index")
    saved = Index.load(tmp_path / "index")
    assert {name: saved.info[name] for name in ("items", "removed", "added")} == {
        "items": 150,
        "removed": 0,
        "added": 0,
    }
    assert_answers_alike("euclidean", index, saved, items)
    saved.remove(np.r_[200:300, 1000:1050])
    assert len(saved) == 0
    saved.save(tmp_path / "index")  # over what it has mapped
    empty = Index.load(tmp_path / "index")
    assert empty.knn(items[:2], 3).indices.tolist() == [[-1] * 3] * 2
    assert empty.radius(items[:2], 1e9).lims.tolist() == [0, 0, 0]
    empty.add(items[:1], [5])
    assert empty.knn(items[:1], 2).indices.tolist() == [[5, -1]]
    assert len(Index.load(tmp_path / "index")) == 0


def test_saving_over_a_mapped_index(tmp_path, rng):
    items, queries = clustered(rng, 500), clustered(rng, 20)
    Index.build(items).save(tmp_path / "index")
    mapped = Index.load(tmp_path / "index")
    other = Index.build(items[:100])
    other.save(tmp_path / "index")
    # Its first answer comes after its files have gone.
    assert_answers_alike("euclidean", mapped, Index.build(items), queries)
    mapped.verify()
    mapped.save(tmp_path / "index")
    assert_answers_alike("euclidean", Index.load(tmp_path / "index"), mapped, queries)
    files = sorted(file.name.split("-")[0] for file in (tmp_path / "index").iterdir())
    assert len(files) == 14


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("batch", [1000, 137])
def test_building_on_disk_is_building(metric, batch, tmp_path, rng):
    items, ids = clustered(rng, 1000), some_ids(rng, 1000)
    passes = []

    def batches(first):
        passes.append(first)
        for start in range(first, 1000, batch):
            yield items[start : start + batch], ids[start : start + batch]
        yield items[:0], ids[:0]

    told = []
    index = Index.build_on_disk(
        tmp_path / "index",
        batches,
        count=1000,
        dim=12,
        metric=metric,
        plan=lists(10),
        progress=lambda *counts: told.append(counts),
    )
    assert passes == [0, 0]
    assert told[-1] == (3000, 3000)
    expected = Index.build(items, ids=ids, metric=metric, plan=lists(10))
    assert_answers_alike(metric, index, expected, items[:30])
    plan = JoinPlan.partitions(lists=10, probes=2)
    assert_same(index.knn(items, 5, plan=plan), expected.knn(items, 5, plan=plan))
    index.verify()
    again = Index.load(tmp_path / "index", mmap=False)
    assert_answers_alike(metric, again, expected, items[:30])


def test_building_on_disk_wants_the_items_it_was_told_of(tmp_path, rng):
    items = clustered(rng, 100)

    def build(count, rows=items, ids=range(100)):
        return Index.build_on_disk(
            tmp_path / "index", lambda _: [(rows, list(ids))], count=count, dim=12
        )

    for count in (99, 101):
        with pytest.raises(ValueError, match="number of items must be as announced in each pass"):
            build(count)
    with pytest.raises(ValueError, match="id 7 is given twice"):
        build(100, ids=[7, *range(99)])
    with pytest.raises(ValueError, match="items have dimension 5, but 12 is needed"):
        build(100, rows=items[:, :5])
    with pytest.raises(FileNotFoundError):
        Index.load(tmp_path / "index" / "nothing")
    with pytest.raises(ValueError, match="not an lshjoin index"):
        Index.load(tmp_path / "index")
    assert list((tmp_path / "index").iterdir()) == []  # what was begun has gone
    assert len(build(100)) == 100


def test_a_build_goes_on_where_it_was(tmp_path, rng):
    items, ids = clustered(rng, 1000), some_ids(rng, 1000)
    asked = []

    def build(stop_after, batch, **options):
        def batches(first):
            for start in range(first, 1000, batch):
                if len(asked) == stop_after:
                    raise KeyboardInterrupt
                asked.append(start)
                yield items[start : start + batch], ids[start : start + batch]

        asked.clear()
        options = {"count": 1000, "dim": 12, "metric": "cosine", "resume": True} | options
        return Index.build_on_disk(tmp_path / "index", batches, **options)

    for stop_after, batch, first in ((12, 100, 0), (3, 50, 200), (5, 64, 350)):
        with pytest.raises(KeyboardInterrupt):
            build(stop_after, batch)
        assert asked[0] == first
        with pytest.raises(ValueError, match="not an lshjoin index"):
            Index.load(tmp_path / "index")
    index = build(None, 100)
    assert asked[0] == 350 + 5 * 64
    expected = Index.build(items, ids=ids, metric="cosine")
    assert_answers_alike("cosine", index, expected, items[:30])
    index.verify()
    assert len(list((tmp_path / "index").iterdir())) == 14
    # What was begun with other arguments is of no use, and goes.
    with pytest.raises(KeyboardInterrupt):
        build(12, 100)
    with pytest.raises(KeyboardInterrupt):
        build(1, 100, seed=5)
    assert asked == [0]
    assert len(list((tmp_path / "index").iterdir())) == 14
    assert len(Index.load(tmp_path / "index")) == 1000


def test_a_build_that_was_tampered_with_is_refused(tmp_path, rng):
    items = clustered(rng, 1000)

    def batches(first):
        for start in range(first, 1000, 500):
            if start == 500 and (tmp_path / "index" / "manifest-unfinished.json").exists():
                raise KeyboardInterrupt
            yield items[start : start + 500], np.arange(start, start + 500)

    arguments = {"count": 1000, "dim": 12, "resume": True}
    with pytest.raises(KeyboardInterrupt):
        Index.build_on_disk(tmp_path / "index", batches, **arguments)
    (lists,) = (tmp_path / "index").glob("lists-*")
    whole = lists.read_bytes()
    lists.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=f"{lists.name}: it is not the file that was begun"):
        Index.build_on_disk(tmp_path / "index", batches, **arguments)
    lists.write_bytes(whole[:-4000] + b"\xff" * 4000)
    with pytest.raises(ValueError, match="is not an index of these items"):
        Index.build_on_disk(tmp_path / "index", batches, **arguments)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_make_no_difference(threads, rng):
    items, queries = clustered(rng, 5000), clustered(rng, 4200)
    plan = JoinPlan.partitions(lists=50, probes=1, until_recall=0.8)
    expected = Index.build(items, plan=plan).knn(queries, 5, plan=plan)
    index = Index.build(items, plan=plan, num_threads=threads)
    assert_same(index.knn(queries, 5, plan=plan, num_threads=threads), expected)


def test_pickle(rng):
    items, queries = clustered(rng, 200), clustered(rng, 20)
    index = Index.build(items, metric="cosine")
    index.remove([3])
    index.add(items[3:4], [10**15])
    for again in (pickle.loads(pickle.dumps(index)), copy.deepcopy(index)):
        assert_answers_alike("cosine", again, index, queries)
        again.remove([4])
        assert (len(again), len(index)) == (199, 200)


def test_other_types_of_numbers(rng):
    items = rng.integers(-100, 100, (50, 4))
    expected = Index.build(items.astype(np.float32)).knn(items, 3)
    for dtype in (np.int8, np.int64, np.float16, np.float64):
        found = Index.build(items.astype(dtype)).knn(items.astype(dtype), 3)
        assert found.distances.dtype == np.float32
        assert_same(found, expected)


def test_hostile_ids(rng):
    items = clustered(rng, 10)
    index = Index.build(items, ids=np.arange(10) + 5)
    before = index.knn(items, 3)
    with pytest.raises(ValueError, match="id 7 is in the index already"):
        index.add(items[:2], [99, 7])
    with pytest.raises(ValueError, match="id 99 is given twice"):
        index.add(items[:2], [99, 99])
    with pytest.raises(ValueError, match="id 99 is not in the index"):
        index.remove([7, 99])
    with pytest.raises(ValueError, match="id 7 is given twice"):
        index.remove([7, 7])
    with pytest.raises(ValueError, match="number of ids must be that of items, not 1"):
        index.add(items[:2], [99])
    with pytest.raises(ValueError, match="id 3 is given twice"):
        Index.build(items, ids=[3] * 10)
    with pytest.raises(TypeError, match="ids must be integers, not float64"):
        index.add(items[:1], [1.0])
    with pytest.raises(TypeError, match="ids must be integers, not bool"):
        index.remove([True])
    with pytest.raises(ValueError, match="ids must be 1-D"):
        index.remove([[7]])
    with pytest.raises(ValueError, match=f"id {2**63} is beyond"):
        index.remove(np.array([2**63], np.uint64))
    index.add(items[:0], [])
    index.remove([])
    assert_same(index.knn(items, 3), before)
    index.add(items[:2], np.array([2**63 - 1, 2**31], np.uint64))
    index.add(items[:1], [-(2**63)])
    index.remove([2**63 - 1, -(2**63), 2**31])
    index.remove([7])
    with pytest.raises(ValueError, match="id 7 is not in the index"):
        index.remove([7])


def test_hostile_items(rng):
    items = clustered(rng, 10)
    index = Index.build(items)
    bad = items.astype(np.float64)
    bad[3, 2] = np.nan
    for refused in (Index.build, lambda rows: index.add(rows, np.arange(10) + 50)):
        with pytest.raises(ValueError, match="row 3 of items holds NaN at dimension 2"):
            refused(bad)
    bad[3, 2] = 1e300  # finite in float64, not in float32
    with pytest.raises(ValueError, match="row 3 of items holds inf"):
        Index.build(bad)
    bad[3, 2] = np.inf
    for refused in (index.knn, lambda rows: index.radius(rows, 1)):
        with pytest.raises(ValueError, match="row 3 of queries holds inf"):
            refused(bad)
        with pytest.raises(ValueError, match="queries have dimension 11, but 12 is needed"):
            refused(items[:, :11])
        with pytest.raises(ValueError, match="queries must be 2-D"):
            refused(items[0])
    with pytest.raises(ValueError, match="items have dimension 11, but 12 is needed"):
        index.add(items[:, :11], range(10))
    with pytest.raises(TypeError, match="must hold real numbers"):
        Index.build([["a"]])
    assert len(index) == 10


def test_parameters(rng):
    index = Index.build(clustered(rng, 10))
    queries = clustered(rng, 2)
    with pytest.raises(ValueError, match="k is 0"):
        index.knn(queries, 0)
    assert index.knn(queries, 50).indices.shape == (2, 50)
    assert index.knn(queries[:0], 3).indices.shape == (0, 3)
    assert index.radius(queries[:0], 3).lims.tolist() == [0]
    with pytest.raises(ValueError, match="radius must not be negative"):
        index.radius(queries, -1)
    with pytest.raises(ValueError, match="recall must be above 0 and at most 1, not 2"):
        index.knn(queries, 3, recall=2)
    with pytest.raises(TypeError, match="either a plan or a recall"):
        index.knn(queries, 3, recall=1.0, plan=JoinPlan.exact())
    with pytest.raises(TypeError, match="plan must be a JoinPlan"):
        index.knn(queries, 3, plan="exact")
    with pytest.raises(ValueError, match="the index has seed 0 and 1 lists"):
        index.knn(queries, 3, plan=JoinPlan.partitions(lists=4, probes=1))
    lsh = JoinPlan.lsh(axes=4, functions=3, tables=1, probes=1, rounds=1)
    with pytest.raises(ValueError, match="plan must be exact or of partitions"):
        index.knn(queries, 3, plan=lsh)
    with pytest.raises(ValueError, match="plan must be exact or of partitions"):
        index.knn(queries, 3, plan=JoinPlan.ivf(lists=4, probes=1))
    with pytest.raises(ValueError, match="a plan of partitions"):
        Index.build(queries, plan=lsh)
    with pytest.raises(TypeError, match="must hold packed bits"):
        Index.build(queries, metric="hamming")
    with pytest.raises(ValueError, match="metric must be"):
        Index.build(queries, metric="levenshtein")
    with pytest.raises(ValueError, match="distance; inner products have none"):
        Index.build(queries, metric="inner_product").radius(queries, 1)
    with pytest.raises(ValueError, match="num_threads must be at least 1"):
        index.knn(queries, num_threads=0)
    plan = JoinPlan.partitions(lists=1, probes=1)
    for chunk in (range(5, 11), range(7, 3)):
        with pytest.raises(ValueError, match="the chunk must be"):
            index.knn_of_chunk(chunk, 2, plan=plan)
    with pytest.raises(ValueError, match="range without gaps"):
        index.knn_of_chunk(range(0, 10, 2), 2, plan=plan)
    until = JoinPlan.partitions(lists=1, probes=1, until_recall=0.9)
    with pytest.raises(ValueError, match="plan must be a fixed one"):
        index.knn_of_chunk(range(10), 2, plan=until)
    index.remove([1])
    with pytest.raises(ValueError, match="saved and opened anew"):
        index.knn_of_chunk(range(10), 2, plan=plan)


def test_several_threads_ask_while_one_changes(rng):
    items = clustered(rng, 3000)
    index = Index.build(items[:2000])
    lengths, failures = set(), []

    def ask():
        try:
            for _ in range(20):
                near = index.knn(items[:5], 1, recall=1.0)
                lengths.add(len(near.indices))
                assert (near.distances == 0).all()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for start in range(2000, 3000, 100):
        index.add(items[start : start + 100], range(start, start + 100))
        index.remove(range(start, start + 50))
    for thread in threads:
        thread.join()
    assert not failures
    assert len(index) == 2500


def test_cancelled_by_its_progress(rng):
    items = clustered(rng, 50_000)

    def stop(done, total):
        raise KeyboardInterrupt

    index = Index.build(items)
    with pytest.raises(KeyboardInterrupt):
        index.knn(items, 5, recall=1.0, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        Index.build(items, progress=stop)


@pytest.mark.parametrize("metric", METRICS)
def test_ids_may_be_negative(metric, kept, rng):
    items, ids = clustered(rng, 5), np.array([-5, -1, -(2**63), 7, 0])
    index = kept(Index.build(items, ids=ids, metric=metric))
    expected = knn_join(items, items, 5, metric=metric)
    found = index.knn(items, 7)
    assert found.distances[:, :5].tolist() == expected.distances.tolist()
    assert found.indices[:, :5].tolist() == ids[expected.indices].tolist()
    assert np.isinf(found.distances[:, 5:]).all()
    index.remove([-1])
    assert -1 not in index.knn(items, 4).indices
    index.add(items[1:2], [-1])
    assert_same(index.knn(items, 7), found)


def test_what_a_join_reports(kept, rng):
    items, queries = clustered(rng, 4000), clustered(rng, 3000)
    index = kept(Index.build(items))
    exact = index.knn(queries, 5, plan=JoinPlan.exact())
    assert exact.report.recall.value == 1.0
    assert exact.report.pairs >= 4000 * 3000
    lists = JoinPlan.from_json(index.plan.to_json()).to_json()
    few = index.knn(queries, 5, plan=JoinPlan.from_json(lists))
    assert few.report.pairs < exact.report.pairs
    assert {"codes", "probes"} <= few.report.seconds.keys()
    # Held-out rows tell how far to probe: their own exact join is not this one's recall.
    assert few.report.recall is None
    numbers = {"lists": json.loads(lists)["lists"], "probes": 1}
    until = index.knn(queries, 5, plan=JoinPlan.partitions(**numbers, until_recall=0.5))
    assert until.report.recall is None
    _, near = index.knn_of_chunk(range(100), 5, plan=JoinPlan.exact())
    assert near.report.recall.value == 1.0
    # Nor that of the items that were added, which are all compared.
    index.add(items[:1], [10**6])
    assert index.knn(queries, 5, plan=few.plan).report.recall is None
    for again in (pickle.loads(pickle.dumps(few)), copy.deepcopy(few), copy.copy(few)):
        assert_same(again, few)
        assert (again.plan, again.report) == (few.plan, few.report)


@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "cosine"])
def test_pairs_that_are_known_and_the_nearest_few_within_a_radius(metric, rng):
    items, queries = (rng.standard_normal((rows, 6)).astype(np.float32) for rows in (500, 80))
    ids = rng.permutation(10_000)[:500] - 5000
    index = Index.build(items, ids=ids, metric=metric)
    first = knn_join(queries, items, 2, ids=ids, metric=metric)
    known = np.column_stack([*first.to_edges()[:2]])
    common = {"metric": metric, "ids": ids}
    expected = knn_join(queries, items, 5, exclude=known, recall=1.0, **common)
    for exclude in (known, known.tolist(), first.to_edges(), [*map(tuple, known.tolist())]):
        found = index.knn(queries, 5, exclude=exclude, recall=1.0)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-5)
    radii = 1.0001 * expected.distances[:, 3].astype(float)
    largest = float(radii.max())
    for radius, most, exclude in (
        (largest, 3, None),
        (largest, None, known),
        (largest, 10**9, known),
        (radii, None, None),
        (radii, 2, known),
    ):
        found = index.radius(queries, radius, max_neighbors=most, exclude=exclude)
        near = radius_join(queries, items, radius, max_neighbors=most, exclude=exclude, **common)
        assert len(near.indices) > 80
        for mine, other in zip(found.to_edges()[:2], near.to_edges()[:2], strict=True):
            np.testing.assert_array_equal(mine, other)
    # Ids that no item has are of pairs that there are not.
    far = index.knn(queries, 5, exclude=[(3, 77_777), (79, -1)], recall=1.0)
    np.testing.assert_array_equal(far.indices, index.knn(queries, 5, recall=1.0).indices)
    assert (index.knn(queries, 600, exclude=known).distances == np.inf).sum() == 80 * 102


@pytest.mark.parametrize("metric", ["euclidean", "inner_product"])
def test_new_items_are_joined_without_pairs_that_are_known(metric, rng):
    items = rng.standard_normal((400, 6)).astype(np.float32)
    ids = rng.permutation(10_000)[:400] - 5000
    new = items[300:], ids[300:]

    def index():
        return Index.build(items[:300], ids=ids[:300], metric=metric)

    first = index().join_new(*new, 2)
    known = np.column_stack([ids[300:].repeat(2), first.indices.ravel()])
    common = {"ids": ids, "metric": metric, "exclude": known}
    expected = knn_join(items, k=5, recall=1.0, **common)
    for exclude in (known, [*map(tuple, known.tolist()), (int(ids[300]), 77_777)]):
        found = index().join_new(*new, 5, exclude=exclude, recall=1.0)
        np.testing.assert_array_equal(found.indices, expected.indices[300:])
    if metric == "euclidean":
        radius = 1.0001 * float(expected.distances[300:, 2].max())
        near = radius_join(items, radius=radius, **common)
        found = index().join_new(*new, radius=radius, exclude=known)
        np.testing.assert_array_equal(found.indices, near.indices[near.lims[300] :])
    few = index()
    for pair in ((int(ids[0]), int(ids[300])), (77_777, int(ids[300]))):
        with pytest.raises(ValueError, match="exclude: no row has the id"):
            few.join_new(*new, exclude=[pair])
    assert len(few) == 300


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (ValueError, "exclude: no row has the id 3", {"exclude": [(3, 1)]}),
        (TypeError, "ids must be integers", {"exclude": [(0, "a")]}),
        (ValueError, "of shape", {"exclude": [1, 2]}),
        (ValueError, "cannot be less than 1", {"max_neighbors": 0}),
        (ValueError, "has 2 for 3 queries", {"radius": [1.0, 2.0]}),
        (TypeError, "a radius is missing", {"radius": None}),
    ],
)
def test_options_of_a_radius_that_cannot_be(error, message, options):
    index = Index.build(np.eye(3))
    with pytest.raises(error, match=message):
        index.radius(np.eye(3), **{"radius": 1.0} | options)
    by_product = Index.build(np.eye(3), metric="inner_product")
    for most in (None, 2):
        with pytest.raises(ValueError, match="metric must be a distance"):
            by_product.radius(np.eye(3), 1.0, max_neighbors=most)


def test_ids_of_any_layout(rng):
    items, ids = clustered(rng, 9), np.arange(9) * 5 - 20
    expected = Index.build(items, ids=ids).knn(items, 3)
    misaligned = np.zeros(9 * 8 + 1, np.int8)[1:].view(np.int64)
    misaligned[:] = ids
    for other in (
        misaligned,
        ids.astype(">i8"),
        np.repeat(ids, 2)[::2],
        ids.astype(np.int8),
        ids.tolist(),
        pd.Series(ids),
        pd.Series(ids, dtype="Int64"),
        pl.Series(ids),
        pa.array(ids),
        pa.chunked_array([ids[:4], ids[4:]]),
        pa.array(ids).dictionary_encode(),
        np.ma.masked_array(ids),
    ):
        index = Index.build(items, ids=other)
        assert_same(index.knn(items, 3), expected)
        index.remove(other[:4])
        assert len(index) == 5
        index.add(items[:4], other[:4])
        assert_same(index.knn(items, 3), expected)
    with pytest.raises(ValueError, match=r"ids is masked, first at \[2\]"):
        Index.build(items, ids=np.ma.masked_equal(ids, ids[2]))


def test_queries_that_are_a_column(rng):
    items, queries = clustered(rng, 9), clustered(rng, 4)
    index = Index.build(pd.Series(list(items)))
    expected = Index.build(items).knn(queries, 3)
    assert_same(index.knn(pl.Series(queries), 3), expected)
    assert index.knn(pd.Series([], dtype=object), 3).indices.shape == (0, 3)
    index.add(pa.array(queries.tolist()), range(10, 14))
    assert len(index) == 13


@pytest.mark.parametrize("path", ["s3://bucket/i", Path("s3://bucket/i"), "file:///tmp/i"])
def test_urls(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    index = Index.build(np.eye(3))
    for use in (
        index.save,
        Index.load,
        lambda path: Index.build_on_disk(path, lambda start: [], count=1, dim=1),
    ):
        with pytest.raises(ValueError, match="is a URL"):
            use(path)
    assert list(tmp_path.iterdir()) == []
