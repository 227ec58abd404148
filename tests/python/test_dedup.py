"""lshjoin.dedup against brute force in float64."""

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import lshjoin
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from frames import make_frame, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from lshjoin import NotFiniteError, RowError, dedup
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.random_projection import SparseRandomProjection

LINKAGES = ["component", "representative"]


def distances(a, b, metric="euclidean"):
    a, b = np.asarray(a, np.float64)[:, None], np.asarray(b, np.float64)[None]
    if metric == "manhattan":
        return np.abs(a - b).sum(-1)
    if metric == "cosine":
        return 1 - (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.sqrt(((a - b) ** 2).sum(-1))


def oracle(near, far, order, linkage):
    """Representatives and old rows: ``near`` of rows, distances ``far`` to near old ones or inf."""
    count, old = far.shape
    kept, match = np.full(count, -1), np.full(count, -1)
    if linkage == "component":
        within = np.isfinite(far)
        whole = np.block([[near < np.inf, within], [within.T, np.eye(old, dtype=bool)]])
        for start in order:
            if kept[start] >= 0 or match[start] >= 0:
                continue
            group = whole[start]
            while (wider := whole[group].any(axis=0) | group).sum() > group.sum():
                group = wider
            rows = np.flatnonzero(group[:count])
            kept[rows] = start
            if within[rows].any():
                kept[rows] = -1
                least = far[rows].min()
                nearest = min(int(np.argmin(far[row])) for row in rows if far[row].min() == least)
                match[rows] = [
                    np.argmin(far[row]) if within[row].any() else nearest for row in rows
                ]
        return kept, match
    place = np.argsort(order)
    for row in order:
        if np.isfinite(far[row]).any():
            match[row] = np.argmin(far[row])
        else:
            before = [a for a in order[: place[row]] if kept[a] == a and near[row, a] < np.inf]
            kept[row] = min(before, key=lambda a: near[row, a], default=row)
    return kept, match


def assert_consistent(found):
    """What holds whatever was asked for."""
    count = len(found.groups)
    assert (found.groups.dtype, found.keep.dtype) == (np.int64, bool)
    assert found.representatives.shape == found.keep.shape == (count,)
    _, first = np.unique(found.groups, return_index=True)
    assert (np.diff(first) > 0).all()  # numbered by first rows
    assert sorted(set(found.groups)) == list(range(len(first)))
    np.testing.assert_array_equal(found.keep, found.representatives == np.arange(count))
    of_old = found.representatives < 0
    np.testing.assert_array_equal(
        of_old, np.zeros(count, bool) if found.matches is None else found.matches >= 0
    )
    # One of each group is kept, and represents it; none where an old row does.
    assert sorted(found.groups[found.keep]) == sorted(set(found.groups[~of_old]))
    assert found.keep[found.representatives[~of_old]].all()
    np.testing.assert_array_equal(
        found.groups[found.representatives[~of_old]], found.groups[~of_old]
    )


def check(rows, threshold, linkage, order=None, against=None, metric="euclidean", **options):
    rows = np.asarray(rows)
    found = dedup(
        rows, threshold, linkage=linkage, against=against, metric=metric, num_threads=1, **options
    )
    assert_consistent(found)
    near = distances(rows, rows, metric)
    near[near >= threshold] = np.inf
    np.fill_diagonal(near, 0)
    far = distances(rows, rows[:0] if against is None else against, metric)
    far = np.where(far < threshold, far, np.inf)
    order = np.arange(len(rows)) if order is None else np.asarray(order)
    kept, match = oracle(near, far, order, linkage)
    np.testing.assert_array_equal(found.representatives, kept)
    if against is None:
        assert found.matches is None
    else:
        np.testing.assert_array_equal(found.matches, match)
    return found


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "cosine"])
@pytest.mark.parametrize("share", [0.005, 0.02, 0.1])
def test_brute_force(rng, linkage, metric, share):
    rows, old = rng.standard_normal((120, 3)), rng.standard_normal((30, 3))
    threshold = float(np.quantile(distances(rows, rows, metric), 1 / 120 + share))
    for against in (None, old, old[:0], old[:1]):
        check(rows, threshold, linkage, against=against, metric=metric)
        check(rows, threshold, linkage, np.arange(120)[::-1], against, metric, keep="last")
        values = rng.integers(0, 20, 120)
        order = np.lexsort((np.arange(120), -values))
        check(rows, threshold, linkage, order, against, metric, keep=values)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.integers(-6, 6), max_size=12),
    old=st.none() | st.lists(st.integers(-6, 6), max_size=4),
    threshold=st.sampled_from([0, 0.5, 1, 1.5, 2.5, np.inf]),
    linkage=st.sampled_from(LINKAGES),
    keep=st.sampled_from(["first", "last"]),
)
def test_ties_and_duplicates(rows, old, threshold, linkage, keep):
    order = np.arange(len(rows))
    check(
        np.array(rows, float).reshape(-1, 1),
        threshold,
        linkage,
        order if keep == "first" else order[::-1],
        None if old is None else np.array(old, float).reshape(-1, 1),
        keep=keep,
    )


