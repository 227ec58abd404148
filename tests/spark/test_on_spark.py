"""lshjoin.spark: the same answers as Spark's own, by each of its ways."""

import numpy as np
import pytest
from test_parity import SEED, assert_same_pairs, clustered, their_hashes, their_pairs

pytestmark = pytest.mark.usefixtures("spark")

# Small enough that some buckets of the data below are salted.
SHUFFLED = {"broadcastBytes": "0", "cellBytes": "300k"}
WAYS = [{}, SHUFFLED]


@pytest.fixture(params=WAYS, ids=["broadcast", "shuffled"])
def way(request, spark):
    set_way(spark, request.param)
    yield request.param
    for name in request.param:
        spark.conf.unset(f"spark.lshjoin.{name}")


def set_way(spark, way):
    for name, value in way.items():
        spark.conf.set(f"spark.lshjoin.{name}", value)


def estimators(**params):
    """Spark's estimator and ours, with the same parameters."""
    from lshjoin.spark import BucketedRandomProjectionLSH as Ours
    from pyspark.ml.feature import BucketedRandomProjectionLSH as Theirs

    params = {"inputCol": "features", "outputCol": "hashes", "seed": SEED} | params
    return Theirs(**params), Ours(**params)


def frame(spark, rows, kind="dense"):
    """Columns ``id`` and ``features`` of the kind."""
    from pyspark.ml.functions import array_to_vector
    from pyspark.ml.linalg import Vectors

    if kind == "sparse":
        vectors = [
            Vectors.sparse(len(row), np.flatnonzero(row), row[row != 0])
            if at % 3
            else Vectors.dense(row)
            for at, row in enumerate(rows)
        ]
        return spark.createDataFrame(list(enumerate(vectors)), ["id", "features"])
    of = "float" if kind == "float" else "double"
    lists = list(enumerate(np.asarray(rows, np.float64).tolist()))
    table = spark.createDataFrame(lists, f"id bigint, features array<{of}>").repartition(4)
    if kind == "dense":
        return table.select("id", array_to_vector("features").alias("features"))
    return table


def model(of, **params):
    return estimators(**params)[1].fit(of)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_hashes_and_pairs_are_those_of_spark(spark, kind):
    """20,000 x 64, two sides and one, by a broadcast and by the shuffle."""
    rng = np.random.default_rng(5)
    a, b = (clustered(20_000, 64, rng) for _ in range(2))
    if kind == "sparse":
        a, b = (np.where(np.abs(side) > 0.8, side, 0) for side in (a, b))
    a, b = (frame(spark, side, kind).cache() for side in (a, b))
    theirs, ours = (each.fit(a) for each in estimators(numHashTables=3, bucketLength=0.03))
    hashed, expected = ours.transform(a), theirs.transform(a)
    assert hashed.schema == expected.schema
    np.testing.assert_array_equal(their_hashes(hashed), their_hashes(expected))

    for other, at_least in ((b, 1_000), (a, 21_000)):
        threshold = 3.0 if kind == "sparse" else 2.0
        expected = theirs.approxSimilarityJoin(a, other, threshold)
        pairs = their_pairs(expected)
        for way in WAYS:
            set_way(spark, way)
            joined = ours.approxSimilarityJoin(a, other, threshold)
            assert joined.schema.simpleString() == expected.schema.simpleString()
            actual = their_pairs(joined)
            assert joined.count() == len(actual), "a pair comes twice"
            assert_same_pairs(actual, pairs, at_least)
        for name in SHUFFLED:
            spark.conf.unset(f"spark.lshjoin.{name}")
    a.unpersist()
    b.unpersist()
