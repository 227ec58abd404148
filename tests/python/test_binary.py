"""Joins of packed bits beside scipy's distances: of arrays, data frames and files."""

import json
import pickle

import lshjoin
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frames import Stream, arrow_vectors, rows_of
from lshjoin import (
    Index,
    JoinPlan,
    RowError,
    build_index,
    command_line,
    dedup,
    dedup_files,
    knn_join,
    knn_join_files,
    plan_knn_join,
    plan_knn_join_files,
    query_index,
    radius_join,
    radius_join_batches,
    radius_join_files,
)
from lshjoin.files import plan as files_plan
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
    with pytest.raises(TypeError, match="uint8"):
        radius_join_batches(packed.astype(np.float32), radius=1, metric="hamming")
    with pytest.raises(TypeError, match="uint8"):
        plan_knn_join(packed.astype(np.float32), metric="jaccard")
    with pytest.raises(ValueError, match="nothing is predicted"):
        lshjoin.plot_plan(packed, metric="jaccard")
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


def by_row(table: pa.Table) -> dict:
    return table.sort_by([("query", "ascending"), ("item", "ascending")]).to_pydict()


def as_table(found: lshjoin.RadiusNeighbors) -> pa.Table:
    return pa.table(dict(zip(("query", "item", "distance"), found.to_edges(), strict=True)))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("self_join", [False, True])
def test_batches_hold_the_pairs_of_the_join(metric: str, self_join: bool) -> None:
    rng = np.random.default_rng(0)
    packed = np.packbits(bits(2500, 64, 0, 0.3), axis=1)
    sides = (None, packed) if self_join else (packed[:900], packed[900:])
    count = len(packed) if self_join else 900
    radius = {"hamming": 9, "jaccard": 0.4}[metric]
    keys = rng.integers(0, 9, len(packed))
    of_sides = keys if self_join else (keys[:900], keys[900:])
    options = [
        {},
        {"within": of_sides},
        {"apart": of_sides, "exclude": rng.integers(0, 900, (50, 2))},
        {"radius": rng.random(count) * radius},
    ]
    for option in options:
        common = {"radius": radius, "metric": metric} | option
        expected = radius_join(*sides, **common)
        assert len(expected.indices) > 1000
        batches = [
            radius_join_batches(*sides, **common, batch_size=999, num_threads=threads).read_all()
            for threads in (1, 2)
        ]
        assert batches[0] == batches[1]
        assert batches[0].schema.field("distance").type == pa.float32()
        assert by_row(batches[0]) == by_row(as_table(expected))


def test_a_radius_for_each_row() -> None:
    rows = bits(300, 64, 2)
    packed, radii = np.packbits(rows, axis=1), np.arange(300) % 40
    expected = brute_force(rows, rows, "hamming")
    np.fill_diagonal(expected, np.inf)
    found = radius_join(packed, radius=radii, metric="hamming")
    assert np.diff(found.lims).tolist() == (expected < radii[:, None]).sum(axis=1).tolist()
    few = radius_join(packed, radius=radii, metric="hamming", max_neighbors=2)
    assert np.diff(few.lims).tolist() == np.minimum(np.diff(found.lims), 2).tolist()


def test_a_plan_is_the_one_that_the_join_follows() -> None:
    packed = np.packbits(bits(47_000, 256, 3), axis=1)
    plan = plan_knn_join(packed, k=5, metric="hamming", recall=0.9, seed=3)
    assert (plan.kind, plan.predicted) == ("ivf", None)
    found = knn_join(packed, k=5, metric="hamming", recall=0.9, seed=3)
    assert found.plan == plan
    again = knn_join(packed, k=5, metric="hamming", plan=plan)
    np.testing.assert_array_equal(found.indices, again.indices)
    for few in ({"recall": 1.0}, {"within": np.arange(47_000) % 9}):
        assert plan_knn_join(packed, metric="hamming", **few) == JoinPlan.exact()


def columns_of(packed: np.ndarray) -> dict:
    """Columns of these bits, of each kind that there is."""
    cells = [row.tobytes() for row in packed]
    arrays = pd.Series(list(packed), dtype=object)
    fixed = pa.array(cells, pa.binary(packed.shape[1]))
    return {
        "pyarrow": arrow_vectors(packed),
        "pyarrow lists": pa.array(packed.tolist(), pa.list_(pa.uint8())),
        "pyarrow binary": pa.chunked_array([cells[:3], cells[3:]], pa.binary()),
        "pyarrow fixed": fixed,
        "stream": fixed,
        "polars": pl.Series(packed, dtype=pl.Array(pl.UInt8, packed.shape[1])),
        "polars lists": pl.Series(packed.tolist(), dtype=pl.List(pl.UInt8)),
        "polars binary": pl.Series(cells, dtype=pl.Binary),
        "pandas": arrays,
        "pandas bytes": pd.Series(cells, dtype=object),
        "pandas arrow": pd.Series(pd.arrays.ArrowExtensionArray(fixed)),
    }


