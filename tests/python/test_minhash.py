"""MinHashLSH: every form of a set, joins beside brute force, files, and what is no set."""

import pickle
import re
from itertools import product

import lshjoin
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
from lshjoin import MinHashLSH, MinHashLSHModel, RowError

PRIME = 2038074743

SETS = [[0, 1, 2], [2, 3, 4], [4, 2, 2], [7], [2, 3, 4]]


def random_sets(rng, count=200):
    """Some of 40 elements each; each has others that are nearly it."""
    of_group = np.random.default_rng(0).random((20, 40)) < 0.3
    flipped = rng.random((count, 40)) < 0.05
    there = of_group[rng.integers(20, size=count)] ^ flipped
    there[~there.any(axis=1), 0] = True
    return [np.flatnonzero(row).tolist() for row in there]


def frame_of(kind, sets):
    columns = {"id": np.arange(len(sets)), "features": sets}
    if kind == "pandas":
        return pd.DataFrame({"id": columns["id"], "features": pd.Series(sets, dtype=object)})
    table = pa.table(columns)
    return {"polars": lambda: pl.DataFrame(table)}.get(kind, lambda: table)()


def estimator(**params):
    return MinHashLSH(**{"inputCol": "features", "outputCol": "hashes", "seed": 12345} | params)


def arrow_of(result):
    """Whatever a call gave, as a pyarrow Table."""
    return pa.table(result) if not isinstance(result, pa.Table) else result


def hashes_of(result):
    column = result["hashes"]
    return column.to_list() if hasattr(column, "to_list") else column.to_pylist()


def pairs_of(joined):
    if isinstance(joined, pd.DataFrame):
        ids = (joined[(side, "id")].tolist() for side in ("datasetA", "datasetB"))
        distances = joined["distCol"].tolist()
    else:
        table = arrow_of(joined)
        rows = (table[side].to_pylist() for side in ("datasetA", "datasetB"))
        ids = ([row["id"] for row in side] for side in rows)
        distances = table["distCol"].to_pylist()
    return dict(zip(zip(*ids, strict=True), distances, strict=True))


def distance(x, y):
    x, y = set(x), set(y)
    common = len(x & y)
    return 1.0 - common / (len(x) + len(y) - common)


def brute_force(model, a, b):
    """Pairs that agree in a table, and their distances."""
    of_a, of_b = (hashes_of(model.transform(pa.table({"features": side}))) for side in (a, b))
    return {
        (i, j): distance(a[i], b[j])
        for i, j in product(range(len(a)), range(len(b)))
        if any(x == y for x, y in zip(of_a[i], of_b[j], strict=True))
    }


def test_hashes_are_sparks(kind):
    """Of Spark 4.3.0, seed 12345."""
    if kind == "stream":
        pytest.skip("a stream has lists as pyarrow has them")
    hashed = estimator(numHashTables=3).fit(frame_of(kind, SETS)).transform(frame_of(kind, SETS))
    first, second, third, *_ = (np.ravel([list(v) for v in row]) for row in hashes_of(hashed))
    assert first.tolist() == [617966841, 1866029325, 1371902766]
    assert second.tolist() == [133824602, 1797056323, 873853392]
    assert third.tolist() == [910790854, 1797056323, 873853392]


def test_defaults_are_sparks():
    mh = MinHashLSH()
    assert (mh.getSeed(), mh.getNumHashTables(), mh.getNumHashFunctions()) == (328749633, 1, 1)
    assert not mh.hasParam("bucketLength")
    model = estimator().fit(frame_of("polars", SETS))
    assert repr(model) == f"MinHashLSHModel: uid={model.uid}, numHashTables=1"
    assert model.keyModes == ["packed"]
    assert estimator(numHashFunctions=5).fit(frame_of("polars", SETS)).keyModes == ["rehash"]


@pytest.mark.parametrize(("functions", "tables"), [(1, 1), (1, 6), (3, 4), (5, 8)])
def test_joins_are_those_of_brute_force(kind, rng, functions, tables):
    if kind == "stream":
        pytest.skip("what a stream holds is a pyarrow Table")
    a, b = random_sets(rng, 100), random_sets(rng, 80)
    frames = frame_of(kind, a), frame_of(kind, b)
    model = estimator(numHashTables=tables, numHashFunctions=functions).fit(frames[0])
    for left, right, sides in ((a, b, frames), (a, a, (frames[0], frames[0]))):
        expected = brute_force(model, left, right)
        near = {pair: far for pair, far in expected.items() if far < 0.5}
        found = pairs_of(model.approxSimilarityJoin(*sides, 0.5))
        assert found == near
        assert list(found) == sorted(near)
        assert len(near) > 10
    for row in (0, 1):
        found = arrow_of(model.approxNearestNeighbors(frames[0], b[row], 7))
        of_row = brute_force(model, [b[row]], a)
        order = sorted(of_row, key=lambda pair: (of_row[pair], pair))[:7]
        assert found["id"].to_pylist() == [i for _, i in order]
        assert found["distCol"].to_pylist() == [of_row[pair] for pair in order]


