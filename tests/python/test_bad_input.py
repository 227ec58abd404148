"""Bad input ends in an exception that says what was wrong, or in a right answer."""

import copy
import pickle
import re
from functools import partial
from pathlib import Path

import lshjoin
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from frames import make_frame, rows_of
from lshjoin import (
    BucketedRandomProjectionLSH,
    Index,
    JoinPlan,
    NotFiniteError,
    RandomHyperplaneLSH,
    RowError,
    build_index,
    dedup_files,
    knn_join,
    knn_join_files,
    plan_knn_join,
    query_index,
    radius_join,
    radius_join_batches,
    radius_join_files,
)

ROWS = np.arange(12, dtype=np.float64).reshape(4, 3)


def estimator(**params):
    given = {"inputCol": "features", "outputCol": "hashes", "bucketLength": 4.0, **params}
    return BucketedRandomProjectionLSH(**given)


@pytest.fixture(scope="module")
def model():
    return estimator().fit(make_frame("polars", ROWS))


def uses(model, frame, other):
    """Every use of a model that looks at the vectors of ``frame``."""
    key = [0.0] * 3
    return {
        "transform": lambda: model.transform(frame),
        "neighbours": lambda: model.approxNearestNeighbors(frame, key, 1),
        "join left": lambda: model.approxSimilarityJoin(frame, other, 1.0),
        "join right": lambda: model.approxSimilarityJoin(other, frame, 1.0),
        "self-join": lambda: model.approxSimilarityJoin(frame, frame, 1.0),
        "knn join left": lambda: model.approxNearestNeighborsJoin(frame, other, 1),
        "knn join right": lambda: model.approxNearestNeighborsJoin(other, frame, 1),
    }


def refused(model, kind, frame, error, match):
    """``frame`` is refused by the model, whatever it is used for."""
    other = make_frame(kind, ROWS)
    for use in uses(model, frame, other).values():
        with pytest.raises(error, match=match):
            use()


def lists(kind, vectors, arrow_type=None):
    """A frame of lists of any lengths, with nulls."""
    arrow_type = arrow_type or pa.list_(pa.float64())
    if kind == "pandas":
        return pd.DataFrame({"id": range(len(vectors)), "features": vectors})
    table = pa.table({"id": range(len(vectors)), "features": pa.array(vectors, arrow_type)})
    return pl.DataFrame(table) if kind == "polars" else table


KINDS = ["pandas", "polars", "pyarrow"]


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_dimension(model, kind):
    frame = make_frame(kind, np.ones((5, 4)))
    message = r"The columns of A don't match the number of elements of x. A: 3, x: 4"
    refused(model, kind, frame, ValueError, message)


