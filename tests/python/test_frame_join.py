"""lshjoin.join of data frames, against brute force over their rows."""

import subprocess
import sys

import lshjoin
import lshjoin.polars
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from frames import make_frame, rows_of
from lshjoin import NotFiniteError, RowError, join

KINDS = ["pandas", "polars", "pyarrow", "stream"]


@pytest.fixture
def left(rng):
    return rng.standard_normal((20, 4))


@pytest.fixture
def right(rng):
    return rng.standard_normal((31, 4))


def distances(a, b):
    return np.linalg.norm(a[:, None] - b[None], axis=2)


def expected(truth, chosen):
    """By row, nearest first: the pairs that are chosen."""
    pairs = [(row, item, truth[row, item]) for row, item in np.argwhere(chosen).tolist()]
    return sorted(pairs, key=lambda pair: (pair[0], pair[2], pair[1]))


def nearest(truth, k):
    return np.argsort(np.argsort(truth, axis=1), axis=1) < k


def assert_pairs(frame, pairs):
    rows = rows_of(frame)
    assert [(row["id_left"], row["id_right"]) for row in rows] == [pair[:2] for pair in pairs]
    np.testing.assert_allclose([row["distance"] for row in rows], [pair[2] for pair in pairs])
    assert all(list(row) == ["id_left", "id_right", "distance"] for row in rows)


def assert_kind(frame, kind):
    types = {"pandas": pd.DataFrame, "polars": pl.DataFrame}
    assert type(frame) is types.get(kind, pa.Table)


def test_nearest(kind, left, right):
    truth = distances(left, right)
    found = join(make_frame(kind, left), make_frame(kind, right), on="features", k=3)
    assert_kind(found, kind)
    assert_pairs(found, expected(truth, nearest(truth, 3)))


def test_within_a_radius(kind, left, right):
    truth = distances(left, right)
    found = join(make_frame(kind, left), make_frame(kind, right), on="features", radius=1.7)
    assert_kind(found, kind)
    assert_pairs(found, expected(truth, truth < 1.7))


def test_with_itself(kind, left):
    truth = distances(left, left)
    np.fill_diagonal(truth, np.inf)
    frame = make_frame(kind, left)
    assert_pairs(join(frame, on="features", k=2), expected(truth, nearest(truth, 2)))
    assert_pairs(join(frame, on="features", radius=1.5), expected(truth, truth < 1.5))
    assert len(rows_of(join(frame, frame, on="features", k=1))) == 20
    itself = rows_of(join(frame, frame, on="features", k=1))
    assert all(row["id_left"] == row["id_right"] for row in itself)


def test_ten_nearest_unless_told_otherwise(left, right):
    found = join(make_frame("polars", left), make_frame("polars", right), on="features")
    assert found.height == 20 * 10


def test_options_are_those_of_knn_join(left, right):
    frames = make_frame("polars", left), make_frame("polars", right)
    for metric in ("manhattan", "cosine", "inner_product"):
        found = join(*frames, on="features", k=4, metric=metric, recall=1.0, num_threads=1)
        direct = lshjoin.knn_join(left, right, 4, metric=metric, recall=1.0)
        assert found["id_right"].to_list() == direct.indices.ravel().tolist()
        assert found["distance"].to_list() == direct.distances.ravel().tolist()


def test_rows_without_a_neighbour(kind, left, right):
    left[3] += 100
    left[19] -= 100
    truth = distances(left, right)
    a, b = make_frame(kind, left), make_frame(kind, right)
    inner = join(a, b, on="features", radius=1.7)
    kept = join(a, b, on="features", radius=1.7, how="left")
    assert_kind(kept, kind)
    rows = rows_of(kept)
    alone = [row for row in rows if pd.isna(row["id_right"])]
    lonely = np.flatnonzero(~(truth < 1.7).any(axis=1)).tolist()
    assert {3, 19} <= set(lonely)
    assert [row["id_left"] for row in alone] == lonely
    assert all(pd.isna(row["distance"]) for row in alone)
    assert [row for row in rows if not pd.isna(row["id_right"])] == rows_of(inner)
    assert [row["id_left"] for row in rows] == sorted(row["id_left"] for row in rows)


