"""Results in every format, nested and in folders: what was found is what is read back."""

import csv
import os
from functools import partial
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frames import arrow_vectors
from lshjoin import (
    Index,
    dedup_files,
    knn_join_files,
    query_index,
    radius_join,
    radius_join_batches,
    radius_join_files,
)
from lshjoin.files import joins, results
from lshjoin.files import pairs as files_pairs
from lshjoin.files import plan as files_plan
from lshjoin.files.plot import plot_pairs
from lshjoin.files.results import read_pairs, to_layout

SUFFIXES = {"parquet": "pq", "arrow": "feather", "csv": "csv", "npz": "npz"}
LAYOUTS = [
    (kind, nested, most)
    for kind, nested, most in product(SUFFIXES, (False, True), (None, 7))
    if not (kind == "csv" and nested)
]
RADIUS = 0.2
#: Rows of queries that have nobody within it.
LONELY = {3, 7, 19}


@pytest.fixture
def rows(rng, tmp_path, monkeypatch):
    """items.parquet and queries.parquet."""
    monkeypatch.chdir(tmp_path)
    for module in (files_pairs, results):
        monkeypatch.setattr(module, "ROW_GROUP", 37)  # several pieces
    rows = {"items": rng.random((200, 3), np.float32), "queries": rng.random((20, 3), np.float32)}
    rows["queries"] = rows["items"][:20] + np.float32(0.01)
    rows["queries"][[*LONELY]] += 100
    for name, vectors in rows.items():
        columns = {
            "id": [id_of(name, row) for row in range(len(vectors))],
            "number": pa.array(range(len(vectors)), pa.uint16()),
            "v": arrow_vectors(vectors),
        }
        pq.write_table(pa.table(columns), f"{name}.parquet")
    return rows


