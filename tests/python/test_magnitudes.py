"""Distances are right whatever the magnitudes; what does not fit is refused by name."""

import numpy as np
import pytest
from lshjoin import Index, JoinPlan, knn_join, plan_knn_join, radius_join

METRICS = ["euclidean", "manhattan", "cosine", "inner_product"]


def truth(metric, a, b):
    """All distances in extended precision: float64's own squares overflow and vanish."""
    a, b = a.astype(np.longdouble), b.astype(np.longdouble)
    if metric == "inner_product":
        return -(a @ b.T)
    if metric == "cosine":
        lengths = [np.sqrt((rows**2).sum(1, keepdims=True)) for rows in (a, b)]
        a, b = (
            rows / np.where(norm > 0, norm, 1) for rows, norm in zip((a, b), lengths, strict=True)
        )
        half = ((a[:, None] - b[None]) ** 2).sum(2) / 2
        return np.where((lengths[0] == 0) | (lengths[1] == 0).T, 1, half)
    differences = np.abs(a[:, None] - b[None])
    if metric == "manhattan":
        return differences.sum(2)
    return np.sqrt((differences**2).sum(2))


def check(metric, items, k, found):
    """Each row of a self-join: the true distances, at which the items named truly are."""
    distances, indices = found
    all_pairs = truth(metric, items, items)
    others = all_pairs.copy()
    np.fill_diagonal(others, np.inf)
    expected = np.sort(others, axis=1)[:, :k]
    of_rounding = np.finfo(items.dtype).eps * (4 if metric != "manhattan" else items.shape[1] + 4)
    room = np.abs(expected) * of_rounding + np.finfo(items.dtype).smallest_subnormal
    if metric == "cosine":  # directions are rounded in float64
        room = room + 1e-30 + 1e-15 * np.sqrt(expected)
    if metric == "inner_product":  # a difference of large terms
        norms = np.sqrt((items.astype(np.longdouble) ** 2).sum(1))
        room = room + norms[:, None] * norms.max() * 1e-15
        room = room + items.shape[1] * np.finfo(items.dtype).smallest_subnormal
    assert np.isfinite(distances).all()
    wrong = np.argwhere(np.abs(distances - expected) > room)
    assert not len(wrong), [
        (at, distances[tuple(at)], expected[tuple(at)]) for at in wrong[:3].tolist()
    ]
    at = np.take_along_axis(others, indices, axis=1)
    assert (np.abs(distances - at) <= room).all()
    assert all(len(set(row)) == k for row in indices.tolist())


def limit(dtype, metric, dim):
    largest = float(np.finfo(dtype).max)
    return {
        "euclidean": largest / (2 * np.sqrt(dim)),
        "manhattan": largest / (2 * dim),
        "cosine": largest / np.sqrt(dim),
        "inner_product": np.sqrt(largest / dim),
    }[metric]