def test_wrong_dimension_of_the_key(model):
    frame = make_frame("polars", ROWS)
    with pytest.raises(ValueError, match=r"number of elements of x. A: 3, x: 2"):
        model.approxNearestNeighbors(frame, [1.0, 2.0], 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_that_are_not_finite(model, kind, value, dtype):
    rows = ROWS.astype(dtype)
    rows[2, 1] = value
    shown = "NaN" if np.isnan(value) else "inf"
    frame = make_frame(kind, rows)
    refused(model, kind, frame, NotFiniteError, rf"(?i)row 2 .*{shown}")
    with pytest.raises(NotFiniteError, match=rf"(?i)row 2 .*{shown}") as caught:
        estimator().fit(frame)
    assert (caught.value.row, caught.value.dimension) == (2, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_key_that_is_not_finite(model, value):
    with pytest.raises(ValueError, match=r"(?i)row 0 .*(nan|inf)"):
        model.approxNearestNeighbors(make_frame("polars", ROWS), [0.0, value, 0.0], 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_that_are_not_finite(value, dtype):
    rows = ROWS.astype(dtype)
    bad = rows.copy()
    bad[3, 0] = value
    for queries, items, side in (
        (None, bad, "items"),
        (bad, None, "items"),
        (bad, rows, "queries"),
        (rows, bad, "items"),
    ):
        for join in (knn_join, partial(radius_join, radius=1.0)):
            with pytest.raises(NotFiniteError, match=r"(?i)row 3 .*(nan|inf)") as caught:
                join(queries, items)
            error = caught.value
            assert (error.row, error.dimension, error.side) == (3, 0, side)


def test_errors_about_a_row_are_values():
    bad = ROWS.copy()
    bad[2, 1] = np.nan
    with pytest.raises(NotFiniteError) as caught:
        Index.build(bad)
    for again in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
        assert type(again) is NotFiniteError
        assert str(again) == str(caught.value)
        assert (again.row, again.dimension, again.side) == (2, 1, "items")
    with pytest.raises(RowError, match="scale all vectors") as caught:
        knn_join(np.full((4, 3), 3e38, np.float32), k=1)
    assert pickle.loads(pickle.dumps(caught.value)).row == caught.value.row
    for null in (None, [1.0, None, 2.0], [1.0]):
        with pytest.raises(RowError) as caught:
            knn_join(pa.array([[0.0, 1.0, 2.0], null]), k=1)
        assert (caught.value.row, caught.value.side) == (1, None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", [1, 3])
def test_ragged_lists(model, kind, row):
    vectors = ROWS.tolist()
    vectors[row] = [1.0, 2.0]
    frame = lists(kind, vectors)
    message = rf"A: 3, x: 2 \(column features, row {row}\)"
    refused(model, kind, frame, ValueError, message)
    with pytest.raises(ValueError, match=message):
        estimator().fit(frame)


@pytest.mark.parametrize("kind", KINDS)
def test_null_rows(model, kind):
    frame = lists(kind, [*ROWS.tolist(), None])
    message = "Column features: row 4 is null"
    refused(model, kind, frame, ValueError, message)
    with pytest.raises(ValueError, match=message):
        estimator().fit(frame)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fixed", [False, True])
def test_nulls_in_rows(model, kind, fixed):
    vectors = ROWS.tolist()
    vectors[2][1] = None
    frame = lists(kind, vectors, pa.list_(pa.float64(), 3) if fixed else None)
    message = "Column features: row 2 holds a null"
    refused(model, kind, frame, ValueError, message)
    with pytest.raises(ValueError, match=message):
        estimator().fit(frame)


def test_rows_are_counted_over_chunks(model):
    parts = [pa.array(ROWS.tolist()), pa.array([ROWS[0].tolist(), None])]
    with pytest.raises(ValueError, match="row 5 is null"):
        model.transform(pa.table({"features": pa.chunked_array(parts)}))


def test_missing_pandas_cells(model):
    frame = pd.DataFrame({"features": [*ROWS.tolist(), float("nan")]})
    with pytest.raises(ValueError, match="row 4 is null"):
        model.transform(frame)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_without_elements(kind):
    with pytest.raises(ValueError, match="row 0 has no elements"):
        estimator().fit(lists(kind, [[], []]))


@pytest.mark.parametrize("kind", [*KINDS, "stream"])
def test_empty_frames(model, kind):
    full, empty = make_frame(kind, ROWS), make_frame(kind, ROWS[:0].reshape(0, 3))
    with pytest.raises(ValueError, match="cannot fit on an empty frame"):
        estimator().fit(empty)
    for name, use in {**uses(model, empty, full), **uses(model, empty, empty)}.items():
        assert rows_of(use()) == [], name
    columns = list(rows_of(model.transform(full))[0])
    assert columns == ["id", "features", "hashes"]
    joined = model.approxSimilarityJoin(empty, full, 1.0)
    names = joined.column_names if isinstance(joined, pa.Table) else list(joined.columns)
    assert len(names) == (7 if kind == "pandas" else 3)


def test_empty_lists_column(model):
    # No row tells the dimension: the type of the column says list, not how long.
    assert rows_of(model.transform(lists("pyarrow", []))) == []
    assert rows_of(model.transform(lists("polars", []))) == []


@pytest.mark.parametrize("kind", KINDS)
def test_more_neighbours_than_rows(model, kind):
    frame = make_frame(kind, np.zeros((4, 3)))
    for k in (4, 5, 2**40):
        assert len(model.approxNearestNeighbors(frame, [0.0, 0.0, 0.0], k)) == 4
        assert len(model.approxNearestNeighborsJoin(frame, frame, k)) == 16
    with pytest.raises((MemoryError, ValueError)):
        knn_join(items=ROWS, k=2**60)


@pytest.mark.parametrize("k", [0, -1])
def test_less_than_one_neighbour(model, k):
    frame = make_frame("polars", ROWS)
    message = "The number of nearest neighbors cannot be less than 1"
    with pytest.raises(ValueError, match=message):
        model.approxNearestNeighbors(frame, ROWS[0], k)
    with pytest.raises(ValueError, match=message):
        model.approxNearestNeighborsJoin(frame, frame, k)
    with pytest.raises(ValueError, match=message):
        knn_join(items=ROWS, k=k)


def test_numbers_of_neighbours_that_are_not_whole(model):
    with pytest.raises(TypeError):
        knn_join(items=ROWS, k=1.5)
    with pytest.raises(TypeError):
        model.approxNearestNeighbors(make_frame("polars", ROWS), ROWS[0], "3")


@pytest.mark.parametrize("kind", KINDS)
def test_thresholds(model, kind):
    frame = make_frame(kind, ROWS)
    # As in Spark: nothing is nearer than a negative distance.
    assert len(model.approxSimilarityJoin(frame, frame, -1.0)) == 0
    assert len(model.approxSimilarityJoin(frame, frame, 0.0)) == 0
    assert len(model.approxSimilarityJoin(frame, frame, np.inf)) >= 4
    with pytest.raises(ValueError, match="threshold is NaN"):
        model.approxSimilarityJoin(frame, frame, np.nan)
    with pytest.raises(TypeError, match="Could not convert near to float"):
        model.approxSimilarityJoin(frame, frame, "near")


@pytest.mark.parametrize("radius", [-1.0, -np.inf, np.nan])
def test_radius_out_of_range(radius):
    with pytest.raises(ValueError, match="radius must not be negative or NaN"):
        radius_join(items=ROWS, radius=radius)
    with pytest.raises(ValueError, match="radius must not be negative or NaN"):
        radius_join_batches(items=ROWS, radius=radius)


@pytest.mark.parametrize("size", [0, -1])
def test_batch_size_out_of_range(size):
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, not {size}"):
        radius_join_batches(items=ROWS, radius=1.0, batch_size=size)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_column(model, kind):
    frame = make_frame(kind, ROWS)
    message = "No such struct field `nope` in `id`, `features`."
    with pytest.raises(ValueError, match=message):
        estimator(inputCol="nope").fit(frame)
    refused(model.copy({model.inputCol: "nope"}), kind, frame, ValueError, message)


def test_column_that_is_there_twice():
    frame = pd.concat([make_frame("pandas", ROWS)] * 2, axis=1)
    with pytest.raises(ValueError, match="More than one struct field `features`"):
        estimator().fit(frame)


@pytest.mark.parametrize("kind", KINDS)
def test_output_column_that_is_there(model, kind):
    frame = make_frame(kind, ROWS)
    with pytest.raises(ValueError, match=r"Column id already exists\."):
        estimator(outputCol="id").fit(frame)
    with pytest.raises(ValueError, match=r"Column hashes already exists\."):
        model.transform(model.transform(frame))
    with pytest.raises(ValueError, match=r"Column datasetA already exists\."):
        model.approxSimilarityJoin(frame, frame, 1.0, distCol="datasetA")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "values",
    [[1, 2, 3, 4], ["a", "b", "c", "d"], [["a"]] * 4, [[True]] * 4, [[[1.0]]] * 4],
    ids=["numbers", "strings", "lists of strings", "lists of booleans", "lists of lists"],
)
def test_columns_of_other_types(model, kind, values):
    make = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}[kind]
    frame = make({"id": [0, 1, 2, 3], "features": values})
    message = "Column features must be of type list of numbers but was actually"
    with pytest.raises(TypeError, match=message):
        estimator().fit(frame)
    refused(model, kind, frame, TypeError, message)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64, np.uint64])