def test_chains():
    chain = np.arange(50.0)[:, None]
    found = check(chain, 1.5, "component")
    assert found.keep.sum() == 1
    assert (found.groups == 0).all()
    found = check(chain, 1.5, "representative")
    assert np.flatnonzero(found.keep).tolist() == list(range(0, 50, 2))
    assert (np.abs(np.arange(50) - found.representatives) < 1.5).all()
    # Of two that are kept the nearer one.
    assert check([[0.0], [2.0], [1.2]], 1.5, "representative").groups.tolist() == [0, 1, 1]
    # A chain of rows, and one by way of an old row.
    near_old = check([[0.0], [1.0], [2.0], [9.0]], 1.5, "component", against=[[-1.0]])
    assert near_old.matches.tolist() == [0, 0, 0, -1]
    over_old = check([[0.0], [2.0]], 1.5, "component", against=[[5.0], [1.0]])
    assert (over_old.matches.tolist(), over_old.groups.tolist()) == ([1, 1], [0, 0])


@pytest.mark.parametrize("linkage", LINKAGES)
def test_few_rows_and_equal_ones(linkage):
    assert check(np.empty((0, 3)), 1.0, linkage).groups.tolist() == []
    assert check(np.empty((0, 3)), 1.0, linkage, against=np.eye(3)).matches.tolist() == []
    assert check(np.eye(1), 1.0, linkage).keep.tolist() == [True]
    same = np.ones((300, 4), np.float32)
    assert check(same, 0.1, linkage).representatives.tolist() == [0] * 300
    assert check(same, 0.1, linkage, np.arange(300)[::-1], keep="last").keep.sum() == 1
    assert check(same, 0.1, linkage, against=same[:2]).matches.tolist() == [0] * 300
    assert check(same, 0.0, linkage).keep.all()  # the threshold is strict


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16])
def test_columns_and_types(dtype):
    rows = np.array([[0, 0], [3, 4], [0, 1]], dtype)
    for items in (rows, pd.Series(list(rows)), pa.array(rows.tolist(), pa.list_(pa.float32()))):
        assert dedup(items, 1.5).groups.tolist() == [0, 1, 0]
    assert dedup(rows, 1.5).frame is None


def test_two_equal_calls_are_equal(rng):
    rows = rng.standard_normal((500, 4)).astype(np.float32)
    for linkage in LINKAGES:
        one, two = (dedup(rows, 0.8, linkage=linkage, num_threads=n) for n in (1, 2))
        np.testing.assert_array_equal(one.representatives, two.representatives)


# Data frames.

VECTORS = np.array([[0.0], [0.1], [5.0], [5.2], [9.0]])


def frame_of(kind, **columns):
    frame = make_frame(kind, VECTORS)
    if kind == "pandas":
        return frame.assign(**columns)
    if kind == "polars":
        return frame.with_columns(**{name: pl.Series(values) for name, values in columns.items()})
    for name, values in columns.items():
        frame = frame.append_column(name, pa.array(values))
    return frame


@pytest.mark.parametrize("linkage", LINKAGES)
def test_frames(kind, linkage):
    frame = make_frame(kind, VECTORS)
    for keep, ids in (("first", [0, 2, 4]), ("last", [1, 3, 4]), ("id", [1, 3, 4])):
        found = dedup(frame, 0.5, on="features", keep=keep, linkage=linkage)
        assert_consistent(found)
        assert [row["id"] for row in rows_of(found.frame)] == ids
        assert found.groups.tolist() == [0, 0, 1, 1, 2]
    types = {"pandas": pd.DataFrame, "polars": pl.DataFrame}
    assert type(found.frame) is types.get(kind, pa.Table)
    assert list(rows_of(found.frame)[0]) == ["id", "features"]
    against = make_frame(kind, [[7.0], [5.05], [4.9]])
    found = dedup(frame, 0.5, on="features", against=against, linkage=linkage)
    assert found.matches.tolist() == [-1, -1, 1, 1, -1]
    assert [row["id"] for row in rows_of(found.frame)] == [0, 4]
    none = make_frame(kind, VECTORS[:0])
    assert dedup(none, 0.5, on="features", against=frame).groups.tolist() == []
    assert dedup(frame, 0.5, on="features", against=none).keep.sum() == 3


