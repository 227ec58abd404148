"""Joins of packed bits beside scipy's distances."""

import pickle

import lshjoin
import numpy as np
import pytest
from lshjoin import JoinPlan, knn_join, radius_join, radius_join_batches
from scipy.spatial.distance import cdist

METRICS = ["hamming", "jaccard"]


def bits(rows: int, width: int, seed: int, share: float = 0.5) -> np.ndarray:
    """Near some centres; among them equal rows, empty and full ones."""
    rng = np.random.default_rng(seed)
    centres = rng.random((7, width)) < share
    values = centres[rng.integers(7, size=rows)] ^ (rng.random((rows, width)) < 0.1 * share)
    values[::20], values[7::20], values[9::20] = False, True, values[8:-1:20][: len(values[9::20])]
    return values


def brute_force(queries: np.ndarray, items: np.ndarray, metric: str) -> np.ndarray:
    distances = cdist(queries, items, metric)
    if metric == "hamming":
        return np.rint(distances * queries.shape[1]).astype(np.float32)
    return distances.astype(np.float32)


def nearest(distances: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), order


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("width", "share"), [(5, 0.5), (64, 0.5), (250, 0.1), (1000, 0.5)])
def test_both_joins_find_what_scipy_does(metric: str, width: int, share: float) -> None:
    items, queries = bits(240, width, 0, share), bits(90, width, 1, share)
    packed = [np.packbits(rows, axis=1) for rows in (queries, items)]
    expected = brute_force(queries, items, metric)
    distances, indices = knn_join(*packed, 12, metric=metric)
    assert (distances.dtype, indices.dtype) == (np.float32, np.int64)
    for found, true in zip((distances, indices), nearest(expected, 12), strict=True):
        np.testing.assert_array_equal(found, true)

    radius = float(np.quantile(expected, 0.1))
    lims, distances, indices = radius_join(*packed, radius, metric=metric)
    rows = np.repeat(np.arange(90), np.diff(lims))
    np.testing.assert_array_equal(np.diff(lims), (expected < radius).sum(axis=1))
    np.testing.assert_array_equal(distances, expected[rows, indices])
    few = radius_join(*packed, radius, metric=metric, max_neighbors=3)
    np.testing.assert_array_equal(np.diff(few.lims), np.minimum(np.diff(lims), 3))


@pytest.mark.parametrize("metric", METRICS)
def test_a_row_is_not_its_own_neighbour(metric: str) -> None:
    rows = bits(130, 40, 0)
    packed = np.packbits(rows, axis=1)
    expected = brute_force(rows, rows, metric)
    np.fill_diagonal(expected, np.inf)
    found = knn_join(packed, k=5, metric=metric)
    for actual, true in zip(found, nearest(expected, 5), strict=True):
        np.testing.assert_array_equal(actual, true)
    lims, distances, _ = radius_join(packed, radius=np.inf, metric=metric)
    assert (np.diff(lims) == 129).all()
    np.testing.assert_array_equal(distances.reshape(130, 129), np.sort(expected)[:, :-1])
    assert found.to_csr(include_self=True).nnz == 130 * 6
    assert pickle.loads(pickle.dumps(found)).plan == JoinPlan.exact()


def test_ids_keys_and_pairs_to_leave_out() -> None:
    packed = np.array([[0b1111], [0b1110], [0b1100], [0b0000]], np.uint8)
    ids = ["a", "b", "c", "d"]
    near = {"metric": "hamming", "ids": ids}
    assert knn_join(packed, k=1, **near).indices.ravel().tolist() == ["b", "a", "b", "c"]
    found = knn_join(packed, k=1, exclude=[("b", "a")], **near)
    assert found.indices.ravel().tolist() == ["c", "c", "b", "c"]
    found = knn_join(packed, k=1, within=["x", "y", "x", "y"], **near)
    assert found.indices.ravel().tolist() == ["c", "d", "a", "b"]
    found = knn_join(packed, k=1, apart=["x", "x", "y", "y"], **near)
    assert found.indices.ravel().tolist() == ["c", "c", "b", "b"]
    near["metric"] = "jaccard"
    found = radius_join(packed, radius=0.6, within=["x", "y", "x", "x"], **near)
    assert found.to_edges()[:2][1].tolist() == ["c", "a"]
    found = radius_join(packed, radius=0.6, exclude=[("a", "c")], **near)
    assert sorted(found.indices) == ["a", "b", "b", "c"]


def test_lists_reach_the_recall_and_plans_are_followed() -> None:
    packed = np.packbits(bits(6000, 96, 3), axis=1)
    plan = JoinPlan.ivf(lists=80, probes=1, rounds=0, seed=5, until_recall=0.9)
    exact = knn_join(packed, metric="hamming", recall=1.0)
    found = knn_join(packed, metric="hamming", plan=plan, num_threads=1)
    assert found.report.pairs < exact.report.pairs
    assert (found.distances <= exact.distances[:, -1:]).mean() > 0.89
    assert found.report.recall.value > 0.85
    again = knn_join(packed, metric="hamming", plan=found.plan, num_threads=2)
    np.testing.assert_array_equal(found.indices, again.indices)
    with pytest.raises(ValueError, match="plan must be exact, or by lists without rounds"):
        knn_join(packed, metric="hamming", plan=JoinPlan.ivf(lists=80, probes=1, rounds=1))


def test_what_are_no_packed_bits_is_refused() -> None:
    packed = np.zeros((3, 2), np.uint8)
    join = {"metric": "hamming", "k": 1}
    with pytest.raises(TypeError, match=r"bool; pass np.packbits\(items, axis=1\)"):
        knn_join(packed > 0, **join)
    for other in (packed.astype(np.int8), packed.astype(np.float32), [[1, 2]], [["a"]]):
        with pytest.raises(TypeError, match="uint8"):
            knn_join(other, **join)
    for shape in ((6,), (1, 3, 2)):
        with pytest.raises(ValueError, match="2-D"):
            knn_join(packed.reshape(shape), **join)
    with pytest.raises(ValueError, match="at least one byte"):
        knn_join(packed[:, :0], **join)
    with pytest.raises(ValueError, match="queries have 1 columns but items have 2"):
        knn_join(packed[:, :1], packed, **join)
    with pytest.raises(ValueError, match="masked"):
        knn_join(np.ma.masked_equal(packed, 0), **join)
    with pytest.raises(ValueError, match="2097151"):
        knn_join(np.zeros((1, 1 << 21), np.uint8), **join)
    with pytest.raises(ValueError, match="metric"):
        radius_join_batches(packed, radius=1, metric="hamming")
    with pytest.raises(ValueError, match="metric"):
        lshjoin.plan_knn_join(packed, metric="jaccard")
    for radius in (-1, np.nan):
        with pytest.raises(ValueError, match="radius"):
            radius_join(packed, radius=radius, metric="hamming")


def test_any_order_of_memory_and_no_rows() -> None:
    packed = np.packbits(bits(60, 80, 0), axis=1)
    expected = knn_join(packed, k=3, metric="hamming")
    for same in (np.asfortranarray(packed), packed.repeat(2, axis=0)[::2], packed.tolist()):
        same = np.asarray(same, np.uint8)
        np.testing.assert_array_equal(knn_join(same, k=3, metric="hamming"), expected)
    none = packed[:0]
    assert knn_join(none, packed, 3, metric="jaccard").indices.shape == (0, 3)
    assert (knn_join(packed, none, 3, metric="jaccard").indices == -1).all()
    assert radius_join(packed, none, 3, metric="jaccard").lims.tolist() == [0] * 61