KINDS = list(columns_of(np.zeros((4, 2), np.uint8)))


def frame_of(kind: str, packed: np.ndarray, **more: object) -> object:
    columns = {"code": columns_of(packed)[kind], "row": np.arange(len(packed)), **more}
    library = kind.split()[0]
    if library == "stream":
        return Stream(pa.table(columns))
    return {"pyarrow": pa.table, "polars": pl.DataFrame, "pandas": pd.DataFrame}[library](columns)


@pytest.mark.parametrize("kind", KINDS)
def test_data_frames_are_joined_as_arrays_are(kind: str) -> None:
    packed = np.packbits(bits(70, 44, 0), axis=1)
    keys = ["a", "b", "c", "d", "e"] * 14
    near = {"metric": "hamming", "k": 3}
    found = lshjoin.join(frame_of(kind, packed), on="code", columns=["row"], **near)
    pairs = [(row["row_left"], row["row_right"], row["distance"]) for row in rows_of(found)]
    expected = knn_join(packed, **near).to_edges()
    assert pairs == list(zip(*(column.tolist() for column in expected), strict=True))
    apart = lshjoin.join(
        frame_of(kind, packed[:20], key=keys[:20]),
        frame_of(kind, packed[20:], key=keys[20:]),
        on="code",
        radius=0.5,
        apart="key",
        metric="jaccard",
        columns=["row"],
    )
    of_arrays = radius_join(
        packed[:20], packed[20:], 0.5, metric="jaccard", apart=(keys[:20], keys[20:])
    )
    assert [row["row_right"] for row in rows_of(apart)] == of_arrays.indices.tolist()
    # A column alone is an array, too.
    series = columns_of(packed)[kind]
    np.testing.assert_array_equal(knn_join(series, **near), knn_join(packed, **near))
    duplicates = dedup(frame_of(kind, packed), 4, on="code", metric="hamming")
    np.testing.assert_array_equal(duplicates.groups, dedup(packed, 4, metric="hamming").groups)


def test_lazy_frames_and_frames_without_rows() -> None:
    packed = np.packbits(bits(30, 24, 0), axis=1)
    frame = frame_of("polars", packed)
    near = {"on": "code", "k": 2, "metric": "jaccard"}
    lazy = lshjoin.join(frame.lazy(), **near)
    assert lazy.collect_schema()["distance"] == pl.Float32
    assert lazy.collect().equals(lshjoin.join(frame, **near))
    for kind in KINDS[:-2]:
        none = frame_of(kind, packed)
        none = none[:0] if kind.split()[0] in ("pandas", "polars") else pa.table(none)[:0]
        some = pa.table(frame_of(kind, packed)) if kind == "stream" else frame_of(kind, packed)
        assert len(lshjoin.join(none, some, **near)) == 0
        assert len(lshjoin.join(some, none, how="left", **near)) == 30
        assert len(dedup(none, 1, on="code", metric="hamming").groups) == 0


def test_columns_that_hold_no_packed_bits_are_refused() -> None:
    near = {"on": "v", "k": 1, "metric": "hamming"}
    for column in ([[1, 2]], [[0.5]], ["ab"], [7]):
        with pytest.raises(TypeError, match="packed bits|list of numbers"):
            lshjoin.join(pl.DataFrame({"v": column}), **near)
    with pytest.raises(TypeError, match="packed bits"):
        lshjoin.join(pd.DataFrame({"v": [[1, 2], [3, 4]]}), **near)
    for cells, row in (([b"ab", None], 1), ([b"ab", b"cd", b"abc"], 2), ([b""], 0)):
        for library in (pl.DataFrame, pa.table, pd.DataFrame):
            with pytest.raises(RowError) as raised:
                lshjoin.join(library({"v": cells}), **near)
            assert raised.value.row == row
    # By another metric bytes are no numbers.
    with pytest.raises(TypeError, match="list of numbers"):
        lshjoin.join(pl.DataFrame({"v": [b"ab"]}), on="v", k=1)