def test_thresholds_are_strict():
    sets = frame_of("pyarrow", SETS)
    model = estimator(numHashTables=4).fit(sets)
    assert model.approxSimilarityJoin(sets, sets, 0.0).num_rows == 0
    assert (1, 4) in pairs_of(model.approxSimilarityJoin(sets, sets, 1e-9))
    with pytest.raises(ValueError, match="threshold is NaN"):
        model.approxSimilarityJoin(sets, sets, float("nan"))


def test_threads_do_not_matter(rng):
    sets = frame_of("polars", random_sets(rng))
    model = estimator(numHashTables=5, numHashFunctions=2).fit(sets)
    one, three = (
        model.approxSimilarityJoin(sets, sets, 0.9, num_threads=threads) for threads in (1, 3)
    )
    assert one.equals(three)


class Sparse:
    """As pyspark.ml has it."""

    def __init__(self, size, indices, values):
        self.size, self.indices, self.values = size, np.array(indices, np.int32), np.array(values)


class Dense:
    """As pyspark.ml has it."""

    def __init__(self, values):
        self._values = np.array(values, np.float64)

    def toArray(self):
        return self._values


def dense(rows):
    there = np.zeros((len(rows), 8))
    for row, elements in enumerate(rows):
        there[row, elements] = 2.5
    return there


def spark_column(rows):
    """Vectors of Spark's in Arrow, every other one dense; sparse ones with a 0 that is stored."""
    cells = [
        {"type": 1, "size": None, "indices": None, "values": dense([row])[0].tolist()}
        if at % 2
        else {
            "type": 0,
            "size": 8,
            "indices": [*sorted(set(row) - {6}), 6],
            "values": [1.0] * len(set(row)) + [0.0],
        }
        for at, row in enumerate(rows)
    ]
    ints, doubles = pa.list_(pa.int32()), pa.list_(pa.float64())
    kinds = [("type", pa.int8()), ("size", pa.int32()), ("indices", ints), ("values", doubles)]
    return pa.array(cells, pa.struct(kinds))