def test_index_of_pandas():
    frame = make_frame("pandas", VECTORS).set_index(pd.Index(list("abcde")))
    assert dedup(frame, 0.5, on="features").frame.index.tolist() == ["a", "c", "e"]


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize(
    ("values", "ids"),
    [
        ([1, 2, 4, 3, 0], [1, 2, 4]),
        ([2, 2, 3, 3, 3], [0, 2, 4]),
        ([None, 2.0, 4.0, None, None], [1, 2, 4]),
        ([float("nan"), -1.0, float("nan"), float("inf"), 0.0], [1, 3, 4]),
        ([None] * 4 + [1], [0, 2, 4]),
        (["b", "a", "a", "b", "c"], [0, 3, 4]),
        ([False, True, True, False, True], [1, 2, 4]),
        (np.array([5, 7, 1, 0, 0], "datetime64[ms]"), [1, 2, 4]),
    ],
)
def test_the_largest_value_is_kept(kind, values, ids):
    found = dedup(frame_of(kind, value=values), 0.5, on="features", keep="value")
    assert [row["id"] for row in rows_of(found.frame)] == ids


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_the_longest_is_kept(kind):
    title, text = ["a", "b", "ä" * 5, "b" * 4, None], ["cc", "ddd", "", "x", None]
    frame = frame_of(kind, title=title, text=text)
    found = dedup(frame, 0.5, on="features", keep="longest")
    assert [row["id"] for row in rows_of(found.frame)] == [1, 2, 4]
    with pytest.raises(ValueError, match="keep='longest' is for frames with columns of strings"):
        dedup(frame_of(kind), 0.5, on="features", keep="longest")


def test_a_column_called_first():
    frame = frame_of("polars", first=[0, 1, 0, 1, 0])
    assert dedup(frame, 0.5, on="features", keep="first").frame["id"].to_list() == [0, 2, 4]
    array = dedup(frame, 0.5, on="features", keep=frame["first"].to_numpy())
    assert array.frame["id"].to_list() == [1, 3, 4]


# As files have it.


def test_groups_are_those_of_files(rng, tmp_path):
    rows = rng.standard_normal((400, 3)).astype(np.float32)
    np.save(tmp_path / "items.npy", rows)
    out = tmp_path / "groups.parquet"
    lshjoin.dedup_files(tmp_path / "items.npy", 0.4, out=out)
    found = dedup(rows, 0.4)
    table = pl.read_parquet(out)
    assert found.representatives.tolist() == table["group"].to_list()
    assert found.keep.tolist() == table["keep"].to_list()


KEEPS = ["first", "last", "longest", "score"]


@pytest.fixture
def tables(rng, tmp_path, monkeypatch):
    """items.parquet, items-*.arrow in two files and old.parquet: what is in them."""
    monkeypatch.chdir(tmp_path)
    tables = {}
    for name, count in (("items", 300), ("old", 40)):
        words = [None if n == 0 else "w" * int(n) for n in rng.integers(0, 9, count)]
        tables[name] = pl.DataFrame(
            {
                "id": [f"{name}-{number}" for number in rng.permutation(count)],
                "score": np.where(rng.random(count) < 0.1, np.nan, rng.integers(0, 5, count)),
                "text": words,
                "title": pl.Series(["ä" * int(n) for n in rng.integers(0, 4, count)]),
                "v": pl.Series(list(rng.standard_normal((count, 3))), dtype=pl.List(pl.Float32)),
            }
        )
        tables[name].write_parquet(f"{name}.parquet")
    tables["items"][:130].write_ipc("items-0.arrow")
    tables["items"][130:].write_ipc("items-1.arrow")
    return tables


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("keep", KEEPS)
def test_files_are_as_frames(tables, keep, linkage):
    items, old = tables["items"], tables["old"]
    for against in (None, old):
        # The one is told from the other where keep is a column, of which NaN is none in polars.
        expected = dedup(
            items, 0.4, on="v", keep=keep, linkage=linkage, against=against, ids=items["id"]
        )
        for source in ("items.parquet", "items-*.arrow"):
            out = f"{source[:6]}-{against is None}.parquet"
            done = lshjoin.dedup_files(
                source,
                0.4,
                out=out,
                column="v",
                id_column="id",
                keep=keep,
                linkage=linkage,
                against=None if against is None else "old.parquet",
            )
            table = pl.read_parquet(out)
            assert table["id"].to_list() == items["id"].to_list()
            assert table["keep"].to_list() == expected.keep.tolist()
            first = np.unique(expected.groups, return_index=True)[1]
            assert table["group"].to_list() == items["id"][first[expected.groups]].to_list()
            assert (done.rows, done.kept) == (300, expected.keep.sum())
            assert 0 < done.groups < 150
            if against is None:
                assert table.columns == ["id", "group", "keep"]
            else:
                named = [None if row < 0 else old["id"][int(row)] for row in expected.matches]
                assert table["match"].to_list() == named
                assert 0 < sum(name is None for name in named) < 300


