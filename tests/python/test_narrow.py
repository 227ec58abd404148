"""Vectors of 8 and 16 bits: integers against integer brute force, all as the same in float32."""

import ml_dtypes
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from lshjoin import (
    Index,
    NotFiniteError,
    build_index,
    dedup,
    join,
    knn_join,
    knn_join_files,
    open_dataset,
    plan_knn_join,
    plan_knn_join_files,
    query_index,
    radius_join,
    radius_join_files,
)
from lshjoin.base.vectors import array_matrix
from lshjoin.files import plan as files_plan

DTYPES = [np.int8, np.uint8, np.float16, ml_dtypes.bfloat16]
METRICS = ["euclidean", "manhattan", "cosine", "inner_product"]


def narrow_rows(dtype, rows, seed=0):
    """Rows around some centres, with duplicates; of integers all that there are."""
    rng = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        centres = rng.integers(info.min, info.max + 1, (20, 24))
        values = centres[rng.integers(20, size=rows)] + rng.integers(-40, 41, (rows, 24))
        values = values.clip(info.min, info.max)
    else:
        values = rng.standard_normal((20, 24))[rng.integers(20, size=rows)]
        values = values + rng.standard_normal((rows, 24)) / 4
    values[rows // 2 :: 9] = values[: len(values[rows // 2 :: 9])]
    return values.astype(dtype)


def of_integers(metric, queries, items):
    """All distances, the last step of each in float64."""
    queries, items = queries.astype(np.int64), items.astype(np.int64)
    dots = queries @ items.T
    if metric == "inner_product":
        return -dots
    if metric == "manhattan":
        return np.abs(queries[:, None] - items[None]).sum(-1)
    squares = (queries**2).sum(1)[:, None], (items**2).sum(1)[None]
    if metric == "euclidean":
        return np.sqrt(squares[0] + squares[1] - 2 * dots)
    return 1 - dots / np.sqrt(squares[0] * squares[1])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("of_queries", "of_items"),
    [(np.int8, None), (np.uint8, None), (np.uint8, np.uint8), (np.int8, np.uint8)],
)
def test_integers_are_joined_exactly(metric, of_queries, of_items):
    queries = narrow_rows(of_queries, 150)
    items = None if of_items is None else narrow_rows(of_items, 400, seed=1)
    exact = of_integers(metric, queries, queries if items is None else items)
    if items is None:
        exact = exact.astype(np.float64)
        np.fill_diagonal(exact, np.inf)
    order = np.argsort(exact.astype(np.float32), axis=1, kind="stable")[:, :8]
    expected = np.take_along_axis(exact, order, 1)
    distances, indices = knn_join(queries, items, k=8, metric=metric, recall=1.0)
    assert distances.dtype == np.float32
    if metric == "cosine":  # which brute force rounds more often
        np.testing.assert_allclose(distances, expected, rtol=1e-5, atol=1e-7)
    else:
        np.testing.assert_array_equal(distances, expected.astype(np.float32))
        np.testing.assert_array_equal(indices, order)
    if metric == "inner_product":
        return
    radius = np.median(expected[:, 3]) + 1e-3
    found = radius_join(queries, items, radius=radius, metric=metric)
    near = [np.flatnonzero(row < radius) for row in exact]
    assert 0 < len(found.indices) < exact.size / 2
    for query, items_near in enumerate(near):
        of_query = slice(found.lims[query], found.lims[query + 1])
        assert sorted(found.indices[of_query]) == items_near.tolist()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_are_joined_as_float32(dtype, metric):
    queries, items = narrow_rows(dtype, 100), narrow_rows(dtype, 600, seed=1)
    wide = queries.astype(np.float32), items.astype(np.float32)
    for sides, wide_sides in [
        ((queries, items), wide),
        ((items,), wide[1:]),
        ((queries, wide[1]), wide),
        ((wide[0], items), wide),
    ]:
        for narrow, single in zip(
            knn_join(*sides, k=5, metric=metric, recall=1.0),
            knn_join(*wide_sides, k=5, metric=metric, recall=1.0),
            strict=True,
        ):
            np.testing.assert_array_equal(narrow, single, strict=True)
        if metric == "inner_product":
            continue
        radius = float(knn_join(*wide_sides, k=5, metric=metric)[0].mean())
        for narrow, single in zip(
            radius_join(*sides, radius=radius, metric=metric),
            radius_join(*wide_sides, radius=radius, metric=metric),
            strict=True,
        ):
            np.testing.assert_array_equal(narrow, single, strict=True)
    in_double = knn_join(queries, items.astype(np.float64), k=5, metric=metric)
    assert in_double.distances.dtype == np.float64
    expected = knn_join(queries.astype(np.float64), items.astype(np.float64), k=5, metric=metric)
    np.testing.assert_array_equal(in_double.indices, expected.indices)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_plan_finds_nearly_all(dtype):
    rows = narrow_rows(dtype, 12_000)
    plan = plan_knn_join(rows, k=10)
    found = knn_join(rows, k=10, plan=plan)
    exact = knn_join(rows, k=10, recall=1.0)
    # Of equally near ones any will do.
    assert (found.distances <= exact.distances[:, -1:]).mean() > 0.93