def powers(dtype, metric, dim):
    """Powers of ten from the smallest subnormal number to the largest that fits."""
    smallest = np.log10(float(np.finfo(dtype).smallest_subnormal))
    largest = np.log10(limit(dtype, metric, dim) / 4)
    return np.unique(np.floor(np.linspace(smallest + 1, largest, 24)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", METRICS)
def test_all_powers_of_ten(metric, dtype, rng):
    shape = rng.integers(-3, 4, (40, 3)).astype(np.longdouble)
    for power in powers(dtype, metric, 3):
        items = (shape * np.longdouble(10) ** power).astype(dtype)
        check(metric, items, 3, knn_join(items=items, k=3, metric=metric, recall=1.0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", METRICS)
def test_all_powers_of_ten_at_once(metric, dtype, rng):
    some = powers(dtype, metric, 3)
    items = (
        rng.integers(-3, 4, (10 * len(some), 3)) * np.longdouble(10) ** np.repeat(some, 10)[:, None]
    )
    items = items.astype(dtype)
    check(metric, items, 3, knn_join(items=items, k=3, metric=metric, recall=1.0))
    queries = items[::7]
    distances, _ = knn_join(queries, items, 2, metric=metric)
    expected = np.sort(truth(metric, queries, items), axis=1)[:, :2]
    atol = 1e-30 if metric == "cosine" else 0
    np.testing.assert_allclose(distances, expected.astype(dtype), rtol=1e-5, atol=atol)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", METRICS[:3])
def test_radius_joins_at_all_magnitudes(metric, dtype, rng):
    some = powers(dtype, metric, 2)
    items = (
        rng.integers(-3, 4, (8 * len(some), 2)) * np.longdouble(10) ** np.repeat(some, 8)[:, None]
    )
    items = items.astype(dtype)
    distances = truth(metric, items, items).astype(dtype)
    np.fill_diagonal(distances, np.nan)
    positive = np.sort(distances[distances > 0].astype(np.longdouble))
    for radius in [np.inf, *positive[[len(positive) // 20, len(positive) // 2]]]:
        radius = float(radius * np.longdouble(1 + 1e-5))
        lims, found, _ = radius_join(items=items, radius=radius, metric=metric)
        close = np.abs(distances.astype(np.longdouble) - radius) <= radius * np.longdouble(1e-5)
        within = distances < radius
        assert (np.abs(np.diff(lims) - within.sum(1)) <= close.sum(1)).all()
        assert np.isfinite(found).all()


@pytest.mark.parametrize("metric", METRICS)
def test_an_index_at_all_magnitudes(metric, rng, tmp_path):
    shape = rng.integers(-3, 4, (40, 3)).astype(np.longdouble)
    for power in powers(np.float32, metric, 3):
        items = (shape * np.longdouble(10) ** power).astype(np.float32)
        index = Index.build(items, metric=metric)
        index.save(tmp_path / f"{power}")
        for opened in (index, Index.load(tmp_path / f"{power}")):
            distances = opened.knn(items, 3, recall=1.0)[0]
            expected = np.sort(truth(metric, items, items), axis=1)[:, :3]
            atol = 1e-30 if metric == "cosine" else 1e-45
            np.testing.assert_allclose(distances, expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", METRICS)
def test_what_does_not_fit_is_refused(metric, dtype):
    items = np.ones((20, 4), dtype)
    largest = limit(dtype, metric, 4)
    items[7, 2] = largest * 0.999
    assert np.isfinite(knn_join(items=items, k=2, metric=metric)[0]).all()
    for factor in (1.001, 1.9):
        items[7, 2] = largest * factor
        what = (
            r"row 7 of items holds .*e.* at dimension 2; .* float(32|64) for values up to .*scale"
        )
        with pytest.raises(ValueError, match=what):
            knn_join(items=items, k=2, metric=metric)
        with pytest.raises(ValueError, match="row 7 of queries holds"):
            knn_join(items, items[:3], k=2, metric=metric)
    if dtype == np.float32:
        with pytest.raises(ValueError, match="row 7 of items holds"):
            Index.build(items, metric=metric)


def test_rows_are_named_as_they_were_given():
    items = np.ones((20, 4), np.float32)
    items[7, 2] = np.nan
    for recall in (1.0, 0.9):
        with pytest.raises(ValueError, match="row 7 of items holds NaN at dimension 2"):
            knn_join(items=items, k=2, recall=recall)
    with pytest.raises(ValueError, match="row 7 of items holds NaN at dimension 2"):
        plan_knn_join(items=items, k=2)


def test_cases_that_came_out_wrong():
    items = np.float32([[0], [2e19], [3e19]])
    distances, _ = knn_join(items=items, k=2)
    expected = [[2e19, 3e19], [1e19, 2e19], [1e19, 3e19]]
    np.testing.assert_allclose(distances, expected, rtol=1e-6)
    rows = np.random.default_rng(0).standard_normal((500, 4)).astype("f4")
    rows[::100] = 1e19
    assert radius_join(items=rows, radius=np.inf).lims[-1] == 500 * 499
    tiny = np.float32([[1e-25], [3e-25], [7e-25]])
    np.testing.assert_allclose(
        knn_join(items=tiny, k=2)[0], [[2e-25, 6e-25], [2e-25, 4e-25], [4e-25, 6e-25]], rtol=1e-6
    )
    huge = np.random.default_rng(0).standard_normal((50, 3)) * 1e160
    check("cosine", huge, 3, knn_join(items=huge, k=3, metric="cosine"))
    check("euclidean", huge / 1e5, 3, knn_join(items=huge / 1e5, k=3))


@pytest.mark.parametrize("plan", [None, JoinPlan.ivf(lists=64, probes=64)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_small_cosine_distances(dtype, plan):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((9000, 24)).astype(dtype)
    x[3000:6000] = x[:3000]
    x[6000:] = x[:3000] * dtype(1 + 1e-6 * rng.standard_normal())
    x[6000:] += (1e-5 * rng.standard_normal((3000, 24))).astype(dtype)
    distances, indices = knn_join(
        items=x, k=2, metric="cosine", **({"plan": plan} if plan else {"recall": 1.0})
    )
    copies = np.arange(3000)
    # Exact copies at 0, before near ones.
    assert (distances[:6000, 0] == 0).all()
    assert (indices[:3000, 0] == copies + 3000).all()
    assert (indices[3000:6000, 0] == copies).all()
    wide = x.astype(np.longdouble)
    wide /= np.sqrt((wide**2).sum(1, keepdims=True))
    near = ((wide[:3000] - wide[6000:]) ** 2).sum(1) / 2
    np.testing.assert_allclose(distances[:3000, 1], near.astype(np.float64), rtol=1e-5)
    assert (indices[:3000, 1] == copies + 6000).all()
    # A radius between copies and near ones.
    lims, found, _ = radius_join(items=x, radius=float(near.min()) / 2, metric="cosine")
    assert lims[-1] == 6000
    assert (found == 0).all()
