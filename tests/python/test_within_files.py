"""Joins of files within groups of rows, and of rows kept apart, are those of arrays."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lshjoin import (
    JoinPlan,
    OtherJobError,
    dedup,
    dedup_files,
    knn_join,
    knn_join_files,
    plan_knn_join_files,
    radius_join,
    radius_join_files,
)
from lshjoin.files import joins
from lshjoin.files import plan as files_plan
from lshjoin.files.groups import Groups, pack

EXACT = JoinPlan.exact()


def write(path, vectors, **columns):
    values = pa.array(vectors.ravel())
    lists = pa.FixedSizeListArray.from_arrays(values, vectors.shape[1])
    pq.write_table(pa.table({"v": lists, **columns}), path, row_group_size=700)


@pytest.fixture
def sides(rng, tmp_path, monkeypatch):
    """Vectors and keys of items.parquet and queries.parquet; Python's memory does not count."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files_plan, "_BASE", 0)
    monkeypatch.setattr(files_plan, "_BATCH", (1 << 12, 1 << 16))
    found = {}
    for name, rows in (("items", 3000), ("queries", 1500)):
        vectors = rng.standard_normal((rows, 8)).astype(np.float32)
        large = rng.random(rows) < 0.4
        words = np.where(large, "large", rng.integers(0, 300, rows).astype(str)).astype(object)
        words[rng.random(rows) < 0.05] = None
        documents = rng.integers(0, 5, rows)
        write(f"{name}.parquet", vectors, word=pa.array(words), document=pa.array(documents))
        found[name] = vectors, words, documents
    return found


def pairs(path):
    order = [(name, "ascending") for name in ("query", "distance", "item")]
    return pq.read_table(path).sort_by(order).to_pydict()


def of_edges(found):
    columns = dict(zip(("query", "item", "distance"), found.to_edges(), strict=True))
    order = [(name, "ascending") for name in ("query", "distance", "item")]
    return pa.table(columns).sort_by(order).to_pydict()


def arrays(sides, both, within, apart):
    """The arguments of a join of arrays for that of files."""
    names = ("queries", "items") if both else ("items",)
    vectors, words, documents = zip(*(sides[name] for name in names), strict=True)
    keys = {"within": words if within else None, "apart": documents if apart else None}
    of = {name: key if both or key is None else key[0] for name, key in keys.items()}
    return vectors, of


#: All in memory; groups in pieces, and the large one by itself; that one out of core.
LIMITS = {"memory": "1GB", "pieces": 1_100_000, "large": 540_000}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("both", [False, True])
def test_nearest_within_groups_are_those_of_arrays(both, limit, sides):
    vectors, keys = arrays(sides, both, True, False)
    files = ("queries.parquet", "items.parquet") if both else ("items.parquet",)
    done = knn_join_files(
        *files, k=4, out="out.parquet", within="word", plan=EXACT, memory_limit=LIMITS[limit]
    )
    assert pairs("out.parquet") == of_edges(knn_join(*vectors, k=4, **keys, plan=EXACT))
    pieces = done.plan.pieces
    assert (pieces is None) == (limit == "memory")
    assert not pieces or (pieces.large > 0) == (limit == "large")
    assert not pieces or 2 <= pieces.count < pieces.groups
    assert sorted(os.listdir()) == ["items.parquet", "out.parquet", "queries.parquet"]


@pytest.mark.parametrize("memory", [None, 480_000])
@pytest.mark.parametrize("both", [False, True])
def test_a_radius_is_that_of_arrays(both, memory, sides):
    files = ("queries.parquet", "items.parquet") if both else ("items.parquet",)
    for within, apart in ((True, False), (False, True), (True, True)):
        vectors, keys = arrays(sides, both, within, apart)
        done = radius_join_files(
            *files,
            radius=1.3,
            out=f"{within}-{apart}.parquet",
            within="word" if within else None,
            apart="document" if apart else None,
            memory_limit=memory,
        )
        expected = of_edges(radius_join(*vectors, radius=1.3, **keys))
        assert pairs(f"{within}-{apart}.parquet") == expected
        assert done.pairs > 30
        assert done.plan.out_of_core == (memory is not None)
        assert (done.plan.pieces is not None) == (within and memory is not None)