def test_integer_features(kind, dtype):
    lsh = estimator(numHashTables=3)
    whole, floats = make_frame(kind, ROWS.astype(dtype)), make_frame(kind, ROWS)
    model = lsh.fit(whole)
    for use in uses(model, whole, floats):
        ours, theirs = uses(model, whole, floats)[use](), uses(model, floats, floats)[use]()
        assert len(ours) == len(theirs)
    hashes = [[row["hashes"] for row in rows_of(model.transform(f))] for f in (whole, floats)]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(
    "array",
    [
        np.ones((2, 2), bool),
        np.ones((2, 2), complex),
        np.array([["a", "b"]]),
        np.array([[1.0, None]]),
        np.array([["2020-01-01"]], "datetime64[D]"),
        np.ones((2, 2), np.longdouble),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_of_other_types(array):
    with pytest.raises(TypeError, match="items must hold real numbers but holds"):
        knn_join(items=array, k=1)
    with pytest.raises(TypeError, match="queries must hold real numbers but holds"):
        radius_join(array, np.ones((2, 2)), 1.0)


def test_dimensions_of_arrays():
    with pytest.raises(ValueError, match=r"items must be 2-D.*has 1 dimensions.*reshape\(1, -1\)"):
        knn_join(items=np.ones(3), k=1)
    for shape in ((), (2, 2, 2)):
        with pytest.raises(ValueError, match=f"2-D, one vector a row, but has {len(shape)} dim"):
            knn_join(items=np.ones(shape), k=1)
    with pytest.raises(ValueError, match="items has no columns"):
        knn_join(items=np.ones((3, 0)), k=1)
    with pytest.raises(ValueError, match="queries have 2 columns but items have 3"):
        knn_join(np.ones((1, 2)), ROWS, 1)
    with pytest.raises(ValueError, match="items: all rows must have the same length"):
        knn_join(items=[[1.0, 2.0], [1.0]], k=1)


def test_dimensions_of_keys(model):
    frame = make_frame("polars", ROWS)
    for key in (3.0, ROWS):
        with pytest.raises(ValueError, match="key must be one vector"):
            model.approxNearestNeighbors(frame, key, 1)
    for key in (["a", "b", "c"], None):
        with pytest.raises((TypeError, ValueError), match="key must"):
            model.approxNearestNeighbors(frame, key, 1)


def test_missing_arguments():
    for join in (knn_join, plan_knn_join):
        with pytest.raises(TypeError, match="there is nothing to join; pass queries and items"):
            join()
        with pytest.raises(TypeError, match="items is the number 5; .* pass k"):
            join(ROWS, 5)
    for join in (radius_join, radius_join_batches):
        with pytest.raises(TypeError, match="a radius is missing"):
            join(ROWS)
        with pytest.raises(TypeError, match="there is nothing to join; pass queries and items"):
            join(radius=1.0)
    with pytest.raises(TypeError, match="there is nothing to join; pass queries and items"):
        knn_join_files(out="p.parquet")
    with pytest.raises(ValueError, match="metric must be .*euclidean.*not .*chebyshev"):
        knn_join(items=ROWS, k=1, metric="chebyshev")


@pytest.mark.parametrize("num_threads", [0, -1])
def test_numbers_of_threads(model, num_threads):
    frame = make_frame("polars", ROWS)
    with pytest.raises(ValueError, match=f"num_threads must be at least 1.*{num_threads}"):
        knn_join(items=ROWS, k=1, num_threads=num_threads)
    with pytest.raises(ValueError, match=f"num_threads must be at least 1.*{num_threads}"):
        model.approxSimilarityJoin(frame, frame, 1.0, num_threads=num_threads)


def test_arrays_without_rows():
    none = np.empty((0, 3))
    for queries, items, n in ((none, ROWS, 0), (ROWS, none, 4), (none, none, 0), (None, none, 0)):
        distances, indices = knn_join(queries, items, 2)
        assert distances.shape == indices.shape == (n, 2)
        assert (indices == -1).all()
        assert np.isinf(distances).all()
        lims, distances, indices = radius_join(queries, items, 1.0)
        assert lims.tolist() == [0] * (n + 1)
        assert len(distances) == len(indices) == 0


def test_duplicates_are_neighbours():
    rows = np.repeat(ROWS, 2, axis=0)
    distances, indices = knn_join(items=rows, k=1)
    assert indices[:, 0].tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    assert (distances == 0).all()
    lims, _, indices = radius_join(items=rows, radius=1e-9)
    assert indices.tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    assert lims.tolist() == list(range(9))


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
@pytest.mark.parametrize("kind", KINDS)
def test_all_rows_equal(kind, value):
    rows = np.full((60, 3), value)
    frame = make_frame(kind, rows)
    model = estimator(numHashTables=3, numHashFunctions=2).fit(frame)
    assert len(model.approxSimilarityJoin(frame, frame, 1e-6)) == 60 * 60
    nearest = rows_of(model.approxNearestNeighbors(frame, rows[0], 5))
    assert [row["id"] for row in nearest] == [0, 1, 2, 3, 4]
    assert len(model.approxNearestNeighborsJoin(frame, frame, 5)) == 60 * 5
    distances, indices = knn_join(items=rows, k=3)
    assert (distances == 0).all()
    assert indices[0].tolist() == [1, 2, 3]
    assert indices[59].tolist() == [0, 1, 2]
    assert len(radius_join(items=rows, radius=1e-6).indices) == 60 * 59


def test_zero_vectors_and_cosine():
    rows = np.array([[0.0, 0.0], [1.0, 0.0]])
    distances, _ = knn_join(rows, rows, 2, metric="cosine")
    assert distances.tolist() == [[1.0, 1.0], [0.0, 1.0]]
    frame, other = make_frame("polars", rows), make_frame("polars", rows)
    model = RandomHyperplaneLSH(inputCol="features").fit(frame)
    for pairs in (
        model.approxSimilarityJoin(frame, frame, 3.0),
        model.approxSimilarityJoin(frame, other, 3.0),
    ):
        zeros = [row for row in rows_of(pairs) if row["datasetA"]["id"] == row["datasetB"]["id"]]
        assert [row["distCol"] for row in zeros] == [1.0, 0.0]
    assert len(model.approxSimilarityJoin(frame, frame, 1.0)) == 1


def test_buckets_beyond_32_bits(kind):
    frame = make_frame(kind, ROWS * 1e12)
    with pytest.raises(ValueError, match=r"bucket .* does not fit .*larger bucket length"):
        estimator(bucketLength=1e-3).fit(frame)


def test_no_data_frame(model):
    for thing in (ROWS, [1, 2], {"features": ROWS}, None):
        with pytest.raises(TypeError, match="must be a pandas or polars DataFrame, a pyarrow"):
            model.transform(thing)
        with pytest.raises(TypeError, match="must be a pandas or polars DataFrame, a pyarrow"):
            estimator().fit(thing)
    with pytest.raises(TypeError, match=r"LazyFrame; pass dataset\.collect\(\)"):
        model.transform(make_frame("polars", ROWS).lazy())


def test_frames_of_two_kinds(model):
    with pytest.raises(TypeError, match="datasetA is a pandas frame but datasetB is a polars one"):
        model.approxSimilarityJoin(make_frame("pandas", ROWS), make_frame("polars", ROWS), 1.0)


def test_inner_products_are_no_distances():
    with pytest.raises(ValueError, match="inner products have none"):
        radius_join(items=ROWS, radius=1.0, metric="inner_product")
    with pytest.raises(ValueError, match="inner products have none"):
        radius_join_batches(items=ROWS, radius=1.0, metric="inner_product").read_all()


def test_engine_checks_too():
    """What the package's own checks let through, if ever, is still no undefined behaviour."""
    engine = lshjoin._lshjoin
    exact = {"metric": "euclidean", "plan": lshjoin.JoinPlan.exact().to_json()}
    for rows in (np.asfortranarray(ROWS), ROWS[:, ::2], ROWS.astype(int), ROWS[0], "rows"):
        with pytest.raises((TypeError, ValueError)):
            engine.knn_join(None, rows, 1, **exact)
    with pytest.raises((TypeError, ValueError)):
        engine.knn_join(ROWS.astype(np.float32), ROWS, 1, **exact)


def test_masked_arrays():
    masked = np.ma.masked_less(ROWS, 0.5)
    whole = np.ma.masked_array(ROWS)
    joins = {
        "knn": lambda *sides: knn_join(*sides, 1),
        "plan": lambda *sides: plan_knn_join(*sides, 1),
        "radius": lambda *sides: radius_join(*sides, 9.0),
        "batches": lambda *sides: radius_join_batches(*sides, 9.0),
    }
    for join in joins.values():
        for hidden in (masked, np.ma.masked_array(ROWS, mask=True)):
            with pytest.raises(ValueError, match=r"items is masked, first at \[0, 0\]"):
                join(None, hidden)
            with pytest.raises(ValueError, match="queries is masked"):
                join(hidden, ROWS)
        for rows in (list(masked), tuple(masked), [*ROWS[:1], masked[0]]):
            with pytest.raises(ValueError, match="row . of items is masked"):
                join(None, rows)
    # Nothing is hidden by a mask that hides nothing.
    for rows in (whole, list(whole)):
        assert knn_join(items=rows, k=2).indices.tolist() == knn_join(items=ROWS, k=2)[1].tolist()
    index = Index.build(ROWS)
    for use in (
        Index.build,
        lambda rows: index.knn(rows, 1),
        lambda rows: index.radius(rows, 1.0),
        lambda rows: index.add(rows, range(10, 14)),
    ):
        with pytest.raises(ValueError, match="is masked"):
            use(masked)
    cells = pd.DataFrame({"features": list(masked)})
    with pytest.raises(ValueError, match="row 0 of column features is masked"):
        estimator().fit(cells)
    with pytest.raises(ValueError, match="is masked"):
        knn_join(items=cells["features"], k=1)


def test_masked_keys(model):
    key = np.ma.masked_equal([0.0, 1.0, 2.0], 1.0)
    with pytest.raises(ValueError, match=r"key is masked, first at \[1\]"):
        model.approxNearestNeighbors(make_frame("polars", ROWS), key, 1)


def test_keys_that_are_rows_of_columns(model):
    frame = make_frame("polars", ROWS)
    expected = rows_of(model.approxNearestNeighbors(frame, ROWS[1], 2))
    column = make_frame("pyarrow", ROWS)["features"]
    keys = [column[1], pa.array(ROWS.tolist())[1], frame["features"][1], pd.Series(ROWS[1])]
    for key in keys:
        assert rows_of(model.approxNearestNeighbors(frame, key, 2)) == expected


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "lil", "dok", "bsr"])
@pytest.mark.parametrize("container", ["array", "matrix"])
def test_sparse_matrices(kind, container):
    rows = getattr(scipy.sparse, f"{kind}_{container}")(ROWS)
    for name, sides in (("items", (None, rows)), ("queries", (rows, ROWS))):
        message = rf"{name} must be a dense array, not a {kind}_{container}; pass {name}.toarray()"
        with pytest.raises(TypeError, match=re.escape(message)):
            knn_join(*sides, 1)
        with pytest.raises(TypeError, match=re.escape(message)):
            radius_join(*sides, 1.0)
    with pytest.raises(TypeError, match=r"pass items.toarray\(\)"):
        Index.build(rows)