def test_matches_by_row_number_and_in_csv(tables):
    options = {"column": "v", "against": "old.parquet"}
    lshjoin.dedup_files("items.parquet", 0.4, out="groups.arrow", **options)
    expected = dedup(tables["items"], 0.4, on="v", against=tables["old"])
    found = pl.read_ipc("groups.arrow")
    assert found["match"].fill_null(-1).to_list() == expected.matches.tolist()
    assert found["match"].dtype == found["id"].dtype == pl.Int64
    lshjoin.dedup_files("items.parquet", 0.4, out="groups.csv", **options)
    assert pl.read_csv("groups.csv")["match"].to_list() == found["match"].to_list()


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (ValueError, "has no column year; its columns are id, score", {"keep": "year"}),
        (TypeError, "keep: values of type .* have no order", {"keep": "v"}),
        (ValueError, "linkage must be 'component' or 'repr", {"linkage": "single"}),
        (ValueError, "which npz has not", {"against": "old.parquet", "out": "groups.npz"}),
        (ValueError, "3 dimensions .* 2", {"against": "wide.parquet"}),
        (ValueError, "keep='longest' is for columns of strings; items.par", {"keep": "longest"}),
        (TypeError, "score holds double and large_string", {"items": "two-*", "keep": "score"}),
        (ValueError, "keep must be 'first' or 'last', not 'score': rows.npy has no columns",
         {"items": "rows.npy", "column": None, "keep": "score"}),
        (ValueError, "keep='score' is for files, of which columns are read; a Table is not in one",
         {"items": pa.table({"v": [[1.0, 2.0]], "score": [1]}), "keep": "score"}),
    ],
)  # fmt: skip
def test_files_that_cannot_be(error, message, options, tables, tmp_path):
    tables["items"].drop("text", "title").write_parquet("two-0.parquet")
    tables["items"].with_columns(score=pl.lit("x")).write_parquet("two-1.parquet")
    if options.get("keep") == "longest":
        tables["items"].select("score", "v").write_parquet("items.parquet")
    pl.DataFrame({"v": [[1.0, 2.0]]}).write_parquet("wide.parquet")
    np.save("rows.npy", np.eye(3))
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(error, match=message):
        lshjoin.dedup_files(
            **{"items": "items.parquet", "threshold": 0.4, "out": "groups.parquet", "column": "v"}
            | options
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == before


# On real text.


def docstrings(count):
    """Docstrings of this Python and its packages, as many; each once for each name of a function.

    Functions of one text under several names, and texts that were changed a little, are the
    near-duplicates that every machine has.
    """
    found = {}
    for root in dict.fromkeys(sysconfig.get_path(name) for name in ("stdlib", "purelib")):
        for path in sorted(Path(root).rglob("*.py")):
            source = path.read_text(encoding="utf-8", errors="replace")
            # By a pattern: to parse them all takes a minute.
            for name, text in DOCUMENTED.findall(source):
                found.setdefault((name, text))
            if len(found) >= count:
                return [text for _, text in found][:count]
    return [text for _, text in found]


#: A function or class, and its docstring of at least 60 characters.
DOCUMENTED = re.compile(r'(?:def|class) (\w+)[^"\n]*:\n\s+r?"""([^"]{60,})"""')


def test_docstrings():
    texts = docstrings(20_000)
    assert len(texts) > 10_000  # 20,000 where more than the least is installed
    letters = HashingVectorizer(analyzer="word", ngram_range=(1, 2), n_features=2**16)
    projection = SparseRandomProjection(128, random_state=0, dense_output=True)
    vectors = projection.fit_transform(letters.transform(texts)).astype(np.float32)
    known = vectors.any(axis=1)
    frame = pl.DataFrame({"text": texts, "v": vectors}).filter(known)
    vectors = vectors[known]
    pairs = lshjoin.radius_join(vectors, radius=0.1, metric="cosine").to_edges()
    assert len(pairs.left) > 1_000
    for linkage in LINKAGES:
        found = dedup(frame, 0.1, on="v", metric="cosine", keep="longest", linkage=linkage)
        assert_consistent(found)
        assert 0.5 < found.keep.mean() < 0.98
        # Of equal texts one is kept, and no two that are kept are near.
        kept = found.frame["text"]
        assert kept.n_unique() == len(kept)
        assert not (found.keep[pairs.left] & found.keep[pairs.right]).any()
        lengths = frame["text"].str.len_chars().to_numpy()
        if linkage == "component":
            assert (lengths <= lengths[found.representatives]).all()
            assert (found.groups[pairs.left] == found.groups[pairs.right]).all()
        else:
            near = set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
            rest = np.flatnonzero(~found.keep)
            assert near.issuperset(
                zip(rest.tolist(), found.representatives[rest].tolist(), strict=True)
            )
    # The second half as what is new: what is kept of both is near none that is kept.
    half = len(frame) // 2
    old = dedup(frame[:half], 0.1, on="v", metric="cosine").frame
    new = dedup(frame[half:], 0.1, on="v", metric="cosine", against=old)
    assert 0 < (new.matches >= 0).sum() < half
    rest = lshjoin.join(pl.concat([old, new.frame]), on="v", radius=0.1, metric="cosine")
    assert len(rest) == 0


# What can't be.


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (ValueError, "threshold must not be negative", {"threshold": -0.1}),
        (ValueError, "threshold must not be negative or NaN", {"threshold": float("nan")}),
        (ValueError, "linkage must be 'component' or 'representative'", {"linkage": "single"}),
        (ValueError, "metric|inner_product", {"metric": "inner_product"}),
        (ValueError, "keep has 2 values for 3 rows", {"keep": [1, 2]}),
        (ValueError, "keep must be 1-D", {"keep": np.eye(3)}),
        (ValueError, "arrays have no columns", {"keep": "longest"}),
        (ValueError, "2", {"against": np.eye(2)}),
    ],
)
def test_options_that_cannot_be(error, message, options):
    with pytest.raises(error, match=message):
        dedup(**{"items": np.eye(3), "threshold": 1.0} | options)