def test_nobody_has_a_neighbour(kind, left):
    frame = make_frame(kind, left)
    assert rows_of(join(frame, on="features", radius=0.0)) == []
    alone = rows_of(join(frame, on="features", radius=0.0, how="left"))
    assert [row["id_left"] for row in alone] == list(range(20))
    assert all(pd.isna(row["id_right"]) and pd.isna(row["distance"]) for row in alone)


def test_no_rows(kind, left):
    none, some = make_frame(kind, left[:0]), make_frame(kind, left)
    for a, b in ((none, some), (some, none), (none, none), (none, None)):
        assert rows_of(join(a, b, on="features", k=2)) == []
        assert rows_of(join(a, b, on="features", radius=2.0)) == []
    assert len(rows_of(join(some, none, on="features", k=2, how="left"))) == 20
    assert rows_of(join(none, some, on="features", k=2, how="left")) == []


def test_fewer_neighbours_than_asked_for(kind, left):
    frame = make_frame(kind, left[:3])
    assert len(rows_of(join(frame, on="features", k=10))) == 6
    assert len(rows_of(join(make_frame(kind, left[:1]), on="features", how="left"))) == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16])
def test_types(kind, dtype):
    rows = np.array([[0, 0], [3, 4]], dtype)
    wide = dtype == np.float64
    found = rows_of(join(make_frame(kind, rows), on="features", k=1))
    assert [row["distance"] for row in found] == [5.0, 5.0]
    typed = join(make_frame("polars", rows), on="features", k=1)
    assert typed["distance"].dtype == (pl.Float64 if wide else pl.Float32)


# Columns and their names.


def texts(kind, table):
    table = pa.table(table)
    return {"pandas": table.to_pandas, "polars": lambda: pl.DataFrame(table)}.get(
        kind, lambda: table
    )()


A = {"v": [[0.0], [9.0]], "id": [1, 2], "text": ["a", "b"], "year": [1990, 1991]}
B = {"name": ["x", "y"], "id": [7, 8], "v": [[1.0], [8.5]]}


@pytest.mark.parametrize("kind", KINDS[:3])
def test_suffixes_only_where_names_clash(kind):
    found = rows_of(join(texts(kind, A), texts(kind, B), on="v", k=1))
    assert found == [
        {"id_left": 1, "text": "a", "year": 1990, "name": "x", "id_right": 7, "distance": 1.0},
        {"id_left": 2, "text": "b", "year": 1991, "name": "y", "id_right": 8, "distance": 0.5},
    ]
    found = rows_of(join(texts(kind, A), texts(kind, B), on="v", k=1, suffixes=("", "_b")))
    assert list(found[0]) == ["id", "text", "year", "name", "id_b", "distance"]


@pytest.mark.parametrize("kind", KINDS[:3])
def test_chosen_columns(kind):
    a, b = texts(kind, A), texts(kind, B)
    found = rows_of(join(a, b, on="v", k=1, columns=["name", "year", "v", "year"]))
    assert list(found[0]) == ["year", "v_left", "name", "v_right", "distance"]
    assert [list(row["v_left"]) for row in found] == [[0.0], [9.0]]
    assert [list(row["v_right"]) for row in found] == [[1.0], [8.5]]
    assert list(rows_of(join(a, b, on="v", k=1, columns=["text"]))[0]) == ["text", "distance"]
    assert list(rows_of(join(a, b, on="v", k=1, columns=[]))[0]) == ["distance"]
    alone = rows_of(join(a, on="v", k=1, columns=["id"]))
    assert alone == [
        {"id_left": 1, "id_right": 2, "distance": 9.0},
        {"id_left": 2, "id_right": 1, "distance": 9.0},
    ]


@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_column_called_distance(kind):
    measured = texts(kind, {"distance": [5, 6], "v": [[0.0], [9.0]]})
    found = rows_of(join(measured, texts(kind, B), on="v", k=1, columns=["distance", "name"]))
    assert [list(row) for row in found] == [["distance_left", "name", "distance"]] * 2
    assert [row["distance_left"] for row in found] == [5, 6]