@pytest.mark.parametrize("memory", [None, 1_100_000])
@pytest.mark.parametrize("both", [False, True])
def test_nearest_apart_are_those_of_arrays(both, memory, sides):
    files = ("queries.parquet", "items.parquet") if both else ("items.parquet",)
    for plan in (EXACT, JoinPlan.partitions(lists=40, probes=6)):
        for within in ("word", None):
            vectors, keys = arrays(sides, both, within, True)
            name = f"{plan.kind}-{within}.parquet"
            common = {"out": name, "within": within, "apart": "document", "memory_limit": memory}
            done = knn_join_files(*files, k=3, plan=plan, **common)
            assert done.plan.out_of_core == (memory is not None)
            if plan == EXACT or not within:  # else pieces have lists of their own
                assert pairs(name) == of_edges(knn_join(*vectors, k=3, plan=plan, **keys))
        few = {"max_neighbors": 2, "apart": "document", "memory_limit": memory}
        radius_join_files(*files, radius=1.5, out=f"{plan.kind}.parquet", **few)
        expected = radius_join(*vectors, radius=1.5, max_neighbors=2, **keys)
        assert pairs(f"{plan.kind}.parquet") == of_edges(expected)


def test_nearest_apart_reach_their_recall_out_of_core(sides):
    (queries, items), keys = arrays(sides, True, False, True)
    common = {"k": 3, "apart": "document", "recall": 0.9, "memory_limit": 1_100_000}
    for files, of_arrays in (
        (("queries.parquet", "items.parquet"), {"queries": queries, "apart": keys["apart"]}),
        (("items.parquet",), {"apart": keys["apart"][1]}),
    ):
        out = f"{len(files)}.parquet"
        assert knn_join_files(*files, out=out, **common).plan.out_of_core
        found = pq.read_table(out)["distance"].to_numpy()
        truth = knn_join(items=items, k=3, recall=1.0, **of_arrays)
        last = truth.distances[:, -1][pq.read_table(out)["query"].to_numpy()]
        assert (found <= last).sum() / truth.distances.size > 0.85


def test_lists_of_rows_in_groups_and_of_such_as_are_in_none(sides):
    """Nested, each row has a list, and ids are those of the rows, not of the pieces."""
    table = pq.read_table("items.parquet")
    table = table.append_column("id", pa.array([f"row-{row}" for row in range(len(table))]))
    pq.write_table(table, "items.parquet")
    common = {"id_column": "id", "within": "word", "nested": True, "plan": EXACT}
    knn_join_files("items.parquet", k=2, out="memory.parquet", **common)
    knn_join_files("items.parquet", k=2, out="pieces.parquet", memory_limit=700_000, **common)
    memory, pieces = (pq.read_table(f"{name}.parquet") for name in ("memory", "pieces"))
    assert memory.equals(pieces)
    assert len(memory) == 3000
    assert min(map(len, memory["neighbors"].to_pylist())) == 0


def test_dedup_within_groups_is_that_of_arrays(sides):
    (new, old), keys = arrays(sides, True, True, False)
    for limit in (None, 200_000):
        done = dedup_files(
            "queries.parquet",
            1.4,
            out=f"{limit}.parquet",
            against="items.parquet",
            within="word",
            memory_limit=limit,
        )
        expected = dedup(new, 1.4, against=old, within=keys["within"])
        table = pq.read_table(f"{limit}.parquet")
        assert table["keep"].to_numpy().tolist() == expected.keep.tolist()
        assert table["match"].fill_null(-1).to_pylist() == expected.matches.tolist()
        assert 0 < done.kept < done.rows


def test_each_piece_has_the_recall(rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files_plan, "_BASE", 0)
    centres = rng.standard_normal((100, 8))
    vectors = centres[rng.integers(0, 100, 9000)] + 0.3 * rng.standard_normal((9000, 8))
    vectors, groups = vectors.astype(np.float32), np.repeat([0, 1, 2], 3000)
    write("items.parquet", vectors, group=pa.array(groups))
    done = knn_join_files(
        "items.parquet", k=5, out="out.parquet", within="group", recall=0.8, memory_limit="2MB"
    )
    assert done.plan.pieces.count == 3
    assert done.plan.join.kind == "partitions"
    found = pq.read_table("out.parquet")
    truth = knn_join(vectors, k=5, recall=1.0, within=groups)
    furthest = truth.distances[found["query"].to_numpy(), -1] * (1 + 1e-6)
    assert done.pairs == 5 * 9000
    assert np.mean(found["distance"].to_numpy() <= furthest) > 0.75


