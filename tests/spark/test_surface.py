"""The names, parameters and complaints that a Spark user knows."""

import numpy as np
import pytest
from test_parity import estimators


@pytest.fixture
def both(frames):
    return frames(np.random.default_rng(0).standard_normal((20, 3)))


def public(of) -> set[str]:
    return {name for name in dir(of) if not name.startswith("_")}


def test_names(both):
    spark, ours = estimators(bucketLength=1.0)
    assert public(spark) <= public(ours)
    model = ours.fit(both.ours)
    assert public(spark.fit(both.theirs)) <= public(model)
    assert not hasattr(model, "getSeed")


@pytest.mark.parametrize("params", [{}, {"bucketLength": 2.0, "numHashTables": 5}])
def test_parameters(spark, params):
    """Names, documentation, defaults and values."""
    theirs, ours = estimators(**params)
    theirs._setDefault(seed=772209414)  # PySpark's own differs from one process to the next
    for param in theirs.params:
        expected = theirs.explainParam(param.name).replace(theirs.uid, ours.uid)
        assert ours.explainParam(param.name) == expected
    assert theirs.uid.split("_")[0] == ours.uid.split("_")[0]


def complaint(action) -> str:
    """All that the exception says, and all that the Java causes of Spark's say."""
    try:
        action()
    except Exception as error:
        said, cause = str(error), getattr(error, "java_exception", None)
    else:
        pytest.fail("no complaint")
    while cause is not None:
        said, cause = f"{said}\n{cause.getMessage()}", cause.getCause()
    return said


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"bucketLength": -1.0}, "parameter bucketLength given invalid value -1.0."),
        ({"bucketLength": 0.0}, "parameter bucketLength given invalid value 0.0."),
        ({"numHashTables": 0}, "parameter numHashTables given invalid value 0."),
        ({"bucketLength": "a"}, "Could not convert a to float"),
        ({"numHashTables": 2.5}, "Could not convert 2.5 to int"),
        ({"inputCol": "id"}, "Column id must be of type"),
        ({"outputCol": "id"}, "Column id already exists."),
        ({}, "Failed to find a default value for bucketLength"),
    ],
    ids=str,
)
def test_complaints_about_parameters(both, params, words):
    good = {"bucketLength": 1.0} if params else {}

    def use(which: int, frame) -> None:
        # Spark misses the bucket length when it hashes a row, not when it fits.
        hashed = estimators(**(good | params))[which].fit(frame).transform(frame)
        assert len(hashed.collect())

    assert words in complaint(lambda: use(0, both.theirs))
    assert words in complaint(lambda: use(1, both.ours))


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (
            lambda model, frame, vector, path: model.approxNearestNeighbors(
                frame, vector([1.0, 2.0, 3.0]), 0
            ),
            "The number of nearest neighbors cannot be less than 1",
        ),
        (
            lambda model, frame, vector, path: model.approxNearestNeighbors(
                frame, vector([1.0, 2.0]), 1
            ),
            "The columns of A don't match the number of elements of x. A: 3, x: 2",
        ),
        (
            lambda model, frame, vector, path: (model.save(path), model.save(path)),
            "already exists. To overwrite it, please use write",
        ),
    ],
    ids=["no neighbours", "dimensions", "path"],
)
def test_complaints_about_calls(both, tmp_path, action, words):
    from pyspark.ml.linalg import Vectors

    spark, ours = estimators(bucketLength=1.0)
    theirs, model = spark.fit(both.theirs), ours.fit(both.ours)
    assert words in complaint(
        lambda: action(theirs, both.theirs, Vectors.dense, str(tmp_path / "theirs"))
    )
    assert words in complaint(lambda: action(model, both.ours, list, str(tmp_path / "ours")))