@pytest.mark.parametrize("kind", KINDS[:3])
def test_names_that_would_come_twice(kind):
    a, b = texts(kind, A), texts(kind, B)
    with pytest.raises(ValueError, match="would have 2 columns 'id'"):
        join(a, b, on="v", suffixes=("", ""))
    clash = texts(kind, A | {"id_right": [0, 0]})
    with pytest.raises(ValueError, match="would have 2 columns 'id_right'"):
        join(clash, b, on="v")


def test_names_like_patterns():
    frame = pl.DataFrame({"^.*$": [1, 2], "*": [3, 4], "v": [[0.0], [1.0]]})
    assert join(frame, on="v", k=1).columns == [
        *["^.*$_left", "*_left", "^.*$_right", "*_right"],
        "distance",
    ]


@pytest.mark.parametrize("kind", KINDS[:3])
def test_values_of_all_kinds(kind):
    table = {
        "v": [[0.0], [1.0], [50.0]],
        "text": ["a", None, "ä"],
        "flag": [True, False, None],
        "list": [[1, 2], [], None],
        "time": pa.array([0, 1, 2], pa.timestamp("ms")),
        "struct": [{"x": 1}, {"x": 2}, None],
    }
    frame = texts(kind, table)
    found = join(frame, on="v", radius=2.0, how="left")
    text = [row["text_right"] for row in rows_of(found)]
    assert [None if pd.isna(value) else value for value in text] == [None, "a", None]
    if kind != "pandas":
        assert [row["list_right"] for row in rows_of(found)] == [[], [1, 2], None]
        assert [row["flag_right"] for row in rows_of(found)] == [False, True, None]
        assert [row["struct_right"] for row in rows_of(found)] == [{"x": 2}, {"x": 1}, None]


# What is of one library.


def test_index_of_pandas(left, right):
    a = make_frame("pandas", left).set_index(pd.Index(list("abcdefghijklmnopqrst"), name="key"))
    b = make_frame("pandas", right).set_index(np.arange(31)[::-1])
    found = join(a, b, on="features", k=2)
    assert found.index.tolist() == [letter for letter in a.index for _ in range(2)]
    assert found.index.name == "key"
    assert found.loc["c", "id_left"].tolist() == [2, 2]
    direct = lshjoin.knn_join(left, right, 2)
    assert found["id_right"].tolist() == direct.indices.ravel().tolist()
    kept = join(a, b.reset_index(), on="features", radius=0.5, how="left", columns=["id", "index"])
    assert set(kept.index) == set(a.index)
    same = a.set_index(np.zeros(20, int))
    assert (join(same, b, on="features", k=2).index == 0).all()
    pairs = pd.MultiIndex.from_product([range(4), range(5)])
    assert join(a.set_index(pairs), b, on="features", k=1).index.equals(pairs)


def test_pandas_of_arrow_columns(left):
    table = pa.table({"features": left.tolist(), "text": [f"text {row}" for row in range(20)]})
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    found = join(frame, on="features", radius=1.0, how="left")
    assert isinstance(found["text_right"].dtype, pd.ArrowDtype)
    expected = join(table, on="features", radius=1.0, how="left").to_pylist()
    assert found["text_right"].astype(object).where(found["text_right"].notna(), None).tolist() == [
        row["text_right"] for row in expected
    ]


def test_lazy_frames(left, right):
    a, b = make_frame("polars", left), make_frame("polars", right)
    for options in ({"k": 3}, {"radius": 1.7}, {"radius": 1.0, "how": "left"}):
        eager = join(a, b, on="features", **options)
        for one, other in ((a.lazy(), b.lazy()), (a.lazy(), b)):
            lazy = join(one, other, on="features", **options)
            assert type(lazy) is pl.LazyFrame
            assert lazy.collect_schema() == eager.schema
            assert lazy.collect().equals(eager)
            some = lazy.filter(pl.col("id_left") > 10).select("distance").head(3).collect()
            assert some.equals(eager.filter(pl.col("id_left") > 10).select("distance").head(3))
        assert join(a, b.lazy(), on="features", **options).equals(eager)
        alone = join(a.lazy(), on="features", **options)
        assert alone.collect().equals(join(a, on="features", **options))