def test_rows_that_cannot_be():
    bad = np.eye(3)
    bad[2, 1] = np.nan
    for linkage in LINKAGES:
        for sides in ((bad, None), (bad, np.eye(3))):
            with pytest.raises(NotFiniteError, match="row 2 of items holds NaN at dimension 1"):
                dedup(sides[0], 1.0, against=sides[1], linkage=linkage)
        with pytest.raises(NotFiniteError, match="row 2 of against holds NaN at dimension 1"):
            dedup(np.eye(3), 1.0, against=bad, linkage=linkage)


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_frames_that_cannot_be(kind):
    frame = frame_of(kind)
    with pytest.raises(TypeError, match="items is a data frame: pass on="):
        dedup(frame, 1.0)
    with pytest.raises(ValueError, match="items has no columns 'vector'; there are 'id', 'feat"):
        dedup(frame, 1.0, on="vector")
    with pytest.raises(ValueError, match="'longest' or a column, not 'year'; there are 'id', 'f"):
        dedup(frame, 1.0, on="features", keep="year")
    with pytest.raises(TypeError, match="keep: values of type .* have no order"):
        dedup(frame, 1.0, on="features", keep="features")
    nulls = pa.table({"features": [[1.0], None]})
    nulls = {"pandas": nulls.to_pandas, "polars": lambda: pl.DataFrame(nulls)}.get(
        kind, lambda: nulls
    )()
    for sides, name in (((nulls, None), "items"), ((frame, nulls), "against")):
        with pytest.raises(RowError, match=f"{name}: Column features: row 1 is null"):
            dedup(sides[0], 1.0, on="features", against=sides[1])
    with pytest.raises(TypeError, match=r"items is a polars LazyFrame; pass items.collect\(\)"):
        dedup(pl.LazyFrame({"features": [[1.0]]}), 1.0, on="features")


def test_without_scipy():
    script = """
import sys; sys.modules["scipy"] = None
import lshjoin, numpy as np
assert lshjoin.dedup(np.eye(2), 1.0, linkage="representative").keep.all()
lshjoin.dedup(np.eye(2), 1.0)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stderr.splitlines()[-1].endswith("pip install 'lshjoin[dedup]'")