def test_columns_that_hold_no_vectors():
    words = pd.Series(["a", "b"])
    for column, error in (
        (words, TypeError),
        (pd.Series([1.0, 2.0]), TypeError),
        (pl.Series(["a", "b"]), TypeError),
        (pl.Series([object(), object()]), TypeError),
        (pa.array([1.0, 2.0]), TypeError),
        (pa.nulls(3), TypeError),
        (pa.array([["a"], ["b"]]), TypeError),
        (pd.Series([[1.0, 2.0], [1.0]]), ValueError),
        (pd.Series([[1.0, 2.0], None]), ValueError),
        (pl.Series([[1.0, 2.0], None]), ValueError),
        (pa.array([[1.0, None]]), ValueError),
        (pa.array([[1.0], None], pa.list_view(pa.float64())), ValueError),
        (pa.array([[1.0], [1.0, 2.0]], pa.list_view(pa.float64())), ValueError),
        (np.array([[1.0], None, 3], dtype=object), (TypeError, ValueError)),
    ):
        with pytest.raises(error, match="(?i)(column )?items"):
            knn_join(items=column, k=1)
    matrices = pa.fixed_shape_tensor(pa.float64(), [2, 2])
    storage = pa.array([[1.0] * 4] * 3, pa.list_(pa.float64(), 4))
    with pytest.raises(TypeError, match="must be of type list of numbers but was actually ext"):
        knn_join(items=pa.ExtensionArray.from_storage(matrices, storage), k=1)