def test_dedup_takes_keys_old_rows_and_ids() -> None:
    new = np.array([[0b1111], [0b1110], [0b1110], [0]], np.uint8)
    old = np.array([[0b0001]], np.uint8)
    found = dedup(new, 2, metric="hamming", against=old, ids=["a", "b", "c", "d"])
    assert (found.groups.tolist(), found.matches.tolist()) == ([0, 0, 0, 1], [-1, -1, -1, 0])
    assert found.representatives.tolist() == ["a", "a", "a", None]
    found = dedup(new, 2, metric="hamming", within=["x", "y", "x", "y"], keep="last")
    assert (found.groups.tolist(), found.keep.tolist()) == ([0, 1, 0, 2], [False, True, True, True])
    found = dedup(new, 0.3, metric="jaccard", linkage="representative")
    assert found.keep.tolist() == [True, False, False, True]


@pytest.fixture
def stored(tmp_path, monkeypatch) -> tuple[np.ndarray, np.ndarray]:
    """items.parquet, queries.npy and queries.parquet; Python's memory does not count."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files_plan, "_BASE", 0)
    items, queries = (np.packbits(bits(rows, 100, rows), axis=1) for rows in (2000, 300))
    np.save("queries.npy", queries)
    for name, packed in {"items": items, "queries": queries}.items():
        columns = {
            "code": arrow_vectors(packed),
            "bytes": pa.array([row.tobytes() for row in packed], pa.binary(13)),
            "name": [f"{name}-{row}" for row in range(len(packed))],
            "key": np.arange(len(packed)) % 7,
        }
        pq.write_table(pa.table(columns), f"{name}.parquet", row_group_size=300)
    return queries, items


@pytest.mark.parametrize("metric", METRICS)
def test_files_are_joined_as_arrays_are(metric: str, stored: tuple) -> None:
    queries, items = stored
    near = {"metric": metric, "k": 4}
    expected = knn_join(queries, items, **near).to_edges()
    for column, name in (("code", "a"), ("bytes", "b")):
        found = knn_join_files(
            "queries.parquet", "items.parquet", column=column, out=f"{name}.parquet", **near
        )
        assert (found.plan.dim, found.plan.join, found.plan.out_of_core) == (
            104,
            JoinPlan.exact(),
            False,
        )
        table = pq.read_table(found.out)
        for one, of_arrays in zip(table.columns, expected, strict=True):
            np.testing.assert_array_equal(one, of_arrays)
    knn_join_files("queries.npy", k=4, metric=metric, out="c.parquet")
    np.testing.assert_array_equal(
        pq.read_table("c.parquet")["item"], knn_join(queries, **near).indices.ravel()
    )
    radius = {"hamming": 12.0, "jaccard": 0.3}[metric]
    within = {"radius": radius, "metric": metric}
    radius_join_files(pq.read_table("items.parquet"), column="code", out="d.parquet", **within)
    found = by_row(pq.read_table("d.parquet"))
    assert found == by_row(as_table(radius_join(items, **within)))
    dedup_files("items.parquet", radius, metric=metric, column="bytes", out="e.parquet")
    kept = pq.read_table("e.parquet")["keep"]
    np.testing.assert_array_equal(kept, dedup(items, radius, metric=metric).keep)


def test_groups_that_memory_does_not_hold_together_are_joined_in_pieces(stored: tuple) -> None:
    queries, items = stored
    keys = np.arange(300) % 7, np.arange(2000) % 7
    common = {"k": 4, "metric": "hamming", "column": "code", "within": "key"}
    told = []
    found = knn_join_files(
        "queries.parquet",
        "items.parquet",
        out="a.parquet",
        memory_limit=60_000,
        on_plan=told.append,
        **common,
    )
    assert found.plan.pieces.count > 1
    assert "recall  0.95 in each piece" in str(told[0])
    expected = knn_join(queries, items, 4, metric="hamming", within=keys)
    columns = expected.to_edges()._asdict()
    columns = {"query": columns["left"], "item": columns["right"], "distance": columns["distance"]}
    assert by_row(pq.read_table("a.parquet")) == by_row(pa.table(columns))


def test_files_that_memory_does_not_hold_are_refused(stored: tuple) -> None:
    join = {"metric": "jaccard", "column": "code", "memory_limit": 60_000}
    for call in (
        lambda: knn_join_files("items.parquet", out="a.parquet", **join),
        lambda: plan_knn_join_files("items.parquet", **join),
        lambda: radius_join_files("items.parquet", radius=0.1, out="a.parquet", **join),
        lambda: dedup_files("items.parquet", 0.1, out="a.parquet", **join),
    ):
        with pytest.raises(ValueError, match="packed bits are joined in memory alone"):
            call()
    plan = plan_knn_join_files("items.parquet", metric="jaccard", column="code")
    assert (plan.join, plan.dim) == (JoinPlan.exact(), 104)


def test_files_of_other_values_are_refused(stored: tuple) -> None:
    np.save("floats.npy", stored[0].astype(np.float32))
    pq.write_table(pa.table({"v": [[1, 2]], "s": ["ab"]}), "ints.parquet")
    near = {"metric": "hamming", "out": "a.parquet"}
    with pytest.raises(TypeError, match=r"floats.npy must hold packed bits.*float32"):
        knn_join_files("floats.npy", **near)
    for column in ("v", "s"):
        with pytest.raises(TypeError, match="packed bits|list of numbers"):
            knn_join_files("ints.parquet", column=column, **near)
    with pytest.raises(TypeError, match="for packed bits pass its files"):
        knn_join_files(lshjoin.open_dataset("queries.npy"), **near)
    np.save("short.npy", stored[0][:, 1:])
    with pytest.raises(ValueError, match="queries have 12 dimensions"):
        knn_join_files("short.npy", "queries.npy", **near)


def test_the_command_line_takes_metrics_of_bits(stored: tuple, capsys) -> None:
    for command in (
        "knn queries.npy --metric hamming -k 2 --out a.parquet --json",
        "radius items.parquet --column code --metric hamming --radius 9 --out b.csv --json",
        "dedup items.parquet --column bytes --metric jaccard --radius 0.2 --out c.parquet --json",
        "plan items.parquet --column code --metric jaccard --json",
    ):
        assert command_line.run(command.split()) == 0
        json.loads(capsys.readouterr().out)
    for command in (
        "index build items.parquet --column code --metric hamming --out a.index --json",
        "index query a.index queries.parquet --column bytes -k 2 --out d.parquet --json",
        "index info a.index --json",
        "index verify a.index",
    ):
        assert command_line.run(command.split()) == 0
        capsys.readouterr()
    np.testing.assert_array_equal(
        pq.read_table("d.parquet")["item"],
        knn_join(*stored, 2, metric="hamming").indices.ravel(),
    )


@pytest.mark.parametrize("metric", METRICS)
def test_an_index_finds_what_joins_do(metric: str, tmp_path) -> None:
    items, queries = (np.packbits(bits(rows, 70, rows), axis=1) for rows in (300, 40))
    ids = np.random.default_rng(0).permutation(300) * 3 - 100
    order = np.argsort(ids)  # in which ties are by id
    radius = {"hamming": 9.0, "jaccard": 0.2}[metric]
    index = Index.build(items[:200], ids=ids[:200], metric=metric)
    index.add(items[200:], ids[200:])
    index.remove(ids[::9])
    kept = order[order % 9 > 0]
    there = {"ids": ids[kept], "metric": metric}
    near = knn_join(queries, items[kept], 5, **there)
    within = radius_join(queries, items[kept], radius, **there)
    index.save(tmp_path / "index")
    opened = Index.load(tmp_path / "index")
    for one in (index, opened, pickle.loads(pickle.dumps(index))):
        assert (len(one), one.dim, one.metric) == (len(kept), 72, metric)
        assert repr(one) == f"<lshjoin.Index: {len(kept)} items, 72 dimensions, {metric}>"
        found = one.knn(queries, 5)
        assert (found.plan, found.report.recall.value) == (JoinPlan.exact(), 1.0)
        for actual, expected in zip(found, near, strict=True):
            np.testing.assert_array_equal(actual, expected, strict=True)
        for actual, expected in zip(one.radius(queries, radius), within, strict=True):
            np.testing.assert_array_equal(actual, expected, strict=True)
        few = one.radius(queries, np.full(40, radius), max_neighbors=2)
        expected = radius_join(queries, items[kept], radius, max_neighbors=2, **there)
        np.testing.assert_array_equal(few.indices, expected.indices)
        known = [(0, near.indices[0, 0]), (3, near.indices[3, 1])]
        found, expected = one.knn(queries, 5, exclude=known), near.indices[[0, 3]]
        np.testing.assert_array_equal(found.indices[0, :4], expected[0, 1:])
        np.testing.assert_array_equal(found.indices[3, :4], np.delete(expected[1], 1))
        one.verify()
    assert opened.info == {
        "items": len(kept),
        "removed": 0,
        "added": 0,
        "dim": 72,
        "metric": metric,
        "plan": JoinPlan.exact(),
    }


@pytest.mark.parametrize("metric", METRICS)
def test_new_rows_are_joined_with_an_index_and_added(metric: str) -> None:
    rows = np.packbits(bits(240, 50, 2), axis=1)
    numbers = np.arange(240)
    index = Index.build(rows[:200], metric=metric)
    found = index.join_new(rows[200:], numbers[200:], 4)
    expected = knn_join(rows, k=4, metric=metric)
    np.testing.assert_array_equal(found.indices, expected.indices[200:])
    assert len(index) == 240
    index.remove(numbers[200:])
    radius = float(expected.distances.mean())
    found = index.join_new(rows[200:], numbers[200:], radius=radius)
    expected = radius_join(rows, radius=radius, metric=metric)
    np.testing.assert_array_equal(found.indices, expected.indices[expected.lims[200] :])


def test_indexes_of_files_of_bits(stored: tuple) -> None:
    queries, items = stored
    pq.write_table(
        pq.read_table("items.parquet").append_column("id", pa.array(np.arange(len(items)) * 7)),
        "named.parquet",
    )
    common = {"column": "bytes", "id_column": "id", "metric": "jaccard"}
    for _ in range(2):  # the second in place of the first
        index = build_index("named.parquet", out="a.index", **common)
    assert (len(index), index.metric, index.plan) == (len(items), "jaccard", JoinPlan.exact())
    found = query_index("a.index", "queries.npy", k=3, out="a.parquet")
    expected = knn_join(queries, items, 3, metric="jaccard")
    table = pq.read_table("a.parquet")
    np.testing.assert_array_equal(table["item"], expected.indices.ravel() * 7)
    np.testing.assert_array_equal(table["distance"], expected.distances.ravel())
    assert found.plan == JoinPlan.exact()
    query_index("a.index", "queries.npy", k=2, out="b.parquet", exclude="a.parquet")
    expected = knn_join(queries, items, 5, metric="jaccard").indices[:, 3:]
    np.testing.assert_array_equal(pq.read_table("b.parquet")["item"], expected.ravel() * 7)
    with pytest.raises(ValueError, match="packed bits are joined in memory alone"):
        build_index("named.parquet", out="b.index", memory_limit=60_000, **common)
    np.save("floats.npy", queries.astype(np.float32))
    with pytest.raises(TypeError, match=r"floats.npy must hold packed bits.*float32"):
        query_index("a.index", "floats.npy", out="c.parquet")


def test_what_an_index_of_bits_can_not_do_is_refused(tmp_path) -> None:
    rows = np.packbits(bits(20, 30, 0), axis=1)
    index = Index.build(rows, metric="hamming")
    with pytest.raises(TypeError, match="queries must hold packed bits.*float32"):
        index.knn(rows.astype(np.float32))
    with pytest.raises(ValueError, match="queries have 3 bytes a row, but the index has 4"):
        index.knn(rows[:, 1:])
    with pytest.raises(ValueError, match="id 4 is in the index already"):
        index.add(rows[:1], [4])
    with pytest.raises(ValueError, match="plan must be exact, or by lists without rounds"):
        index.knn(rows, plan=JoinPlan.partitions(lists=4, probes=1))
    with pytest.raises(TypeError, match="has no lists: leave plan out"):
        Index.build(rows, metric="hamming", plan=JoinPlan.partitions(lists=4, probes=1))
    with pytest.raises(TypeError, match=r"built in memory: use Index.build"):
        Index.build_on_disk(
            tmp_path, lambda start: [(rows, range(20))], count=20, dim=4, metric="jaccard"
        )
    with pytest.raises(TypeError, match="no chunks: join its rows by knn_join"):
        index.knn_of_chunk(range(20), 2, plan=JoinPlan.exact())
    with pytest.raises(TypeError, match="plan must be a JoinPlan"):
        index.fixed_plan(plan="exact")
    with pytest.raises(TypeError, match="packed bits"):
        index.join_new(rows > 3, range(20, 40))
    assert len(index) == 20
    index.save(tmp_path)
    (file,) = tmp_path.glob("rows-*")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    for call in (
        lambda: Index.load(tmp_path, mmap=False),
        lambda: Index.load(tmp_path).verify(),
        lambda: Index.load(tmp_path).knn(rows),
        lambda: Index.load(tmp_path).save(tmp_path / "other"),
    ):
        with pytest.raises(ValueError, match=f"{file.name}.*not what was"):
            call()
