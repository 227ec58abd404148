"""What Spark saves loads here, and what is saved here loads in Spark."""

import lshjoin
import numpy as np
import pytest
from test_parity import estimators, our_hashes, their_hashes

PARAMS = ("inputCol", "outputCol", "numHashTables", "bucketLength")


def params(of) -> dict[str, object]:
    return {name: of.getOrDefault(name) for name in PARAMS}


@pytest.fixture
def both(frames):
    return frames(np.random.default_rng(0).standard_normal((1_000, 5)))


@pytest.mark.parametrize("tables", [1, 4])
def test_model_of_spark_loads_here(both, saved, tables):
    spark, _ = estimators(numHashTables=tables, bucketLength=0.3)
    theirs = spark.fit(both.theirs)
    theirs.save(str(saved))
    ours = lshjoin.BucketedRandomProjectionLSHModel.load(str(saved))
    assert ours.uid == theirs.uid
    assert params(ours) == params(theirs)
    expected = their_hashes(theirs.transform(both.theirs))
    np.testing.assert_array_equal(our_hashes(ours.transform(both.ours)), expected)


@pytest.mark.parametrize("tables", [1, 4])
def test_model_saved_here_loads_in_spark(both, saved, tables):
    from pyspark.ml.feature import BucketedRandomProjectionLSHModel

    _, estimator = estimators(numHashTables=tables, bucketLength=0.3)
    ours = estimator.fit(both.ours)
    ours.save(str(saved))
    theirs = BucketedRandomProjectionLSHModel.load(str(saved))
    assert theirs.uid == ours.uid
    assert params(theirs) == params(ours)
    expected = our_hashes(ours.transform(both.ours))
    np.testing.assert_array_equal(their_hashes(theirs.transform(both.theirs)), expected)


def test_estimator_of_spark_loads_here(spark, saved):
    theirs, _ = estimators(numHashTables=3, bucketLength=0.3)
    theirs.save(str(saved))
    ours = lshjoin.BucketedRandomProjectionLSH.load(str(saved))
    assert (ours.uid, ours.getSeed(), params(ours)) == (
        theirs.uid,
        theirs.getSeed(),
        params(theirs),
    )


def test_estimator_saved_here_loads_in_spark(spark, saved):
    from pyspark.ml.feature import BucketedRandomProjectionLSH

    _, ours = estimators(numHashTables=3, bucketLength=0.3)
    ours.save(str(saved))
    theirs = BucketedRandomProjectionLSH.load(str(saved))
    assert (theirs.uid, theirs.getSeed(), params(theirs)) == (
        ours.uid,
        ours.getSeed(),
        params(ours),
    )