def id_of(side, row):
    """With what has to be quoted, and longer in later rows."""
    return f'{side}, "{row}' + "é" * (row // 10)


def read(path, kind, nested):
    """(query, [(item, distance), ...]) for each row, by other readers than wrote them."""
    if kind == "npz":
        arrays = np.load(path)
        queries, *columns = (arrays[name].tolist() for name in ("query", "item", "distance"))
        pairs = list(zip(*columns, strict=True))
        if not nested:
            return [(query, [pair]) for query, pair in zip(queries, pairs, strict=True)]
        ends = pairwise(arrays["lims"].tolist())
        return [(query, pairs[a:b]) for query, (a, b) in zip(queries, ends, strict=True)]
    if kind == "csv":
        with open(path, newline="", encoding="utf-8") as lines:
            header, *lines = csv.reader(lines)
        assert header == ["query", "item", "distance"]
        return [(query, [(item, float(distance))]) for query, item, distance in lines]
    frame = (pl.read_parquet if kind == "parquet" else pl.read_ipc)(path)
    if nested:
        assert frame.columns == ["query", "neighbors"]
        return [
            (query, [(pair["item"], pair["distance"]) for pair in neighbors])
            for query, neighbors in frame.iter_rows()
        ]
    assert frame.columns == ["query", "item", "distance"]
    return [(query, [pair]) for query, *pair in frame.iter_rows()]


def by(found):
    """Sorted pairs of each query."""
    pairs = {}
    for query, some in found:
        pairs.setdefault(query, []).extend(map(tuple, some))
    return {query: sorted(some) for query, some in pairs.items()}


def join(command, out, **options):
    sides = ("queries.parquet", "items.parquet")
    if command == "knn":
        return knn_join_files(*sides, 5, out=out, column="v", **options)
    return radius_join_files(*sides, RADIUS, out=out, column="v", **options)


@pytest.mark.parametrize(
    ("command", "id_column", "limit", "layouts"),
    [
        ("knn", "id", None, LAYOUTS),
        ("radius", "number", None, LAYOUTS),
        ("knn", None, None, LAYOUTS[-4:]),
        # Out of core, where every layout is written from the same parts.
        ("knn", "id", 40_000, [("parquet", True, 7), ("npz", False, None)]),
        ("radius", "id", 40_000, [("csv", False, 7), ("npz", True, None)]),
    ],
)
def test_every_layout_has_the_same_pairs(command, id_column, limit, layouts, rows, monkeypatch):
    if limit:
        monkeypatch.setattr(files_plan, "_BASE", 0)
        monkeypatch.setattr(files_plan, "_BATCH", (1 << 10, 1 << 11))
    expected = None
    for kind, nested, most in layouts:
        out = f"{kind}-{nested}-{most}.{SUFFIXES[kind]}"
        options = {"id_column": id_column, "nested": nested, "max_rows_per_file": most}
        done = join(command, out, memory_limit=limit, **options)
        assert done.plan.out_of_core == bool(limit)
        files = (
            [out] if most is None else [os.path.join(out, name) for name in sorted(os.listdir(out))]
        )
        parts = [read(file, kind, nested) for file in files]
        found = [row for part in parts for row in part]
        if most:
            assert {len(part) for part in parts[:-1]} == {most}
            assert 0 < len(parts[-1]) <= most
        if nested:
            assert len(found) == len({query for query, _ in found}) == 20
        if kind == "csv":  # all is text, and floats have the digits that float32 needs
            of = str if id_column == "id" else int
            found = [
                (of(query), [(of(item), float(np.float32(distance))) for item, distance in some])
                for query, some in found
            ]
        pairs = {query: some for query, some in by(found).items() if some}
        expected = expected or pairs
        assert pairs == expected
        assert done.pairs == sum(map(len, expected.values()))
    assert not [name for name in os.listdir() if "unfinished" in name or "work" in name]
    lonely = LONELY if command == "radius" else ()
    queries = [row for row in range(20) if row not in lonely]
    assert {*expected} == {id_of("queries", row) if id_column == "id" else row for row in queries}


@pytest.mark.parametrize("kind", ["parquet", "arrow", "npz"])
def test_nested_self_join_within_a_radius(kind, rows, monkeypatch):
    """Whose pairs come in blocks, in memory."""
    monkeypatch.setattr(files_pairs, "ROW_GROUP", 5000)
    monkeypatch.setattr(joins, "radius_join_batches", partial(radius_join_batches, batch_size=4000))
    rows = np.random.default_rng(1).random((3000, 2), np.float32)
    np.save("rows.npy", rows)
    lims, distances, indices = radius_join(rows, radius=0.03)
    done = radius_join_files("rows.npy", radius=0.03, out=f"out.{SUFFIXES[kind]}", nested=True)
    assert done.pairs == len(indices) > 20_000
    found = read(done.out, kind, True)
    assert [query for query, _ in found] == list(range(3000))
    assert [sorted(some) for _, some in found] == [
        sorted(zip(indices[a:b].tolist(), distances[a:b].tolist(), strict=True))
        for a, b in pairwise(lims)
    ]


@pytest.mark.parametrize("nested", [False, True])
def test_dictionaries_are_for_text(nested, rows):
    for id_column in ("id", "number"):
        out = f"{id_column}.pq"
        common = {"id_column": id_column, "column": "v", "nested": nested, "out": out}
        knn_join_files("queries.parquet", "items.parquet", k=3, **common)
        group = pq.ParquetFile(out).metadata.row_group(0)
        columns = [group.column(at) for at in range(group.num_columns)]
        assert {column.has_dictionary_page for column in columns} == {id_column == "id"}


def test_ids_that_come_twice_are_queries_of_their_own(rows):
    table = pq.read_table("queries.parquet").slice(0, 3)
    table = table.set_column(0, "id", pa.array(["a", "a", "b"]))
    pq.write_table(table, "queries.parquet")
    for limit in (None, "1GiB"):
        out = f"{limit}.parquet"
        join("knn", out, id_column="id", nested=True, memory_limit=limit)
        assert pq.read_table(out)["query"].to_pylist() == ["a", "a", "b"]
        assert pl.read_parquet(out)["neighbors"].list.len().to_list() == [5, 5, 5]


@pytest.mark.parametrize(("kind", "nested", "most"), LAYOUTS)
def test_results_without_pairs(kind, nested, most, rows):
    out = f"out.{SUFFIXES[kind]}"
    np.save("far.npy", np.arange(8.0).reshape(4, 2))
    done = radius_join_files("far.npy", radius=0, out=out, nested=nested, max_rows_per_file=most)
    assert done.pairs == 0
    file = out if most is None else os.path.join(out, f"part-000000.{kind}")
    assert read(file, kind, nested) == ([(row, []) for row in range(4)] if nested else [])
    if kind != "csv":  # whose columns have no types
        np.save("none.npy", np.empty((0, 2)))
        knn_join_files("none.npy", k=2, out=f"none.{SUFFIXES[kind]}", nested=nested)
        assert read(f"none.{SUFFIXES[kind]}", kind, nested) == []


@pytest.mark.parametrize(("kind", "nested", "most"), LAYOUTS)
def test_queries_of_an_index(kind, nested, most, rows):
    Index.build(rows["items"], ids=np.arange(200) + 1000).save("i")
    layout = {"column": "v", "id_column": "id", "nested": nested, "max_rows_per_file": most}
    done = query_index("i", "queries.parquet", 3, out=f"out.{SUFFIXES[kind]}", **layout)
    assert done.pairs == 60
    files = [done.out] if most is None else sorted(done.out.iterdir())
    found = by(row for file in files for row in read(file, kind, nested))
    assert list(found) == [id_of("queries", row) for row in range(20)]
    assert all(len(some) == 3 for some in found.values())


@pytest.mark.parametrize("kind", SUFFIXES)
def test_dedup_in_every_format(kind, rows):
    done = dedup_files("items.parquet", 0.1, out="groups", format=kind, column="v", id_column="id")
    assert done.rows == 200 > done.kept > 0
    if kind == "npz":
        arrays = np.load("groups")
        columns = [arrays[name].tolist() for name in ("id", "group", "keep")]
    elif kind == "csv":
        with open("groups", newline="", encoding="utf-8") as lines:
            _, *lines = csv.reader(lines)
        columns = [list(column) for column in zip(*lines, strict=True)]
        columns[2] = [text == "true" for text in columns[2]]
    else:
        frame = (pl.read_parquet if kind == "parquet" else pl.read_ipc)("groups")
        columns = [frame[name].to_list() for name in ("id", "group", "keep")]
    ids, groups, keep = columns
    assert ids == [id_of("items", row) for row in range(200)]
    assert keep == [one == group for one, group in zip(ids, groups, strict=True)]
    assert sum(keep) == done.kept
    assert sum(groups.count(one) > 1 for one in {*groups}) == done.groups > 0


@pytest.mark.parametrize(("kind", "nested", "most"), LAYOUTS)
def test_pictures_of_every_layout(kind, nested, most, rows):
    out = f"out.{SUFFIXES[kind]}"
    options = {"nested": nested, "max_rows_per_file": most}
    done = join("radius", out, id_column="id", **options)
    layout = to_layout(Path(out), **options)
    counts, distances = zip(*(piece[1:] for piece in read_pairs(done.out, layout)), strict=True)
    assert sum(map(sum, counts)) == sum(map(len, distances)) == done.pairs
    if (nested, most) == (True, 7):
        plot_pairs(done.out, layout, "p.svg", 20)
        assert os.path.getsize("p.svg") > 1000


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("out.txt does not say in which format", {"out": "out.txt"}),
        ("out does not say in which format", {"out": "out", "max_rows_per_file": 3}),
        (
            "format must be one of parquet, arrow, csv, npz, not 'json'",
            {"out": "o", "format": "json"},
        ),
        ("out.csv is named as csv, but format is npz", {"out": "out.csv", "format": "npz"}),
        ("which CSV has not", {"out": "out.csv", "nested": True}),
        ("max_rows_per_file must be at least 1, not 0", {"out": "o.pq", "max_rows_per_file": 0}),
        ("max_rows_per_file must be 0 to", {"out": "o.pq", "max_rows_per_file": -1}),
    ],
)
def test_layouts_that_will_not_do(message, arguments, rows):
    before = sorted(os.listdir())
    for command in ("knn", "radius"):
        with pytest.raises(ValueError, match=message.replace(".", r"\.")):
            join(command, **arguments)
    assert sorted(os.listdir()) == before