HUGE = [10**400, -(10**400), 10**10_000]


@pytest.mark.parametrize("number", HUGE, ids=["400 digits", "negative", "10,000 digits"])
def test_numbers_of_hundreds_of_digits(number, model, tmp_path):
    frame, index = make_frame("polars", ROWS), Index.build(ROWS)
    np.save(tmp_path / "items.npy", ROWS)
    files = {"items": tmp_path / "items.npy", "out": tmp_path / "p.parquet"}
    for use in (
        lambda: knn_join(items=ROWS, k=number),
        lambda: knn_join(items=ROWS, recall=number),
        lambda: knn_join(items=ROWS, seed=number),
        lambda: plan_knn_join(items=ROWS, recall=number),
        lambda: radius_join(items=ROWS, radius=number),
        lambda: radius_join_batches(items=ROWS, radius=number),
        lambda: radius_join_batches(items=ROWS, radius=1.0, batch_size=number),
        lambda: index.knn(ROWS, number),
        lambda: index.knn(ROWS, recall=number),
        lambda: index.radius(ROWS, number),
        lambda: index.knn_of_chunk(range(number, 0), plan=JoinPlan.exact()),
        lambda: Index.build_on_disk(tmp_path / "i", None, count=number, dim=1),
        lambda: JoinPlan.ivf(lists=number, probes=1),
        lambda: JoinPlan.ivf(lists=1, probes=number),
        lambda: JoinPlan.ivf(lists=1, probes=1, until_recall=number),
        lambda: model.approxSimilarityJoin(frame, frame, number),
        lambda: estimator(numHashTables=number),
        lambda: BucketedRandomProjectionLSH.suggest(frame, threshold=number),
        lambda: BucketedRandomProjectionLSH.suggest(frame, numNearestNeighbors=2, recall=number),
        lambda: knn_join_files(k=number, **files),
        lambda: knn_join_files(recall=number, **files),
        lambda: knn_join_files(memory_limit=number, **files),
        lambda: radius_join_files(radius=number, **files),
    ):
        with pytest.raises(ValueError, match=r"\S") as caught:
            use()
        assert len(str(caught.value)) < 300
    if number > 0:  # so many neighbours there are not
        assert len(model.approxNearestNeighbors(frame, ROWS[0], number)) == 4
        assert len(model.approxNearestNeighborsJoin(frame, frame, number)) == 16
    assert [path.name for path in tmp_path.iterdir()] == ["items.npy"]


