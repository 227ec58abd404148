"""Largest inner products, whatever the norms: recall is by true products."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lshjoin import Index, JoinPlan, knn_join, knn_join_files, plan_knn_join


def uneven(kind, rows, dim, dtype=np.float32):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, dim))
    if kind == "one giant":
        x[7] *= 1e4
    elif kind == "some giants":
        x[5:50:3] *= 10.0 ** rng.integers(1, 7, 15)[:, None]
    elif kind == "zeros":
        x[::3] = 0
    else:
        x *= np.exp(float(kind) * rng.standard_normal((rows, 1)))
    return x.astype(dtype)


# Of 0.8: the rows that a margin is chosen by rule out less, by three standard errors.
REACHED = 0.79

# Numbers are the sigma of log-normal norms.
KINDS = ["0", "1", "2", "3", "4", "one giant", "some giants", "zeros"]


def kth_products(queries, items, k, own):
    """The k-th largest product of each query, of itself with itself left out, as a column."""
    products = queries.astype(np.float64) @ items.astype(np.float64).T
    if own is not None:
        products[np.arange(len(own)), own] = -np.inf
    return np.partition(products, -k, axis=1)[:, -k, None]


def recall(queries, items, found, k, own):
    """The share of true products that were found, those alike but for rounding counting alike.

    Of thousands of queries by a seventh, and by the first, which are the uneven ones.
    """
    some = np.arange(len(queries))
    if len(some) > 2000:
        some = np.r_[some[:50], some[50::7]]
    expected = kth_products(queries[some], items, k, some if own else None)
    distances, indices = found
    pairs = items[np.maximum(indices, 0)].astype(np.float64)
    products = np.einsum("qd,qkd->qk", queries.astype(np.float64), pairs)
    scale = np.linalg.norm(queries.astype(np.float64), axis=1)[:, None]
    scale = scale * np.linalg.norm(pairs, axis=2)
    np.testing.assert_allclose(-distances, products, rtol=2e-7, atol=1e-35)
    assert (indices >= 0).all()
    assert all(len(set(row)) == k for row in indices.tolist())
    if own:
        assert not (indices == np.arange(len(items))[:, None]).any()
    return (products[some] >= expected - 1e-13 * scale[some]).mean()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_exact_is_exact(kind, dtype):
    items = uneven(kind, 500, 8, dtype)
    assert (
        recall(
            items, items, knn_join(items=items, k=3, metric="inner_product", recall=1.0), 3, True
        )
        == 1
    )
    queries = uneven("2", 60, 8, dtype)
    found = knn_join(queries, items, k=5, metric="inner_product", recall=1.0)
    assert recall(queries, items, found, 5, False) == 1
    if dtype == np.float32:
        index = Index.build(items, metric="inner_product")
        assert recall(queries, items, index.knn(queries, 5, recall=1.0)[:2], 5, False) == 1
        assert recall(items, items, index.knn(items, 3, plan=JoinPlan.exact())[:2], 3, False) == 1


@pytest.mark.parametrize("scale", [100, 300, 1000, 3000, 10000, 1e7])
def test_one_longer_row(scale):
    items = np.random.default_rng(0).standard_normal((2000, 32))
    items[7] *= scale
    for dtype in (np.float32, np.float64):
        x = items.astype(dtype)
        found = knn_join(items=x, k=3, metric="inner_product", recall=1.0)
        assert recall(x, x, found, 3, True) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_recall_is_reached(kind):
    items = uneven(kind, 12_000, 16)
    own = knn_join(items=items, k=5, metric="inner_product", recall=0.8)
    assert recall(items, items, own, 5, True) >= REACHED
    assert own.report.recall.high >= 0.8
    queries = uneven("1", 5000, 16)
    found = knn_join(queries, items, k=5, metric="inner_product", recall=0.8)
    assert recall(queries, items, found, 5, False) >= REACHED
    # What was planned gives the same when it is passed back, and was planned beforehand.
    again = knn_join(queries, items, k=5, metric="inner_product", plan=found.plan)
    np.testing.assert_array_equal(again.indices, found.indices)
    assert plan_knn_join(queries, items, 5, metric="inner_product", recall=0.8) == found.plan


def test_recall_by_lists_is_by_true_products():
    items = uneven("0.2", 20_000, 24)
    plan = JoinPlan.ivf(lists=100, probes=1, until_recall=0.8)
    found = knn_join(items=items, k=5, metric="inner_product", plan=plan)
    assert found.report.recall.rows > 0
    reached = recall(items, items, found, 5, True)
    assert reached >= REACHED
    error = (found.report.recall.high - found.report.recall.low) / 2
    assert abs(found.report.recall.value - reached) < 2 * error


@pytest.mark.parametrize("kind", ["one giant", "3"])
def test_indexes_and_files_reach_their_recall(kind, tmp_path):
    items = uneven(kind, 6000, 8)
    index = Index.build(items, metric="inner_product")
    found = index.knn(items, 3, plan=index.plan)
    assert recall(items, items, found[:2], 3, False) >= 0.93
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(items.ravel()), 8)
    pq.write_table(pa.table({"vector": vectors}), tmp_path / "items.parquet")
    knn_join_files(
        items=tmp_path / "items.parquet",
        k=3,
        metric="inner_product",
        recall=1.0,
        out=tmp_path / "out.parquet",
    )
    pairs = pq.read_table(tmp_path / "out.parquet")
    order = np.lexsort((pairs["distance"], pairs["query"]))
    found = (
        pairs["distance"].to_numpy()[order].reshape(-1, 3),
        pairs["item"].to_numpy()[order].reshape(-1, 3),
    )
    assert recall(items, items, found, 3, True) == 1
