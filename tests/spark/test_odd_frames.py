"""Frames and arguments that are legal but odd: what Spark's own class answers, or a clear error.

Names with dots, spaces and backticks, names that occur twice or differ in case alone, rows that are
equal, nulls, frames without rows, several functions a table, keys and numbers of all kinds.
"""

import copy
import inspect
import os
import pickle
from collections import Counter

import lshjoin
import numpy as np
import polars as pl
import pytest
from test_on_spark import (
    SHUFFLED,
    WAYS,
    clustered,
    estimators,
    frame,
    model,
    pairs_of,
    reset_way,
    set_way,
)
from test_parity import SEED, assert_same_pairs

pytestmark = [
    pytest.mark.usefixtures("spark"),
    pytest.mark.skipif(
        bool(os.environ.get("LSHJOIN_ISA")), reason="once, on the best instruction set, is enough"
    ),
]


def plain(value):
    """A value of a row, in types that can be counted."""
    if hasattr(value, "toArray"):
        return (type(value).__name__, *value.toArray().tolist())
    return tuple(map(plain, value)) if isinstance(value, (list, tuple)) else value


def counted(found) -> Counter:
    return Counter(plain(tuple(row)) for row in found.collect())


def vectors(spark, rows, names):
    """A frame of columns of these names, of which those called features hold the vectors."""
    columns = ["features" if name.startswith("features") else "id % 7" for name in names]
    return frame(spark, rows).selectExpr(*columns).toDF(*names).cache()


def on_both_ways(spark, use):
    """What comes of it, by a broadcast and by a shuffle."""
    try:
        for way in WAYS:
            set_way(spark, way)
            yield use()
    finally:
        reset_way(spark)


def test_columns_of_any_names(spark):
    from pyspark.ml.linalg import Vectors

    names = ["a.b", "x`y", "with space", "", "id", "ID", "id", "features", "distCol", "row"]
    names += ["__lshjoin_hash"]
    rng = np.random.default_rng(0)
    a = vectors(spark, rng.integers(3, size=(20, 3)).astype(float), names)
    b = vectors(spark, rng.integers(3, size=(15, 3)).astype(float), [*names, "more.of"])
    theirs, ours = (each.fit(a) for each in estimators(numHashTables=2, bucketLength=1.0))
    for act in (
        lambda of: of.transform(a),
        lambda of: of.approxNearestNeighbors(a, Vectors.dense([1.0, 0.0, 2.0]), 30),
    ):
        found, expected = act(ours), act(theirs)
        assert found.schema.simpleString() == expected.schema.simpleString()
        assert counted(found) == counted(expected)
    expected = theirs.approxSimilarityJoin(a, b, 1.2)
    pairs = counted(expected)
    for joined in on_both_ways(spark, lambda: ours.approxSimilarityJoin(a, b, 1.2)):
        assert joined.schema.simpleString() == expected.schema.simpleString()
        assert counted(joined) == pairs
    for nearest in on_both_ways(
        spark, lambda: ours.approxNearestNeighborsJoin(a, b, 2, recall=1.0)
    ):
        assert nearest.schema[0].dataType.names == names
        assert nearest.schema[1].dataType.names == [*names, "more.of"]
        assert nearest.count() == 2 * 20
    with pytest.raises(Exception, match=r"A: 3, x: 2.*\[a.b=0, x`y=0, "):
        ours.transform(vectors(spark, np.ones((1, 2)), names)).count()


def test_vectors_hashes_and_distances_in_columns_with_dots(spark):
    """Spark refuses such names, which is no reason to give other answers."""
    rows = clustered(200, 4, np.random.default_rng(0))
    odd = vectors(spark, rows, ["id", "features.x"])
    usual = odd.withColumnRenamed("features.x", "features")
    expected = counted(model(usual, bucketLength=0.5).approxSimilarityJoin(usual, usual, 0.5))
    ours = model(odd, inputCol="features.x", outputCol="`hash.es", bucketLength=0.5)
    assert ours.transform(odd).columns == ["id", "features.x", "`hash.es"]
    for joined in on_both_ways(spark, lambda: ours.approxSimilarityJoin(odd, odd, 0.5, "dist.Col")):
        assert joined.columns == ["datasetA", "datasetB", "dist.Col"]
        assert counted(joined) == expected
    nearest = ours.approxNearestNeighbors(odd, rows[3], 1, "dist.Col").collect()
    assert [row["dist.Col"] for row in nearest] == [0.0]
    assert ours.approxNearestNeighborsJoin(odd, odd, 1, "dist.Col").columns[2] == "dist.Col"