@pytest.mark.parametrize("radius", ["1", True, None, 1j])
def test_radii_that_are_no_numbers(radius):
    for join in (radius_join, radius_join_batches):
        with pytest.raises(TypeError, match=r"must be a number, not the|missing"):
            join(items=ROWS, radius=radius)


def test_urls(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("items.npy", ROWS)
    for url in ("s3://bucket/k.parquet", "gs:/b/k.parquet", Path("https://host/k.parquet")):
        for use in (
            lambda url: knn_join_files(items="items.npy", out="k.parquet", work_dir=url),
            lambda url: build_index("items.npy", out=url),
            lambda url: query_index(url, "items.npy", out="k.parquet"),
            model.save,
            type(model).load,
        ):
            with pytest.raises(ValueError, match=r"is a URL, but indexes, .* are on this machine"):
                use(url)
    url = "nosuch://bucket/k.parquet"
    for use in (
        lambda: knn_join_files(items="items.npy", out=url),
        lambda: radius_join_files(items="items.npy", radius=1.0, out=url),
        lambda: dedup_files("items.npy", 1.0, out=url),
        lambda: query_index("i", "items.npy", out=url),
        lambda: knn_join_files(items=url, out="k.parquet"),
    ):
        # Where fsspec is, it does not know it either.
        with pytest.raises(
            (ValueError, ImportError), match="nosuch://bucket/k.parquet (can't|needs)"
        ):
            use()
    assert [path.name for path in tmp_path.iterdir()] == ["items.npy"]


@pytest.mark.parametrize("name", ["k.tsv", "k", "k.parquet.gz", "k.npy", ".parquet"])
def test_names_that_say_no_format(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("items.npy", ROWS)
    Index.build(ROWS).save("i")
    for use in (
        lambda: knn_join_files(items="items.npy", out=name),
        lambda: radius_join_files(items="items.npy", radius=1.0, out=name),
        lambda: dedup_files("items.npy", 1.0, out=name),
        lambda: query_index("i", "items.npy", out=name),
    ):
        with pytest.raises(ValueError, match=f"{name} does not say in which format"):
            use()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i", "items.npy"]