FORMS = {
    "int32": lambda: pa.table({"features": pa.array(SETS, pa.list_(pa.int32()))}),
    "uint64": lambda: pa.table({"features": pa.array(SETS, pa.large_list(pa.uint64()))}),
    "chunks": lambda: pa.concat_tables(
        [pa.table({"features": SETS[:2]}), pa.table({"features": [[9], *SETS[2:]]}).slice(1)]
    ),
    "fixed size": lambda: pa.table(
        {"features": pa.array([(row * 4)[:4] for row in SETS], pa.list_(pa.int64(), 4))}
    ),
    "dense": lambda: pl.DataFrame({"features": dense(SETS).tolist()}),
    "Spark's in Arrow": lambda: pa.table({"features": spark_column([[5], *SETS])}).slice(1),
    "Spark's in pandas": lambda: pd.DataFrame(
        {
            "features": [
                Sparse(8, sorted({*row}), [1.0] * len({*row})) if at % 2 else Dense(dense([row])[0])
                for at, row in enumerate(SETS)
            ]
        }
    ),
    "sets": lambda: pd.DataFrame({"features": [set(row) for row in SETS]}),
    "arrays": lambda: pd.DataFrame({"features": [np.array(row, np.uint16) for row in SETS]}),
    "rows of CSR": lambda: pd.DataFrame(
        {"features": [scipy.sparse.csr_matrix(row) for row in dense(SETS)]}
    ),
    "CSR": lambda: scipy.sparse.csr_matrix(dense(SETS)),
    "COO": lambda: scipy.sparse.coo_array(dense(SETS)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_set(form):
    model = estimator(numHashTables=4, numHashFunctions=2).fit(FORMS[form]())
    expected = hashes_of(model.transform(frame_of("pyarrow", SETS)))
    hashed = model.transform(FORMS[form]())
    assert [np.array([list(v) for v in row]).tolist() for row in hashes_of(hashed)] == expected


def test_a_sparse_matrix_is_a_table():
    matrix = scipy.sparse.csr_matrix(dense(SETS))
    model = estimator(numHashTables=9).fit(matrix)
    joined = model.approxSimilarityJoin(matrix, matrix, 0.6)
    assert pairs_of(joined)[1, 4] == 0.0
    for key in (matrix[1], dense(SETS)[1], [2, 3, 4], {2, 3, 4}, pl.Series([4, 3, 2])):
        found = model.approxNearestNeighbors(matrix, key, 2)
        assert found.column_names == ["id", "features", "hashes", "distCol"]
        assert found["id"].to_pylist() == [1, 4]
    with pytest.raises(TypeError, match="must be of type list of numbers but was actually struct"):
        lshjoin.RandomHyperplaneLSH(inputCol="features").fit(matrix)


@pytest.mark.parametrize("string", [pa.string(), pa.large_string()])
def test_tokens(string):
    words = ["a rose is a rose", "a rose is", "nothing ü alike", "ü"]
    tokens = [line.split() for line in words]
    table = pa.table({"id": range(4), "features": pa.array([["x"], *tokens], pa.list_(string))[1:]})
    model = estimator(numHashTables=12).fit(table)
    same = pl.DataFrame(table), pd.DataFrame({"features": tokens}), table.slice(0)
    expected = hashes_of(model.transform(table))
    for other in same:
        hashed = hashes_of(model.transform(other))
        assert [np.array([list(v) for v in row]).tolist() for row in hashed] == expected
    assert pairs_of(model.approxSimilarityJoin(table, table, 0.1)) == {
        pair: 0.0 for pair in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (3, 3)]
    }
    assert model.approxNearestNeighbors(table, {"is", "a", "rose"}, 3)["id"].to_pylist() == [0, 1]
    as_number = pa.table(
        {"id": [0], "features": [[629571662]]}
    )  # xxh3_64("near") % PRIME, by the package xxhash
    near = pa.table({"id": [0], "features": [["near"]]})
    assert hashes_of(model.transform(as_number)) == hashes_of(model.transform(near))


@pytest.mark.parametrize("functions", [1, 3])
def test_saved_and_pickled(tmp_path, functions):
    sets = frame_of("polars", SETS)
    mh = estimator(numHashTables=4, numHashFunctions=functions)
    mh.save(tmp_path / "estimator")
    loaded = MinHashLSH.load(tmp_path / "estimator")
    model = loaded.fit(sets)
    model.save(tmp_path / "model")
    names = (tmp_path / "model" / "metadata" / "part-00000").read_text()
    ours = "lshjoin.MinHashLSHModel"
    sparks = "org.apache.spark.ml.feature.MinHashLSHModel"
    assert f'"{sparks if functions == 1 else ours}"' in names
    expected = mh.fit(sets).transform(sets)
    for other in (MinHashLSHModel.load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        assert other.uid == mh.uid
        assert other.transform(sets).equals(expected)
    with pytest.raises(ValueError, match="Expected class name"):
        lshjoin.BucketedRandomProjectionLSHModel.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, 3], "no pairs"),
        ([0, 2], "pairs (a, b)"),
        ([1, PRIME], "pairs (a, b)"),
        ([], "divisor"),
        (None, "what was saved"),
    ],
)
def test_saved_functions_that_are_none(tmp_path, values, message):
    estimator().fit(frame_of("polars", SETS)).save(tmp_path / "model")
    (file,) = (tmp_path / "model" / "data").glob("*.parquet")
    column = pa.array([values], pa.list_(pa.int32()))
    pq.write_table(pa.table({"randCoefficients": column}), file)
    with pytest.raises(ValueError, match=re.escape(message)):
        MinHashLSHModel.load(tmp_path / "model")


EMPTY = "Must have at least 1 non zero entry."

BAD_ROWS = {
    "empty": ([[1], []], EMPTY),
    "null": ([[1], None], "row 1 is null"),
    "null within": ([[1], [2, None]], "row 1 holds a null"),
    "negative": ([[1], [-5, 2]], "holds the element -5"),
    "too large": ([[1], [PRIME]], f"holds the element {PRIME}"),
    "of zeros": ([[1.0], [0.0]], EMPTY),
}


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_bad_rows(kind, bad):
    if kind == "stream":
        pytest.skip("a stream has lists as pyarrow has them")
    rows, message = BAD_ROWS[bad]
    good = frame_of(kind, [[1], [2]])
    model = estimator().fit(good)
    frame = frame_of(kind, rows)
    for use in (
        lambda: estimator().fit(frame),
        lambda: model.transform(frame),
        lambda: model.approxSimilarityJoin(good, frame, 0.5),
        lambda: model.approxSimilarityJoin(frame, frame, 0.5),
        lambda: model.approxNearestNeighbors(frame, [1], 1),
    ):
        with pytest.raises(RowError, match=re.escape(message)) as raised:
            use()
        assert raised.value.row == 1
        assert "Column features" in str(raised.value)


