"""MinHashLSH beside a running Spark: here over data frames, and in lshjoin.spark.

With LSHJOIN_MINHASH_ROWS=5000 on as many sets, for three seeds and 1, 5 and 16 tables.
"""

import doctest
import os
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse
from arrow_tables import from_arrow, to_arrow
from test_on_spark import WAYS, hashes_of, reset_way, set_way

pytestmark = pytest.mark.usefixtures("spark")

FEW = 400
ROWS = int(os.environ.get("LSHJOIN_MINHASH_ROWS", FEW))
SEEDS, TABLES = (12345, -7, 2**63 - 1), (1, 5, 16)
CASES = [*product(SEEDS, TABLES)] if ROWS > FEW else [*zip(SEEDS, TABLES, strict=True)]
DIM = 2_000


def sparse_rows(count, seed):
    """Rows of some 20 values in groups of ten, of which most share most; some store zeros."""
    rng = np.random.default_rng(seed)
    of_group = np.random.default_rng(0).integers(DIM, size=(max(count // 10, 1), 20))
    elements = of_group[rng.integers(len(of_group), size=count)]
    changed = rng.random(elements.shape) < 0.15
    elements = np.where(changed, rng.integers(DIM, size=elements.shape), elements)
    rows = np.repeat(np.arange(count), elements.shape[1])
    values = rng.integers(0, 4, size=elements.size).astype(float)  # a quarter are zeros
    matrix = scipy.sparse.coo_array((values, (rows, elements.ravel())), (count, DIM)).tocsr()
    assert (matrix != 0).sum(axis=1).min() > 0
    return matrix


def frame(spark, matrix):
    """Columns ``id`` and ``features``: sparse vectors, every fifth dense."""
    from pyspark.ml.linalg import Vectors

    def vector(row):
        part = slice(*matrix.indptr[row : row + 2])
        if row % 5 == 0:
            return Vectors.dense(matrix[[row]].toarray()[0])
        order = np.argsort(matrix.indices[part])
        return Vectors.sparse(DIM, matrix.indices[part][order], matrix.data[part][order])

    rows = [(row, vector(row)) for row in range(matrix.shape[0])]
    return spark.createDataFrame(rows, ["id", "features"]).repartition(2).cache()


@pytest.fixture(scope="module")
def sides(spark):
    matrices = sparse_rows(ROWS, 1), sparse_rows(ROWS, 2)
    frames = [frame(spark, matrix) for matrix in matrices]
    yield matrices, frames
    for each in frames:
        each.unpersist()


def estimators(**params):
    """Spark's, ours over data frames, and ours over Spark's."""
    import lshjoin.spark
    import pyspark.ml.feature

    params = {"inputCol": "features", "outputCol": "hashes"} | params
    sparks = {name: value for name, value in params.items() if name != "numHashFunctions"}
    theirs = pyspark.ml.feature.MinHashLSH(**sparks)
    return [theirs, lshjoin.MinHashLSH(**params), lshjoin.spark.MinHashLSH(**params)]


def spark_pairs(joined):
    rows = to_arrow(joined.selectExpr("datasetA.id a", "datasetB.id b", "distCol")).to_pydict()
    pairs = dict(zip(zip(rows["a"], rows["b"], strict=True), rows["distCol"], strict=True))
    assert len(pairs) == len(rows["a"]), "a pair comes twice"
    return pairs


def our_pairs(joined):
    ids = (
        joined[side].combine_chunks().field("id").to_pylist() for side in ("datasetA", "datasetB")
    )
    return dict(zip(zip(*ids, strict=True), joined["distCol"].to_pylist(), strict=True))


def our_hashes(hashed):
    return np.array(hashed["hashes"].to_pylist())[:, :, 0]


@pytest.mark.parametrize(("seed", "tables"), CASES)
def test_hashes_and_pairs_are_those_of_spark(sides, seed, tables):
    (a, b), (left, right) = sides
    theirs, ours, on_spark = estimators(seed=seed, numHashTables=tables)
    theirs, ours, on_spark = theirs.fit(left), ours.fit(a), on_spark.fit(left)
    expected = theirs.transform(left)
    np.testing.assert_array_equal(our_hashes(ours.transform(a)), hashes_of(expected))
    hashed = on_spark.transform(left)
    assert hashed.schema == expected.schema
    np.testing.assert_array_equal(hashes_of(hashed), hashes_of(expected))

    of_two, of_one = ((left, right), (a, b)), ((left, left), (a, a))
    for frames, matrices in (
        (of_two, of_one) if ROWS > FEW else (of_one if tables == 5 else of_two,)
    ):
        expected = theirs.approxSimilarityJoin(*frames, 0.6)
        pairs = spark_pairs(expected)
        assert len(pairs) > ROWS / 2
        assert our_pairs(ours.approxSimilarityJoin(*matrices, 0.6)) == pairs
        joined = on_spark.approxSimilarityJoin(*frames, 0.6)
        assert joined.schema.simpleString() == expected.schema.simpleString()
        assert spark_pairs(joined) == pairs


def test_several_functions_a_table_and_a_shuffle(spark, sides):
    """Which Spark has not: beside the same over data frames."""
    (a, b), (left, right) = sides
    _, ours, on_spark = estimators(numHashTables=6, numHashFunctions=2)
    ours, on_spark = ours.fit(a), on_spark.fit(left)
    expected = our_pairs(ours.approxSimilarityJoin(a, b, 0.7))
    assert len(expected) > ROWS / 2
    for way in WAYS:
        set_way(spark, way)
        assert spark_pairs(on_spark.approxSimilarityJoin(left, right, 0.7)) == expected
    itself = our_pairs(ours.approxSimilarityJoin(a, a, 0.7))
    assert spark_pairs(on_spark.approxSimilarityJoin(left, left, 0.7)) == itself
    reset_way(spark)


def test_nearest_neighbors(sides):
    """Of a key of the other side, and of one that has fewer candidates than are asked for."""
    from pyspark.ml.linalg import Vectors

    (a, b), (left, _) = sides
    theirs, ours, on_spark = estimators(seed=3, numHashTables=3)
    theirs, ours, on_spark = theirs.fit(left), ours.fit(a), on_spark.fit(left)
    counts = []
    for row in (0, 1):
        indices = np.sort(b[[row]].nonzero()[1])
        key = Vectors.sparse(DIM, indices, np.ones(len(indices)))
        for k in (3, ROWS):
            rows = theirs.approxNearestNeighbors(left, key, k).toPandas()
            found = ours.approxNearestNeighbors(a, key, k)
            same = on_spark.approxNearestNeighbors(left, key, k).toPandas()
            # Ties come in any order in Spark, and which of them are left out.
            assert found["distCol"].to_pylist() == rows["distCol"].tolist()
            assert same["distCol"].tolist() == rows["distCol"].tolist()
            if k == ROWS:
                assert set(found["id"].to_pylist()) == set(rows["id"]) == set(same["id"])
            counts.append(len(rows))
    assert max(counts) < ROWS


def test_saved_both_ways(sides, tmp_path):
    import lshjoin.spark
    from pyspark.ml.feature import MinHashLSH, MinHashLSHModel

    tables = 4
    (a, _), (left, _) = sides
    each = estimators(seed=9, numHashTables=tables)
    classes = MinHashLSHModel, lshjoin.MinHashLSHModel, lshjoin.spark.MinHashLSHModel
    first = None
    for place, (estimator, dataset) in enumerate(zip(each, (left, a, left), strict=True)):
        model = estimator.fit(dataset)
        path = str(tmp_path / str(place))
        model.save(path)
        for cls in classes:
            loaded = cls.load(path)
            assert (loaded.uid, loaded.getNumHashTables()) == (model.uid, tables)
            ours = cls is lshjoin.MinHashLSHModel
            hashed = loaded.transform(a if ours else left)
            hashes = our_hashes(hashed) if ours else hashes_of(hashed)
            first = hashes if first is None else first
            np.testing.assert_array_equal(hashes, first)
    each[0].save(str(tmp_path / "theirs"))
    each[2].save(str(tmp_path / "ours"))
    assert lshjoin.MinHashLSH.load(str(tmp_path / "theirs")).getSeed() == 9
    assert lshjoin.spark.MinHashLSH.load(str(tmp_path / "theirs")).getSeed() == 9
    assert MinHashLSH.load(str(tmp_path / "ours")).getSeed() == 9


def test_names_and_parameters(sides):
    theirs, ours, on_spark = estimators(numHashTables=5)
    theirs._setDefault(seed=328749633)  # PySpark's own differs from one process to the next
    for mine in (ours, on_spark):
        assert {name for name in dir(theirs) if name[0] != "_"} <= set(dir(mine))
        for param in theirs.params:
            expected = theirs.explainParam(param.name).replace(theirs.uid, mine.uid)
            assert mine.explainParam(param.name) == expected
    assert on_spark.uid.startswith("MinHashLSH_")
    model = on_spark.fit(sides[1][0])
    assert not hasattr(model, "getSeed")
    assert repr(model) == f"MinHashLSHModel: uid={model.uid}, numHashTables=5"


def test_arrays_of_numbers_and_tokens(spark):
    sets = [["a", "rose"], ["a", "rose", "is"], ["no", "rose"], ["ü"]]
    numbers = [
        [{"a": 0, "rose": 1, "is": 2, "no": 3, "ü": 4}[word] for word in row] for row in sets
    ]
    for column in (sets, numbers):
        table = pa.table({"id": range(4), "features": column})
        _, ours, on_spark = estimators(numHashTables=8, numHashFunctions=2)
        expected = ours.fit(table).approxSimilarityJoin(table, table, 0.5)
        rows = from_arrow(spark, table)
        model = on_spark.fit(rows)
        assert spark_pairs(model.approxSimilarityJoin(rows, rows, 0.5)) == our_pairs(expected)
        nearest = model.approxNearestNeighbors(rows, column[0], 2)
        assert [row.id for row in nearest.collect()] == [0, 1]


BAD = {
    "empty": ("array(1)", "array()", "row 0 is an empty set: Must have at least 1 non zero entry."),
    "null": ("array(1)", "CAST(NULL AS ARRAY<INT>)", "row 0 is null"),
    "negative": ("array(1)", "array(-3)", "holds the element -3"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_no_set(spark, bad):
    from pyspark.errors import PythonException

    good, row, message = BAD[bad]
    sets = spark.sql(f"SELECT 7 AS id, CAST({good} AS ARRAY<INT>) AS features")
    rows = spark.sql(f"SELECT 8 AS id, CAST({row} AS ARRAY<INT>) AS features")
    model = estimators()[2].fit(sets)
    with pytest.raises(PythonException, match=message) as raised:
        model.transform(rows).collect()
    assert "[id=8]" in str(raised.value)


def test_columns_and_keys_that_hold_no_sets(spark):
    sets = spark.sql("SELECT 7 AS id, array(1) AS features")
    tokens = spark.sql("SELECT 7 AS id, array('a') AS features")
    on_spark = estimators()[2]
    model = on_spark.fit(sets)
    with pytest.raises(TypeError, match="must be of type vector, or an array of whole numbers"):
        on_spark.fit(spark.sql("SELECT 'a' AS features"))
    with pytest.raises(TypeError, match="datasetA and datasetB hold numbers and tokens"):
        model.approxSimilarityJoin(sets, tokens, 0.5)
    with pytest.raises(TypeError, match="key holds tokens and dataset numbers"):
        model.approxNearestNeighbors(sets, ["a"], 1)
    with pytest.raises(ValueError, match="key: row 0 is an empty set"):
        model.approxNearestNeighbors(sets, [], 1)


def test_examples(spark):
    import lshjoin.spark.minhash

    results = doctest.testmod(lshjoin.spark.minhash, extraglobs={"spark": spark})
    assert results.attempted > 0
    assert results.failed == 0