def test_names_that_are_taken(spark):
    rows = vectors(spark, np.ones((2, 3)), ["HASHES", "features"])
    ours = model(rows.select("features"), bucketLength=1.0)
    for use in (
        lambda: ours.transform(rows),
        lambda: ours.approxSimilarityJoin(rows, rows, 1.0),
        lambda: ours.approxNearestNeighbors(rows, np.ones(3), 1),
        lambda: ours.approxNearestNeighbors(rows.toDF("DistCol", "features"), np.ones(3), 1),
    ):
        with pytest.raises(ValueError, match="Column .* already exists, and Spark takes .* for"):
            use()
    with pytest.raises(ValueError, match="Column DATASETA already exists"):
        ours.approxSimilarityJoin(rows.select("features"), rows.select("features"), 1.0, "DATASETA")
    with pytest.raises(ValueError, match="More than one struct field `features`"):
        ours.transform(vectors(spark, np.ones((2, 3)), ["features", "features"]))
    nested = rows.selectExpr("struct(features) AS s")
    with pytest.raises(ValueError, match="No such struct field `s.features` in `s`"):
        ours.setInputCol("s.features").transform(nested)


def test_rows_that_are_equal_make_one_pair(spark):
    """As in Spark, whose join is distinct; rows that differ in an id are others."""
    rows = np.random.default_rng(0).integers(3, size=(60, 2)).astype(float)
    a, b = vectors(spark, rows, ["features"]), vectors(spark, rows[20:], ["features", "id"])
    theirs, ours = (each.fit(a) for each in estimators(bucketLength=2.0))
    for sides in ((a, a), (a, b)):
        expected = counted(theirs.approxSimilarityJoin(*sides, 1.2))
        for joined in on_both_ways(
            spark, lambda sides=sides: ours.approxSimilarityJoin(*sides, 1.2)
        ):
            assert counted(joined) == expected
        assert set(expected.values()) == {1}
    # Of its neighbours a row has all, as it has of the nearest to a key.
    assert ours.approxNearestNeighborsJoin(a, a, 3).count() == 3 * 60
    assert ours.approxNearestNeighbors(a, rows[0], 60).count() > 9


def test_equal_rows_among_more_than_are_collected(spark, monkeypatch):
    monkeypatch.setattr("lshjoin.spark.rows._FEW_HASHES", 10)
    rows = vectors(spark, np.zeros((30, 2)), ["features"])
    assert model(rows, bucketLength=1.0).approxSimilarityJoin(rows, rows, 1.0).count() == 1


def test_a_null_vector_is_named(spark):
    """In the executors, and on the driver, where a small side is collected."""
    from pyspark.sql import functions as F

    rows = np.random.default_rng(0).random((300, 3))
    good = frame(spark, rows).cache()
    bad = good.withColumn("features", F.when(F.col("id") != 123, F.col("features")))
    ours = model(good, bucketLength=1.0)

    def named(use):
        with pytest.raises(Exception, match=r"(Error: |^)Column .* is null") as caught:
            use().count()
        assert "[id=123]" in str(caught.value)

    named(lambda: ours.transform(bad))
    named(lambda: ours.approxSimilarityJoin(good, bad, 0.1))
    named(lambda: ours.approxSimilarityJoin(bad, bad, 0.1))
    named(lambda: ours.approxNearestNeighborsJoin(good, bad, 1))
    set_way(spark, SHUFFLED)
    try:
        named(lambda: ours.approxSimilarityJoin(good, bad, 0.1))
        named(lambda: ours.approxNearestNeighborsJoin(good, bad, 1))
    finally:
        reset_way(spark)


def test_nulls_elsewhere_are_values(spark):
    """In other columns, of vectors among them, and in both of the sides."""
    from pyspark.sql import functions as F

    rows = frame(spark, np.random.default_rng(0).integers(2, size=(30, 2)).astype(float))
    odd = F.col("id") % 2 == 1
    rows = rows.select(
        "features",
        F.when(odd, F.col("features")).alias("other"),
        F.when(odd, F.struct("id", "features")).alias("s"),
        F.when(odd, F.lit("a")).alias("text"),
    ).cache()
    others = rows.where("other IS NULL")
    theirs, ours = (each.fit(rows) for each in estimators(bucketLength=2.0))
    assert counted(ours.transform(rows)) == counted(theirs.transform(rows))
    expected = counted(theirs.approxSimilarityJoin(rows, others, 1.2))
    for joined in on_both_ways(spark, lambda: ours.approxSimilarityJoin(rows, others, 1.2)):
        assert counted(joined) == expected
    for joined in on_both_ways(spark, lambda: ours.approxNearestNeighborsJoin(rows, rows, 2)):
        assert joined.count() == 2 * 30