@pytest.mark.parametrize(
    "column",
    [
        [1, 2],
        ["a", "b"],
        [[True], [False]],
        [[[1]], [[2]]],
        [{"indices": [1]}, {"indices": [2]}],
    ],
)
def test_columns_that_hold_no_sets(kind, column):
    if kind == "stream":
        pytest.skip("a stream has lists as pyarrow has them")
    with pytest.raises(TypeError, match="must be a set: whole numbers, strings, or a sparse or"):
        estimator().fit(frame_of(kind, column))


@pytest.mark.parametrize("cell", [[1, "a"], [1, 2.5], [True, 2], {"a": 1}, 3, [object()], b"ab"])
def test_cells_of_mixed_elements(cell):
    with pytest.raises(TypeError, match="must be a set.*row 1"):
        estimator().fit(frame_of("pandas", [[1], cell]))


def test_mixed_kinds():
    numbers, tokens = frame_of("pandas", [[1]]), frame_of("pandas", [["a"]])
    with pytest.raises(TypeError, match="holds numbers and tokens"):
        estimator().fit(frame_of("pandas", [[1], ["a"]]))
    model = estimator().fit(numbers)
    with pytest.raises(TypeError, match="datasetA and datasetB hold numbers and tokens"):
        model.approxSimilarityJoin(numbers, tokens, 0.5)
    with pytest.raises(TypeError, match="key and dataset hold numbers and tokens"):
        model.approxNearestNeighbors(tokens, [1], 1)


def test_elements_of_any_layout():
    sets = pl.DataFrame({"id": range(3), "features": [[0, 2, 4], [1, 2, 3], [0, 4, 6]]})
    model = MinHashLSH(inputCol="features", numHashTables=4, seed=0).fit(sets)
    unaligned = np.frombuffer(b"x" + np.array([0, 2, 4]).tobytes(), np.uint8)[1:].view(np.int64)
    for key in (np.arange(6)[::2], unaligned, np.array([0, 2, 4], ">i8"), np.uint64([0, 2, 4])):
        assert model.approxNearestNeighbors(sets, key, 1)["id"].to_list() == [0]
    sliced = pa.table({"features": pa.array([[9], [0, 2, 4], [1, 2, 3], [0, 4, 6]])[1:]})
    whole = pa.table({"features": sets["features"].to_list()})
    assert model.transform(sliced).equals(model.transform(whole))


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        ([], ValueError, f"key: row 0 is an empty set: {EMPTY}"),
        ([-1], ValueError, "key: row 0 holds the element -1"),
        ([10**30], ValueError, "key: row 0 holds the element"),
        ("a", TypeError, "key must be a set"),
        (None, TypeError, "key must be a set"),
        ([1, None], TypeError, "key must be a set"),
        (np.ones((2, 2)), TypeError, "key must be a set"),
        (scipy.sparse.csr_matrix(np.eye(2)), TypeError, "key must be a set"),
    ],
)
def test_bad_keys(key, error, message):
    sets = frame_of("polars", SETS)
    model = estimator().fit(sets)
    with pytest.raises(error, match=re.escape(message)):
        model.approxNearestNeighbors(sets, key, 1)


@pytest.mark.parametrize(
    ("indices", "values", "message"),
    [
        ([1, 2], [1.0], "is no vector: 2 indices of 1 values"),
        ([1], [1.0, 2.0], "is no vector: 1 indices of 2 values"),
        ([-1], [1.0], "holds the element -1"),
        ([None], [1.0], "holds a null"),
        ([1], [None], "holds a null"),
        (None, [1.0], "is no vector"),
    ],
)
def test_sparse_vectors_that_are_none(indices, values, message):
    cells = [{"type": 0, "size": 8, "indices": indices, "values": values}]
    column = pa.array(cells, spark_column([[1]]).type)
    with pytest.raises(RowError, match=message):
        estimator().fit(pa.table({"features": column}))


def test_parameters_that_are_refused():
    for name in ("numHashTables", "numHashFunctions"):
        with pytest.raises(ValueError, match=f"parameter {name} given invalid value 0"):
            estimator(**{name: 0})
    sets = frame_of("polars", SETS)
    with pytest.raises(ValueError, match="cannot be less than 1"):
        estimator().fit(sets).approxNearestNeighbors(sets, [1], 0)
    with pytest.raises(ValueError, match="Column features already exists"):
        estimator(outputCol="features").fit(sets)
    with pytest.raises(MemoryError):
        estimator(numHashTables=2**31 - 1, numHashFunctions=2**31 - 1).fit(sets)


def test_frames_without_rows():
    none = pa.table(
        {"id": pa.array([], pa.int64()), "features": pa.array([], pa.list_(pa.int64()))}
    )
    model = estimator().fit(none)
    sets = frame_of("pyarrow", SETS)
    assert model.transform(none).num_rows == 0
    assert model.approxSimilarityJoin(none, sets, 0.5).num_rows == 0
    assert model.approxNearestNeighbors(none, [1], 3).num_rows == 0