@pytest.mark.parametrize("dtype", DTYPES)
def test_none_is_copied(dtype):
    rows = narrow_rows(dtype, 30)
    assert array_matrix(rows, "items") is rows
    assert np.array_equal(array_matrix(rows[:, ::2], "items"), rows[:, ::2])


@pytest.mark.parametrize("dtype", DTYPES[:3])
def test_columns(dtype):
    rows = narrow_rows(dtype, 40)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    tables = [pa.table({"x": vectors, "row": range(40)})]
    if dtype != np.float16 or hasattr(pl, "Float16"):
        tables.append(pl.DataFrame(tables[0]))
    expected = knn_join(rows, k=1)
    for table in tables:
        found = join(table, on="x", k=1)
        assert np.asarray(found["row_right"]).tolist() == expected.indices[:, 0].tolist()
        np.testing.assert_array_equal(found["distance"], expected.distances[:, 0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_dedup_and_index(dtype):
    rows = narrow_rows(dtype, 60)
    wide = rows.astype(np.float32)
    np.testing.assert_array_equal(dedup(rows, 1e-3).groups, dedup(wide, 1e-3).groups)
    assert 0 < (~dedup(rows, 1e-3).keep).sum() < 30
    found, expected = Index.build(rows).knn(rows[:5], 3), Index.build(wide).knn(wide[:5], 3)
    np.testing.assert_array_equal(found.indices, expected.indices)


def column(rows, kind):
    """Rows as a column of Arrow."""
    values = pa.array(rows.ravel())
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(values, rows.shape[1])
    return pa.ListArray.from_arrays(np.arange(len(rows) + 1) * rows.shape[1], values)


def stored(rows, path):
    """A source of the rows, by how the path ends."""
    if path.endswith(".npy"):
        np.save(path, rows)
    elif path.endswith(".parquet"):
        pq.write_table(pa.table({"v": column(rows, "lists")}), path, row_group_size=90)
    elif path.endswith(".arrow"):
        pa.feather.write_feather(pa.table({"v": column(rows, "fixed")}), path)
    else:
        return pa.table({"v": column(rows, "lists")})
    return path


def pairs(path):
    table = pq.read_table(path).sort_by([("query", "ascending"), ("distance", "ascending")])
    return tuple(table[name].to_numpy() for name in ("query", "item", "distance"))


@pytest.mark.parametrize("kind", [".npy", ".parquet", ".arrow", "table"])
@pytest.mark.parametrize("dtype", DTYPES[:3])
def test_files_are_read_as_they_are(dtype, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows, queries = narrow_rows(dtype, 400), narrow_rows(dtype, 90, seed=1)
    items = stored(rows, f"items{kind}")
    dataset = open_dataset(items)
    assert (dataset.dtype, dataset.bits) == (dtype, False)
    np.testing.assert_array_equal(dataset.read(), rows, strict=True)
    for metric in METRICS:
        sides = stored(queries, f"queries{kind}"), items
        knn_join_files(*sides, k=5, metric=metric, out=f"{metric}.parquet")
        expected = knn_join(queries, rows, k=5, metric=metric)
        found = pairs(f"{metric}.parquet")
        np.testing.assert_array_equal(found[2], expected.distances.ravel(), strict=True)
    radius = float(knn_join(rows, k=5).distances.mean())
    radius_join_files(items, radius=radius, out="near.parquet")
    expected = radius_join(rows, radius=radius)
    np.testing.assert_array_equal(np.sort(pairs("near.parquet")[2]), np.sort(expected.distances))


def test_files_of_several_types_are_read_as_one_that_holds_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    signed, unsigned, halves = (narrow_rows(dtype, 40) for dtype in DTYPES[:3])
    for (one, other), dtype in [
        ((signed, unsigned), np.float32),
        ((signed, halves), np.float16),
        ((unsigned, halves), np.float16),
        ((unsigned, unsigned.astype(np.int16)), np.float32),
    ]:
        np.save("a.npy", one)
        np.save("b.npy", other)
        read = open_dataset(["a.npy", "b.npy"]).read()
        np.testing.assert_array_equal(read, np.concatenate([one, other]).astype(dtype), strict=True)
        knn_join_files("a.npy", "b.npy", k=3, out="near.parquet")
        expected = knn_join(one, other, k=3).distances.ravel()
        np.testing.assert_array_equal(pairs("near.parquet")[2], expected, strict=True)
        (tmp_path / "near.parquet").unlink()


@pytest.mark.parametrize("metric", ["euclidean", "inner_product"])
@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_files_out_of_core_and_in_groups(dtype, metric, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files_plan, "_BASE", 0)
    monkeypatch.setattr(files_plan, "_BATCH", (1 << 12, 1 << 16))
    rows = narrow_rows(dtype, 3000)
    keys = np.random.default_rng(2).integers(0, 40, 3000)
    pq.write_table(pa.table({"v": column(rows, "fixed"), "key": keys}), "items.parquet")
    common = {"k": 4, "metric": metric, "recall": 1.0}
    for within in (None, keys):
        exact = knn_join(rows, within=within, **common)
        for limit in ("1GB", 900_000):
            name = f"{within is None}-{limit}.parquet"
            by = None if within is None else "key"
            done = knn_join_files(
                "items.parquet", column="v", within=by, memory_limit=limit, out=name, **common
            )
            assert done.plan.out_of_core == (limit != "1GB")
            np.testing.assert_array_equal(pairs(name)[2], exact.distances.ravel())


def test_a_plan_of_files_counts_the_bytes_that_they_have(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for dtype in (np.uint8, np.float32):
        np.save(f"{np.dtype(dtype)}.npy", narrow_rows(np.uint8, 500).astype(dtype))
    for metric, share in (("euclidean", 4), ("inner_product", 1)):
        narrow, single = (
            plan_knn_join_files(f"{name}.npy", metric=metric).resident
            for name in ("uint8", "float32")
        )
        # For inner products they are copied in single precision.
        assert narrow.pop("vectors") * share == single.pop("vectors")
        assert narrow == single


def test_indexes_of_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = narrow_rows(np.int8, 300)
    np.save("items.npy", rows)
    build_index("items.npy", out="items.index")
    query_index("items.index", "items.npy", k=3, out="near.parquet")
    expected = Index.build(rows).knn(rows, 3)
    np.testing.assert_array_equal(pairs("near.parquet")[2], expected.distances.ravel())


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_groups_are_joined_as_float32(dtype, metric):
    rows = narrow_rows(dtype, 5000)
    keys = np.where(np.arange(5000) % 9 == 0, np.arange(5000) % 7, 99)
    for narrow, single in zip(
        knn_join(rows, k=3, metric=metric, within=keys, recall=1.0),
        knn_join(rows.astype(np.float32), k=3, metric=metric, within=keys, recall=1.0),
        strict=True,
    ):
        np.testing.assert_array_equal(narrow, single, strict=True)


@pytest.mark.parametrize("dtype", DTYPES[2:])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_named(dtype, value):
    rows = narrow_rows(dtype, 50)
    rows[37, 11] = value
    for call in (lambda: knn_join(rows, k=1), lambda: radius_join(rows, radius=1.0)):
        with pytest.raises(NotFiniteError) as raised:
            call()
        assert (raised.value.row, raised.value.dimension) == (37, 11)


def test_subnormal_halves_are_told_apart():
    rows = (np.arange(1, 200, dtype=np.uint16)[:, None] * 3).view(np.float16)
    distances, indices = knn_join(rows, k=1, recall=1.0)
    assert (distances == np.float32(3 * 2.0**-24)).all()
    assert (np.abs(indices[:, 0] - np.arange(199)) == 1).all()


def test_uint8_is_packed_bits_for_metrics_of_bits():
    bits = np.array([[0b1111], [0b0111], [0b1000]], np.uint8)
    assert knn_join(bits, k=1, metric="hamming").distances[:, 0].tolist() == [1, 1, 3]
    assert knn_join(bits, k=1).distances[:, 0].tolist() == [7, 1, 1]


@pytest.mark.parametrize("dtype", [np.bool_, np.complex64, ml_dtypes.float8_e5m2, ml_dtypes.int4])
def test_others_are_refused(dtype):
    with pytest.raises(TypeError, match=f"must hold real numbers but holds {np.dtype(dtype)}"):
        knn_join(np.zeros((3, 2), dtype), k=1)