def test_frames_without_rows(spark):
    rows = vectors(spark, np.ones((3, 2)), ["id", "features"])
    none = rows.where("id < 0")
    ours = model(rows, bucketLength=1.0)
    assert ours.transform(none).count() == 0
    assert ours.approxNearestNeighbors(none, np.ones(2), 3).count() == 0
    for sides in ((none, rows), (rows, none)):
        assert ours.approxSimilarityJoin(*sides, 1.0).count() == 0
    assert ours.approxNearestNeighborsJoin(rows, none, 1).count() == 0
    for joined in on_both_ways(spark, lambda: ours.approxNearestNeighborsJoin(none, rows, 1)):
        assert joined.count() == 0


def test_several_functions_a_table(spark):
    """The buckets and pairs of data frames without Spark."""
    rows = clustered(4_000, 8, np.random.default_rng(0))
    params = {"bucketLength": 1.5, "numHashTables": 3, "numHashFunctions": 2}
    table = frame(spark, rows).cache()
    ours = model(table, **params)
    assert (ours.getNumHashTables(), ours.getNumHashFunctions()) == (3, 2)
    alone = pl.DataFrame({"id": np.arange(len(rows)), "features": rows})
    without = lshjoin.BucketedRandomProjectionLSH(
        inputCol="features", outputCol="hashes", seed=SEED, **params
    ).fit(alone)
    column = ours.transform(table).orderBy("id").select("hashes").collect()
    expected = without.transform(alone)["hashes"].to_list()
    assert [[list(vector) for vector in row.hashes] for row in column] == expected
    expected = {
        (a["id"], b["id"]): distance
        for a, b, distance in without.approxSimilarityJoin(alone, alone, 0.5).iter_rows()
    }
    for joined in on_both_ways(spark, lambda: ours.approxSimilarityJoin(table, table, 0.5)):
        assert_same_pairs(pairs_of(joined), expected, at_least=4_000)
    key = rows[7] + 0.1
    near = ours.approxNearestNeighbors(table, key, 5)
    expected = without.approxNearestNeighbors(alone, key, 5)["id"].to_list()
    assert [row.id for row in near.collect()] == expected
    table.unpersist()


def test_several_functions_on_disk(spark, saved):
    """Saved here they load without Spark, and the other way round; Spark refuses them."""
    from lshjoin.spark import BucketedRandomProjectionLSHModel
    from pyspark.ml.feature import BucketedRandomProjectionLSHModel as Theirs

    rows = frame(spark, clustered(100, 4, np.random.default_rng(0)))
    lsh = estimators(numHashTables=2, numHashFunctions=3, bucketLength=0.5)[1]
    ours = lsh.fit(rows)
    expected = hashes_of(ours, rows)
    ours.save(f"{saved}/ours")
    with pytest.raises(Exception, match="class name"):
        Theirs.load(f"{saved}/ours")
    without = lshjoin.BucketedRandomProjectionLSHModel.load(f"{saved}/ours")
    assert (without.getNumHashFunctions(), without.getNumHashTables()) == (3, 2)
    without.save(f"{saved}/without")
    for path in ("ours", "without"):
        loaded = BucketedRandomProjectionLSHModel.load(f"{saved}/{path}")
        assert loaded.getNumHashFunctions() == 3
        assert hashes_of(loaded, rows) == expected
    lsh.save(f"{saved}/estimator")
    estimator = lshjoin.BucketedRandomProjectionLSH.load(f"{saved}/estimator")
    assert estimator.getNumHashFunctions() == 3


def hashes_of(of, rows):
    return [row.hashes for row in of.transform(rows).orderBy("id").collect()]