def test_a_lazy_join_waits():
    def fails(frame):
        raise AssertionError("was computed")

    frame = pl.LazyFrame({"id": [1], "v": [[1.0]]}).map_batches(
        fails, schema={"id": pl.Int64, "v": pl.List(pl.Float64)}
    )
    assert join(frame, on="v").collect_schema().names() == ["id_left", "id_right", "distance"]
    with pytest.raises(Exception, match="was computed"):
        join(frame, on="v").collect()
    with pytest.raises(ValueError, match="left has no columns 'w'"):
        join(frame, on="w")


def test_namespace(left, right):
    a, b = make_frame("polars", left), make_frame("polars", right)
    plain = join(a, b, on="features", k=2)
    assert a.lshjoin.join(b, on="features", k=2).equals(plain)
    assert a.lazy().lshjoin.join(b, on="features", k=2).collect().equals(plain)
    assert a.lshjoin.join(on="features", k=2).equals(join(a, on="features", k=2))


def test_polars_is_imported_by_its_own_module_only():
    script = "import sys, lshjoin; assert 'polars' not in sys.modules; import lshjoin.polars"
    subprocess.run([sys.executable, "-c", script], check=True)


# What can't be.


@pytest.mark.parametrize("kind", KINDS[:3])
@pytest.mark.parametrize("side", ["left", "right"])
def test_nulls_are_told_by_their_row(kind, side):
    good, bad = texts(kind, A), texts(kind, {"v": [[0.0], None, [1.0]], "id": [1, 2, 3]})
    pair = (bad, good) if side == "left" else (good, bad)
    with pytest.raises(
        RowError, match=rf"{side}: Column v: row 1 is null; drop such rows"
    ) as error:
        join(*pair, on="v")
    assert (error.value.row, error.value.side) == (1, side)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_values_that_cannot_be(kind):
    good = texts(kind, A)
    bad = texts(kind, {"v": [[0.0], [np.nan]]})
    for sides, name in (((bad, good), "left"), ((good, bad), "right"), ((bad,), "left")):
        with pytest.raises(NotFiniteError, match=f"^row 1 of {name} holds NaN") as error:
            join(*sides, on="v")
        assert (error.value.row, error.value.side) == (1, name)
    with pytest.raises(ValueError, match="1 columns but items have 2"):
        join(good, texts(kind, {"v": [[0.0, 1.0]]}), on="v")
    with pytest.raises(RowError, match="row 1"):
        join(texts(kind, {"v": [[0.0, 1.0], [2.0]]}), on="v")
    with pytest.raises(TypeError, match="must be of type list of numbers"):
        join(good, on="text")


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (TypeError, "either k or radius", {"k": 1, "radius": 1.0}),
        (TypeError, "recall is for k", {"radius": 1.0, "recall": 0.9}),
        (ValueError, "how must be 'inner' or 'left', not 'outer'", {"how": "outer"}),
        (ValueError, "less than 1", {"k": 0}),
        (ValueError, "radius must not be negative", {"radius": -1.0}),
        (ValueError, "inner_product", {"radius": 1.0, "metric": "inner_product"}),
        (ValueError, "left has no columns 'w'; there are 'v', 'id'", {"on": "w"}),
        (ValueError, "columns has 'title', which neither frame has", {"columns": ["title"]}),
        (
            TypeError,
            r"columns must be a list of names; for one column pass \['id'\]",
            {"columns": "id"},
        ),
    ],
)
def test_options_that_cannot_be(error, message, options):
    with pytest.raises(error, match=message):
        join(pl.DataFrame(A), pl.DataFrame(B), **{"on": "v"} | options)


def test_frames_that_cannot_be():
    with pytest.raises(TypeError, match="left is a polars frame but right is a pandas one"):
        join(pl.DataFrame(A), pd.DataFrame(B), on="v")
    with pytest.raises(TypeError, match="left must be a pandas or polars DataFrame"):
        join(np.eye(3), on="v")
    twice = pd.DataFrame([[1, 2, [0.0]]], columns=["id", "id", "v"])
    with pytest.raises(ValueError, match="there are 2 columns 'id': rename all but one"):
        join(twice, on="v")
    assert join(twice, on="v", columns=[], how="left").columns.tolist() == ["distance"]
