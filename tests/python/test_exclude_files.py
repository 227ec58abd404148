"""Joins of files without pairs that are known, and the nearest few within a radius."""

import os

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from lshjoin import (
    Index,
    JoinPlan,
    OtherJobError,
    knn_join,
    knn_join_files,
    query_index,
    radius_join,
    radius_join_files,
)
from lshjoin.files import plan as files_plan

EXACT = JoinPlan.exact()
ORDER = [(name, "ascending") for name in ("query", "distance", "item")]


def write(path, vectors, **columns):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    pq.write_table(pa.table({"v": lists, **columns}), path)


@pytest.fixture
def sides(rng, tmp_path, monkeypatch):
    """Vectors of items.parquet and queries.parquet, with ids and keys."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files_plan, "_BASE", 0)
    monkeypatch.setattr(files_plan, "_BATCH", (1 << 12, 1 << 16))
    found = {}
    for name, rows in (("items", 6000), ("queries", 4000)):
        vectors, keys = rng.standard_normal((rows, 8)).astype(np.float32), np.arange(rows) % 3
        ids = [f"{name}-{row}" for row in range(rows)]
        write(f"{name}.parquet", vectors, id=pa.array(ids), key=pa.array(keys))
        found[name] = vectors, np.array(ids), keys
    return found


def pairs(path):
    return pq.read_table(path).sort_by(ORDER).to_pydict()


def of_edges(found):
    columns = dict(zip(("query", "item", "distance"), found.to_edges(), strict=True))
    return pa.table(columns).sort_by(ORDER).to_pydict()


def arguments(sides, both, within):
    names = ("queries", "items") if both else ("items",)
    vectors, ids, keys = zip(*(sides[name] for name in names), strict=True)
    vectors = vectors if both else (None, *vectors)
    options = {"within": keys if both else keys[0]} if within else {}
    options |= {"ids": ids[-1]} | ({"query_ids": ids[0]} if both else {})
    return vectors, [f"{name}.parquet" for name in names], options


#: In memory; out of core; and where keys are, in pieces.
@pytest.mark.parametrize(
    ("both", "within", "limit"),
    [
        (False, False, None),
        (True, True, None),
        (False, False, 1_800_000),
        (True, False, 1_800_000),
        (False, True, 1_800_000),
    ],
)
def test_what_an_earlier_join_found_is_left_out(both, within, limit, sides):
    vectors, files, options = arguments(sides, both, within)
    common = {"id_column": "id", "memory_limit": limit, "within": "key" if within else None}
    done = knn_join_files(*files, k=1, out="first.parquet", plan=EXACT, **common)
    assert done.plan.out_of_core == (limit is not None)
    first = knn_join(*vectors, k=1, plan=EXACT, **options).to_edges()
    knn_join_files(*files, k=3, out="next.parquet", plan=EXACT, exclude="first.parquet", **common)
    found = knn_join(*vectors, k=3, plan=EXACT, exclude=first, **options)
    assert pairs("next.parquet") == of_edges(found)
    radius = float(np.median(found.distances))
    for most in (None, 2):
        out = f"{most}.parquet"
        radius_join_files(
            *files, radius=radius, max_neighbors=most, exclude="first.parquet", out=out, **common
        )
        near = radius_join(*vectors, radius, max_neighbors=most, exclude=first, **options)
        assert pairs(out) == of_edges(near)
        assert len(near.indices) > 500
    assert len([name for name in os.listdir() if not name.endswith("parquet")]) == 0


def sources(known):
    ids = pa.table({"query": known[:, 0], "item": known[:, 1]})
    named = ids.rename_columns(["one", "other"]).append_column("why", pa.array(["seen"] * len(ids)))
    pq.write_table(ids, "known.parquet")
    pq.write_table(named, "named.pq")
    pa.feather.write_feather(ids, "known.arrow")
    pa.csv.write_csv(ids, "known.csv")
    np.savez("known.npz", query=known[:, 0].astype(int), item=known[:, 1].astype(int))
    yield from ("known.parquet", "named.pq", "known.arrow", "known.csv", "known.npz")
    yield from (ids, pl.DataFrame(named), pads.dataset("known.parquet"))


def test_pairs_come_in_any_file_or_table(rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = rng.standard_normal((30, 2)).astype(np.float32)
    known = rng.integers(0, 30, (50, 2))
    write("items.parquet", x, text=pa.array([f"{row:02}" for row in range(30)]),
          number=pa.array(np.arange(30, dtype=np.int16)))  # fmt: skip
    expected = of_edges(knn_join(x, k=3, exclude=known))
    for number, source in enumerate(sources(known)):
        knn_join_files("items.parquet", k=3, out=f"{number}.parquet", exclude=source)
        assert pairs(f"{number}.parquet") == expected
        by_number = f"number-{number}.parquet"
        knn_join_files("items.parquet", k=3, out=by_number, exclude=source, id_column="number")
        assert pairs(by_number) == expected
    texts = np.array([[f"{row:02}" for row in pair] for pair in known])
    for number, source in enumerate(
        ("known.csv", pa.table({"query": texts[:, 0], "item": texts[:, 1]}))
    ):
        pa.csv.write_csv(pa.table({"query": texts[:, 0], "item": texts[:, 1]}), "known.csv")
        by_text = f"text-{number}.parquet"
        knn_join_files("items.parquet", k=3, out=by_text, exclude=source, id_column="text")
        assert [int(text) for text in pairs(by_text)["item"]] == expected["item"]


def test_other_pairs_are_another_job(sides, monkeypatch):
    known = {"query": ["items-1"], "item": ["items-2"]}
    common = {"out": "out.parquet", "id_column": "id"}
    with monkeypatch.context() as patched:
        patched.setattr("lshjoin.files.joins.knn_join", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            knn_join_files("items.parquet", exclude=pa.table(known), **common)
    with pytest.raises(OtherJobError, match="exclude is"):
        knn_join_files("items.parquet", **common)
    done = knn_join_files("items.parquet", exclude=pa.table(known), **common)
    assert done.pairs == 60_000


@pytest.mark.parametrize(
    ("error", "message", "exclude"),
    [
        (ValueError, "exclude: no row has the id 'items-x'", {"a": ["items-1"], "b": ["items-x"]}),
        (ValueError, "exclude: row 1 has a null", {"a": ["items-1", None], "b": ["items-1"] * 2}),
        (TypeError, "exclude has int64 where ids are string", {"a": [1], "b": [2]}),
        (TypeError, "exclude has list", {"a": [[1]], "b": [[2]]}),
        (ValueError, "exclude must have two columns, of queries and of items", {"a": ["items-1"]}),
        (ValueError, "id items-2 is that of two rows", {"a": ["items-1"], "b": ["items-2"]}),
    ],
)
def test_pairs_that_will_not_do(error, message, exclude, sides):
    table = pq.read_table("items.parquet")
    if "two rows" in message:
        table = pa.concat_tables([table, table[2:3]])
    pq.write_table(table, "items.parquet")
    for join in (knn_join_files, lambda *files, **options: radius_join_files(
        *files, radius=1, **options
    )):  # fmt: skip
        with pytest.raises(error, match=message):
            join("items.parquet", out="out.parquet", id_column="id", exclude=pa.table(exclude))
    assert sorted(os.listdir()) == ["items.parquet", "queries.parquet"]


def test_files_of_pairs_that_will_not_do(sides):
    common = {"out": "out.parquet"}
    with pytest.raises(FileNotFoundError, match=r"no file gone\.csv of pairs to exclude"):
        knn_join_files("items.parquet", exclude="gone.csv", **common)
    for name in ("bad.parquet", "bad.arrow", "bad.txt"):
        with open(name, "w") as file:
            file.write("no pairs")
        with pytest.raises(ValueError, match=f"{name} (holds no pairs|is of no kind)"):
            knn_join_files("items.parquet", exclude=name, **common)
    with pytest.raises(TypeError, match="exclude is a list; pass a path, or a table"):
        knn_join_files("items.parquet", exclude=[(1, 2)], **common)
    for rows in ([6000], [-1]):
        with pytest.raises(ValueError, match=f"exclude: no row has the id {rows[0]}"):
            knn_join_files("items.parquet", exclude=pa.table({"a": [0], "b": rows}), **common)
    with pytest.raises(ValueError, match="nearest neighbors cannot be less than 1"):
        radius_join_files("items.parquet", radius=1, max_neighbors=0, **common)


def test_nested_lists_of_the_nearest_few(sides):
    for limit in (None, 1_800_000):
        common = {"radius": 1.2, "max_neighbors": 2, "memory_limit": limit, "nested": True}
        done = radius_join_files("items.parquet", out=f"{limit}.parquet", **common)
        assert done.plan.out_of_core == (limit is not None)
        order = pq.read_table(f"{limit}.parquet").sort_by("query")
        near = radius_join(sides["items"][0], radius=1.2, max_neighbors=2)
        assert list(map(len, order["neighbors"].to_pylist())) == np.diff(near.lims).tolist()
        items = [pair["item"] for pairs in order["neighbors"].to_pylist() for pair in pairs]
        assert items == near.indices.tolist()


def test_an_index_is_asked_without_pairs_that_are_known(sides, tmp_path):
    (items, _, _), (queries, ids, _) = sides["items"], sides["queries"]
    numbers = np.arange(6000)[::-1] * 7
    Index.build(items, ids=numbers).save("i")
    asked = {"path": "i", "queries": "queries.parquet", "column": "v", "plan": EXACT}
    query_index(**asked, k=2, id_column="id", out="first.csv")
    options = {"k": 3, "exclude": "first.csv", "id_column": "id", "memory_limit": 1}
    assert query_index(**asked, **options, out="more.parquet").pairs == 3 * 4000
    expected = knn_join(queries, items, 5, ids=numbers, query_ids=ids, recall=1.0)
    found = pq.read_table("more.parquet")
    np.testing.assert_array_equal(found["item"], expected.indices[:, 2:].ravel())
    np.testing.assert_array_equal(found["query"], ids.repeat(3))
    # By row number; of items that there are not.
    known = pa.table({"row": [0, 3999, 0], "item": [expected.indices[0, 0], -1, 8**9]})
    query_index(**asked, k=1, exclude=known, out="few.parquet")
    nearest = expected.indices[:, 0].copy()
    nearest[0] = expected.indices[0, 1]
    np.testing.assert_array_equal(pq.read_table("few.parquet")["item"], nearest)
    wrongs = ({"a": [4000], "b": [1]}, ValueError), ({"a": [0], "b": ["x"]}, TypeError)
    for wrong, error in wrongs:
        with pytest.raises(error, match="exclude"):
            query_index(**asked, k=1, exclude=pa.table(wrong), out="no.parquet")
    assert not (tmp_path / "no.parquet").exists()