def test_the_nearest_join_is_that_of_frames_without_spark(spark):
    """One signature and one meaning: the nearest of all rows, whatever buckets they are in."""
    rows = clustered(300, 4, np.random.default_rng(0))
    table = frame(spark, rows).cache()
    alone = pl.DataFrame({"id": np.arange(300), "features": rows})
    ours = model(table, bucketLength=1e-6)  # hardly two rows share a bucket
    without = lshjoin.BucketedRandomProjectionLSH(inputCol="features", bucketLength=1e-6).fit(alone)
    joined = without.approxNearestNeighborsJoin(alone, alone, 4, "distCol", recall=1.0)
    expected = {(a["id"], b["id"]): distance for a, b, distance in joined.iter_rows()}
    for found in on_both_ways(
        spark, lambda: ours.approxNearestNeighborsJoin(table, table, 4, "distCol", recall=1.0)
    ):
        assert pairs_of(found) == pytest.approx(expected)
    assert len(expected) == 4 * 300
    parameters = [
        [
            (each.name, each.kind, each.default)
            for each in inspect.signature(of.approxNearestNeighborsJoin).parameters.values()
            if each.name not in ("num_threads", "progress", "idCol", "nested", "within", "apart")
        ]
        for of in (ours, without)
    ]
    assert parameters[0] == parameters[1]


@pytest.mark.parametrize(
    "copied", [lambda of: pickle.loads(pickle.dumps(of)), copy.deepcopy], ids=["pickle", "deepcopy"]
)
def test_copies(spark, copied):
    rows = frame(spark, clustered(50, 3, np.random.default_rng(0)))
    lsh = estimators(numHashTables=2, numHashFunctions=2, bucketLength=0.5)[1]
    ours = lsh.fit(rows)
    other, fitted = copied(lsh), copied(ours)
    assert (other.uid, other.explainParams()) == (lsh.uid, lsh.explainParams())
    assert (fitted.uid, fitted.explainParams()) == (ours.uid, ours.explainParams())
    assert hashes_of(fitted, rows) == hashes_of(ours, rows)
    other.setNumHashTables(7)
    assert lsh.getNumHashTables() == 2
    with pytest.raises(ValueError, match="parameter numHashTables given invalid value 0"):
        other.setNumHashTables(0)


@pytest.mark.parametrize("number", [10**400, 10**5_000, -(10**400)], ids=["many", "more", "minus"])
def test_numbers_of_many_digits(spark, number):
    from lshjoin.spark import BucketedRandomProjectionLSH

    rows = frame(spark, np.ones((3, 2)))
    ours = model(rows, bucketLength=1.0)
    for use in (
        lambda: BucketedRandomProjectionLSH(bucketLength=number),
        lambda: BucketedRandomProjectionLSH(numHashTables=number),
        lambda: BucketedRandomProjectionLSH(numHashFunctions=number),
        lambda: BucketedRandomProjectionLSH(seed=number),
        lambda: ours.approxSimilarityJoin(rows, rows, number),
        lambda: ours.approxNearestNeighborsJoin(rows, rows, 1, recall=number),
    ):
        with pytest.raises(ValueError, match=r"\S") as caught:
            use()
        assert len(str(caught.value)) < 300
    if number > 0:  # so many neighbours there are not
        assert ours.approxNearestNeighbors(rows, np.ones(2), number).count() == 3
        assert ours.approxNearestNeighborsJoin(rows, rows, number).count() == 9


@pytest.mark.parametrize("name", ["numHashTables", "numHashFunctions"])
def test_more_hash_functions_than_memory_holds(spark, name):
    from lshjoin.spark import BucketedRandomProjectionLSH

    lsh = BucketedRandomProjectionLSH(inputCol="features", outputCol="hashes", bucketLength=1.0)
    with pytest.raises(MemoryError, match="of hash functions: fit a model of fewer"):
        lsh.fit(frame(spark, np.ones((3, 2))), {lsh.getParam(name): 2**31 - 1})


def test_keys(spark):
    rows = frame(spark, np.ones((2, 2)))
    ours = model(rows, bucketLength=1.0)
    for key, error, words in (
        ([1.0, float("nan")], ValueError, "row 0 of key holds NaN at dimension 1"),
        ([float("-inf"), 0.0], ValueError, "row 0 of key holds -inf at dimension 0"),
        (np.ma.masked_array([1.0, 2.0], [False, True]), ValueError, "key is masked"),
        ([1.0], ValueError, "A: 2, x: 1"),
        ([[1.0, 2.0]], ValueError, "key must be one vector"),
        (None, ValueError, "key must be one vector"),
        ([1j, 2.0], TypeError, "key must hold real numbers"),
        (["1", "2"], TypeError, "key must hold real numbers"),
        ([None, 1.0], TypeError, "key must hold real numbers"),
    ):
        with pytest.raises(error, match=words):
            ours.approxNearestNeighbors(rows, key, 1)