def test_a_crash_at_any_change_leaves_a_job_to_go_on_with(sides, crash_after):
    for name in ("queries", "items"):
        pq.write_table(pq.read_table(f"{name}.parquet")[:250], f"{name}.parquet")

    def job(out):
        radius_join_files("items.parquet", radius=1.5, out=out, within="word", memory_limit=24_000)

    job("whole.parquet")
    expected, calls = pairs("whole.parquet"), 0
    before = sorted(os.listdir())
    while crash_after(calls, lambda: job("out.parquet")):
        ended = os.path.exists("out.parquet")
        try:
            job("out.parquet")
        except FileExistsError:
            assert ended
        assert pairs("out.parquet") == expected
        os.unlink("out.parquet")
        assert sorted(os.listdir()) == before, calls
        calls += 5
    assert calls > 12
    os.unlink("out.parquet")


def test_a_job_may_go_on_with_less_memory(sides, monkeypatch):
    """Pieces stay as they were written; what then does not fit goes out of core."""
    calls = []

    def interrupted(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return knn_join(*args, **options)

    common = {"k": 4, "within": "word", "plan": EXACT, "out": "out.parquet"}
    with monkeypatch.context() as patched:
        patched.setattr(joins, "knn_join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            knn_join_files("items.parquet", memory_limit=1_100_000, **common)
    assert os.path.exists("out.parquet.work/pieces")
    with pytest.raises(OtherJobError, match='apart is null there but "document" here'):
        knn_join_files("items.parquet", apart="document", memory_limit=1_100_000, **common)
    knn_join_files("items.parquet", memory_limit=540_000, **common)
    (x,), keys = arrays(sides, False, True, False)
    assert pairs("out.parquet") == of_edges(knn_join(x, k=4, plan=EXACT, **keys))
    assert not os.path.exists("out.parquet.work")


def test_many_small_groups_are_packed_together():
    """As many in a piece as fit, in one pass over them, however many there are."""
    groups = Groups.of(None, np.repeat(np.arange(100_000, dtype=np.uint32), 10))
    calls = []

    def fits(some):
        calls.append(len(some))
        return some.rows()[1] <= 300_000

    pieces = pack(groups, fits)
    assert [len(piece) for piece in pieces] == [30_000, 30_000, 30_000, 10_000]
    assert len(calls) < 100
    sizes = np.repeat(np.arange(5, dtype=np.uint32), [2, 30, 1, 9, 9])
    pieces = pack(Groups.of(None, sizes), lambda some: some.rows()[1] <= 12)
    assert [piece.codes.tolist() for piece in pieces] == [[1], [3], [4, 0]]  # 2 has one row alone
    queries = np.array([0, 0, 7, 2**32 - 1], np.uint32)
    (piece,) = pack(Groups.of(queries, sizes), lambda _: True)
    assert (piece.codes.tolist(), piece.rows()) == ([0], (2, 2))
    assert pack(Groups.of(queries[3:], sizes), lambda _: True) == []


def hive(x, keys):
    for key in dict.fromkeys(keys):
        os.makedirs(f"items/word={key}")
        write(f"items/word={key}/part.parquet", x[np.array(keys) == key])
    order = np.argsort(keys, kind="stable")
    return "items", x[order], np.array(keys)[order]


KEYS = {
    "strings": lambda keys: pa.array(keys),
    "dictionary": lambda keys: pa.array(keys).dictionary_encode(),
    "views": lambda keys: pa.array(keys).cast(pa.string_view()),
    "integers": lambda keys: pa.array([int(key) for key in keys], pa.uint8()),
    "floats": lambda keys: pa.array([float(key) for key in keys]),  # as pandas has them with nulls
    "dates": lambda keys: pa.array([int(key) for key in keys], pa.date32()),
}


@pytest.mark.parametrize("kind", ["folders", "table", *KEYS])
def test_keys_of_any_kind(kind, rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = rng.standard_normal((90, 3)).astype(np.float32)
    keys = sorted(map(str, rng.integers(10, 16, 90)))
    if kind == "folders":
        source, x, keys = hive(x, keys)
    elif kind == "table":
        source = pa.table({"v": list(x), "word": keys})
    else:
        source = "*.parquet"
        write("a.parquet", x[:40], word=KEYS[kind](keys[:40]))
        write("b.parquet", x[40:], word=KEYS[kind](keys[40:]))
    knn_join_files(source, k=2, out="out.parquet", column="v", within="word")
    assert pairs("out.parquet") == of_edges(knn_join(x, k=2, within=keys))


def test_integers_of_any_width_are_one_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.arange(6, dtype=np.float32).reshape(6, 1)
    write("items.parquet", x, key=pa.array([1, 2, 3, 1, 2, None], pa.int64()))
    write("queries.parquet", x[:3], key=pa.array([3, 2, None], pa.uint8()))
    knn_join_files("queries.parquet", "items.parquet", k=9, out="out.parquet", within="key")
    assert pairs("out.parquet")["item"] == [2, 1, 4]
    write("queries.parquet", x[:3], key=pa.nulls(3))
    done = knn_join_files("queries.parquet", "items.parquet", k=9, out="no.parquet", within="key")
    assert done.pairs == 0
    done = knn_join_files("queries.parquet", "items.parquet", k=9, out="a.parquet", apart="key")
    assert done.pairs == 18


@pytest.mark.parametrize(
    ("error", "message", "columns", "within"),
    [
        (ValueError, "has no column wrod; its columns are v, word", {"word": ["a", "b"]}, "wrod"),
        (TypeError, "holds int64 in .* but string in .*; write keys of one", {"word": ["a", "b"]},
         "word"),
        (TypeError, "v of items.parquet must be integers or strings, not", {}, "v"),
        (TypeError, "must be integers or strings, not list", {"word": [[1], [2]]}, "word"),
    ],
)  # fmt: skip
def test_what_is_no_key_is_an_error(error, message, columns, within, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.eye(2, dtype=np.float32)
    write("items.parquet", x, word=pa.array([1, 2]))
    write("queries.parquet", x, **{name: pa.array(values) for name, values in columns.items()})
    for option in ("within", "apart"):
        options = {"column": "v", "out": "out.parquet", option: within}
        with pytest.raises(error, match=message):
            knn_join_files("queries.parquet", "items.parquet", **options)
        with pytest.raises(error, match=message):
            radius_join_files("queries.parquet", "items.parquet", radius=1, **options)
    assert sorted(os.listdir()) == ["items.parquet", "queries.parquet"]


def test_fractions_are_no_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("items.parquet", np.eye(2, dtype=np.float32), key=pa.array([1, 0.5]))
    for option in ("within", "apart"):
        with pytest.raises(
            TypeError, match="column key of .*items.parquet must be .* not fractions"
        ):
            knn_join_files("items.parquet", out=f"{option}.parquet", **{option: "key"})


def test_no_rows_and_one_column_for_all(sides):
    write("none.parquet", np.empty((0, 8), np.float32), word=pa.array([], pa.string()))
    for files in (["none.parquet"], ["none.parquet", "items.parquet"],
                  ["items.parquet", "none.parquet"]):  # fmt: skip
        for limit in (None, 700_000):
            done = knn_join_files(*files, out="0.parquet", within="word", memory_limit=limit)
            assert done.pairs == 0
            os.unlink("0.parquet")
    common = {"k": 3, "within": "word", "id_column": "word", "memory_limit": 700_000}
    found = pq.read_table("items.parquet")
    pq.write_table(found.filter(found["word"].is_valid()), "items.parquet")
    assert knn_join_files("items.parquet", out="ids.parquet", **common).pairs > 5000
    found = pq.read_table("ids.parquet")
    assert found["query"].equals(found["item"])
    assert knn_join_files("items.parquet", out="no.parquet", apart="word", **common).pairs == 0


def test_rows_of_npy_have_no_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("items.npy", np.eye(3))
    with pytest.raises(ValueError, match="items.npy has no column word: .npy holds vectors only"):
        knn_join_files("items.npy", out="out.parquet", within="word")


def test_the_plan_tells_of_groups(sides):
    plan = plan_knn_join_files("items.parquet", k=4, within="word", memory_limit=540_000)
    assert "out of core: 293 groups in 3 pieces, 1 of them larger than memory" in str(plan)
    assert plan.as_dict()["pieces"] == {"groups": 293, "count": 3, "large": 1}
    assert "lists" in str(plan)  # for the large one
    plan = plan_knn_join_files("items.parquet", k=4, within="word", memory_limit=1_100_000)
    assert str(plan).startswith("recall  0.95 in each piece, by a plan of its own\nrows")
    one = plan_knn_join_files("items.parquet", k=4, within="word")
    assert one.pieces is None
    assert "keys 24 kB" in str(one)
