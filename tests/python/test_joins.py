"""Models against NumPy: candidates are the rows that share a bucket, distances are exact."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from frames import make_frame, rows_of
from lshjoin import (
    BucketedRandomProjectionLSH,
    ManhattanProjectionLSH,
    RandomHyperplaneLSH,
    knn_join,
)

KINDS = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.Table, "stream": pa.Table}
PARAMS = {"inputCol": "features", "outputCol": "hashes", "seed": 7}
LSHS = [
    BucketedRandomProjectionLSH(bucketLength=1.5, numHashTables=3, **PARAMS),
    BucketedRandomProjectionLSH(bucketLength=3.0, numHashTables=4, numHashFunctions=3, **PARAMS),
    ManhattanProjectionLSH(bucketLength=20.0, numHashTables=3, numHashFunctions=2, **PARAMS),
    RandomHyperplaneLSH(numHashTables=3, numHashFunctions=4, **PARAMS),
]


@pytest.fixture(params=LSHS, ids=lambda lsh: f"{lsh.family}-k{lsh.getNumHashFunctions()}")
def lsh(request):
    return request.param


def hash_array(model, frame):
    """(rows, tables, functions) from the hash column."""
    return np.array([row["hashes"] for row in rows_of(model.transform(frame))])


def distances(family, a, b):
    """All distances between two arrays, in float64."""
    a, b = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    if family == "euclidean":
        return np.sqrt(((a - b) ** 2).sum(-1))
    if family == "manhattan":
        return np.abs(a - b).sum(-1)
    return 1 - (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def candidates(hashes_a, hashes_b):
    """Which pairs share all buckets of some table."""
    return (hashes_a[:, None] == hashes_b[None]).all(-1).any(-1)


def tolerance(dtype):
    return {"rtol": 1e-12} if dtype == np.float64 else {"rtol": 1e-5, "atol": 1e-6}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_hash_column(lsh, kind, rng, dtype):
    rows = rng.standard_normal((30, 5)).astype(dtype)
    frame = make_frame(kind, rows)
    model = lsh.fit(frame)
    transformed = model.transform(frame)
    assert type(transformed) is KINDS[kind]
    records = rows_of(transformed)
    assert list(records[0]) == ["id", "features", "hashes"]
    np.testing.assert_array_equal([record["features"] for record in records], rows)
    hashes = np.array([record["hashes"] for record in records])
    assert hashes.shape == (30, lsh.getNumHashTables(), lsh.getNumHashFunctions())
    assert isinstance(records[0]["hashes"][0][0], float)
    assert len(np.unique(hashes)) > 1
    if lsh.family == "cosine":
        assert set(np.unique(hashes)) <= {0.0, 1.0}


def test_hash_column_type(rng):
    table = make_frame("pyarrow", rng.standard_normal((4, 3)))
    expected = pa.list_(pa.list_(pa.float64()))
    model = LSHS[0].fit(table)
    assert model.transform(table).schema.field("hashes").type == expected
    pandas = model.transform(make_frame("pandas", rng.standard_normal((4, 3))))
    assert pandas["hashes"].dtype == pd.ArrowDtype(expected)
    polars = model.transform(make_frame("polars", rng.standard_normal((4, 3))))
    assert polars["hashes"].dtype == pl.List(pl.List(pl.Float64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_similarity_join(lsh, kind, rng, dtype):
    a = rng.standard_normal((40, 5)).astype(dtype)
    b = rng.standard_normal((30, 5)).astype(dtype)
    frame_a, frame_b = make_frame(kind, a), make_frame(kind, b, ids=np.arange(30) + 100)
    model = lsh.fit(frame_a)
    truth = distances(lsh.family, a, b)
    shared = candidates(hash_array(model, frame_a), hash_array(model, frame_b))
    threshold = 1.001 * float(np.median(truth[shared]))
    expected = np.argwhere(shared & (truth < threshold))
    assert 0 < len(expected) < shared.sum() < shared.size

    joined = model.approxSimilarityJoin(frame_a, frame_b, threshold, distCol="d")
    assert type(joined) is KINDS[kind]
    records = rows_of(joined)
    assert list(records[0]) == ["datasetA", "datasetB", "d"]
    for side in ("datasetA", "datasetB"):
        assert list(records[0][side]) == ["id", "features", "hashes"]
    pairs = [(record["datasetA"]["id"], record["datasetB"]["id"] - 100) for record in records]
    assert pairs == [tuple(pair) for pair in expected.tolist()]
    np.testing.assert_allclose(
        [record["d"] for record in records], truth[tuple(expected.T)], **tolerance(dtype)
    )
    for record in records:
        np.testing.assert_array_equal(
            record["datasetB"]["features"], b[record["datasetB"]["id"] - 100]
        )


def test_self_join(lsh, kind, rng):
    rows = rng.standard_normal((40, 5))
    frame = make_frame(kind, rows)
    model = lsh.fit(frame)
    shared = candidates(*[hash_array(model, frame)] * 2)
    truth = distances(lsh.family, rows, rows)
    threshold = 1.001 * float(np.median(truth[shared & (truth > 0.01)]))
    expected = {tuple(pair) for pair in np.argwhere(shared & (truth < threshold)).tolist()}
    records = rows_of(model.approxSimilarityJoin(frame, frame, threshold))
    pairs = [(record["datasetA"]["id"], record["datasetB"]["id"]) for record in records]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == expected
    assert {(i, i) for i in range(40)} < expected
    other = make_frame(kind, rows)  # equal, but another frame: the same answer
    again = rows_of(model.approxSimilarityJoin(frame, other, threshold))
    assert [(record["datasetA"]["id"], record["datasetB"]["id"]) for record in again] == pairs


def test_nearest_neighbors_of_a_key(lsh, kind, rng):
    rows = rng.standard_normal((50, 5))
    frame = make_frame(kind, rows)
    model = lsh.fit(frame)
    hashes = hash_array(model, frame)
    truth = distances(lsh.family, rows, rows)
    lengths = set()
    for item in range(10):
        shared = np.flatnonzero(candidates(hashes[item : item + 1], hashes)[0])
        expected = shared[np.argsort(truth[item, shared], kind="stable")][:40]
        nearest = model.approxNearestNeighbors(frame, list(rows[item]), 40)
        assert type(nearest) is KINDS[kind]
        records = rows_of(nearest)
        assert list(records[0]) == ["id", "features", "hashes", "distCol"]
        assert [record["id"] for record in records] == expected.tolist()
        np.testing.assert_allclose(
            [record["distCol"] for record in records], truth[item, expected], atol=1e-9
        )
        lengths.add(len(records))
    assert min(lengths) < 40  # fewer candidates than asked for: no fallback, as in Spark


def test_nearest_neighbors_join(lsh, kind, rng):
    """The nearest of all rows, whatever buckets they are in: as many as are asked for."""
    a, b = rng.standard_normal((20, 5)), rng.standard_normal((40, 5))
    frame_a, frame_b = make_frame(kind, a), make_frame(kind, b)
    joined = rows_of(lsh.fit(frame_b).approxNearestNeighborsJoin(frame_a, frame_b, 3, distCol="d"))
    assert list(joined[0]) == ["datasetA", "datasetB", "d"]
    assert list(joined[0]["datasetA"]) == list(joined[0]["datasetB"]) == ["id", "features"]
    truth = distances(lsh.family, a, b)
    nearest = np.argsort(truth, axis=1)[:, :3]
    assert [(r["datasetA"]["id"], r["datasetB"]["id"]) for r in joined] == [
        (key, item) for key in range(20) for item in nearest[key].tolist()
    ]
    np.testing.assert_allclose(
        [r["d"] for r in joined], np.take_along_axis(truth, nearest, 1).ravel()
    )


@pytest.mark.parametrize("lsh", [LSHS[0], LSHS[3]], ids=lambda lsh: lsh.family)
def test_nearest_neighbors_join_by_recall(lsh, rng):
    """Far more rows than would be compared all with all: the recall of the array functions."""
    centres = rng.standard_normal((300, 24)) * 4
    rows = centres[rng.integers(300, size=12_000)] + rng.standard_normal((12_000, 24))
    rows = rows.astype(np.float32)
    frame = make_frame("polars", rows)
    joined = lsh.fit(frame).approxNearestNeighborsJoin(frame, frame, 6, recall=0.8)
    found = joined["datasetB"].struct["id"].to_numpy().reshape(-1, 6)
    expected = knn_join(rows, rows, 6, metric=lsh.family, recall=0.8)
    assert expected.report.recall.value < 1
    np.testing.assert_array_equal(found, expected.indices)
    with pytest.raises(ValueError, match="recall must be above 0 and at most 1"):
        lsh.fit(frame).approxNearestNeighborsJoin(frame, frame, 6, recall=1.5)


def test_nearest_neighbors_join_of_one_frame(kind, rng):
    rows = rng.standard_normal((30, 5))
    frame = make_frame(kind, rows)
    joined = rows_of(LSHS[0].fit(frame).approxNearestNeighborsJoin(frame, frame, 2))
    own = [r for r in joined if r["datasetA"]["id"] == r["datasetB"]["id"]]
    assert [r["datasetA"]["id"] for r in own] == list(range(30))
    assert {r["distCol"] for r in own} == {0.0}


@pytest.mark.parametrize(
    ("a", "b", "wide"),
    [
        (np.float32, np.float64, np.float64),
        (np.float16, np.float32, np.float32),
        (np.int8, np.float32, np.float32),
        (np.int64, np.float32, np.float64),
        (np.float16, np.float16, np.float32),
    ],
)
def test_types_of_two_sides(a, b, wide, rng):
    rows = rng.integers(-3, 4, (30, 5))
    model = LSHS[0].fit(make_frame("polars", rows.astype(np.float64)))
    frames = [make_frame("polars", rows.astype(dtype)) for dtype in (a, b)]
    truth = make_frame("polars", rows.astype(np.float64))
    ours = model.approxSimilarityJoin(*frames, 4.0)
    exact = model.approxSimilarityJoin(truth, truth, 4.0)
    assert ours["distCol"].to_numpy().dtype == wide
    for side in ("datasetA", "datasetB"):
        assert ours[side].struct["id"].to_list() == exact[side].struct["id"].to_list()
    np.testing.assert_allclose(ours["distCol"], exact["distCol"], rtol=1e-6)


def test_hash_column_that_is_there_is_kept(kind, rng):
    rows = rng.standard_normal((30, 5))
    frame = make_frame(kind, rows)
    model = LSHS[0].fit(frame)
    hashed = model.transform(frame)
    kept = rows_of(model.approxSimilarityJoin(hashed, hashed, 2.0))
    made = rows_of(model.approxSimilarityJoin(frame, frame, 2.0))
    assert list(kept[0]["datasetA"]) == ["id", "features", "hashes"]
    assert [r["datasetB"]["hashes"] for r in kept] == [r["datasetB"]["hashes"] for r in made]
    nearest = rows_of(model.approxNearestNeighbors(hashed, rows[0], 3))
    assert list(nearest[0]) == ["id", "features", "hashes", "distCol"]


def test_dist_col_replaces_a_column_of_its_name(kind, rng):
    rows = rng.standard_normal((10, 5))
    frame = make_frame(kind, rows)
    nearest = rows_of(LSHS[0].fit(frame).approxNearestNeighbors(frame, rows[3], 1, distCol="id"))
    assert list(nearest[0]) == ["id", "features", "hashes"]
    assert nearest[0]["id"] == 0.0


def test_pandas_shape(rng):
    rows = rng.standard_normal((10, 5))
    frame = make_frame("pandas", rows).set_index(pd.Index(range(50, 60)))
    model = LSHS[0].fit(frame)
    joined = model.approxSimilarityJoin(frame, frame, 0.1)
    assert list(joined.columns) == [
        ("datasetA", "id"),
        ("datasetA", "features"),
        ("datasetA", "hashes"),
        ("datasetB", "id"),
        ("datasetB", "features"),
        ("datasetB", "hashes"),
        ("distCol", ""),
    ]
    assert joined.index.equals(pd.RangeIndex(10))
    assert joined["distCol"].tolist() == [0.0] * 10
    # Rows that are picked, not paired, keep their labels.
    assert model.approxNearestNeighbors(frame, rows[3], 1).index.tolist() == [53]
    assert model.transform(frame).index.equals(frame.index)


def test_polars_and_arrow_shapes(rng):
    rows = rng.standard_normal((10, 5)).astype(np.float32)
    for kind in ("polars", "pyarrow"):
        frame = make_frame(kind, rows)
        model = LSHS[0].fit(frame)
        joined = model.approxSimilarityJoin(frame, frame, 1.0)
        table = joined if kind == "pyarrow" else joined.to_arrow()
        assert pa.types.is_struct(table.schema.field("datasetA").type)
        assert table.schema.field("distCol").type == pa.float32()


def test_long_arrow_results_come_in_chunks(rng, monkeypatch):
    frame = make_frame("pyarrow", rng.standard_normal((30, 5)))
    model = LSHS[0].fit(frame)
    whole = model.approxSimilarityJoin(frame, frame, 2.0)
    monkeypatch.setattr("lshjoin.base.columns.PIECE", 280)
    parts = model.approxSimilarityJoin(frame, frame, 2.0)
    assert parts.column("datasetA").num_chunks > 1
    assert parts.equals(whole)


def test_input_is_not_changed(kind, rng):
    rows = rng.standard_normal((10, 5))
    frame = make_frame(kind, rows)
    model = LSHS[0].fit(frame)
    model.transform(frame)
    model.approxSimilarityJoin(frame, frame, 1.0)
    model.approxNearestNeighbors(frame, rows[0], 1)
    if kind != "stream":
        assert list(rows_of(frame)[0]) == ["id", "features"]
