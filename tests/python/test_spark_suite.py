"""Spark's own tests of BucketedRandomProjectionLSH, with their data, settings and thresholds.

They need no Spark. The reference is brute force over the 400 integer points of a grid.
"""

import numpy as np
import polars as pl
import pytest
from lshjoin import BucketedRandomProjectionLSH
from numpy.typing import NDArray

GRID = np.array([(i, j) for i in range(-10, 10) for j in range(-10, 10)], dtype=np.float64)
ANGLES = np.pi / 12 * np.arange(24)
CIRCLE = 10 * np.stack([np.sin(ANGLES), np.cos(ANGLES)], axis=1)
KEY = np.array([1.2, 3.4])


def frame(rows: NDArray[np.float64]) -> pl.DataFrame:
    return pl.DataFrame({"id": np.arange(len(rows)), "keys": rows})


def fitted(rows: NDArray[np.float64], **params):
    lsh = BucketedRandomProjectionLSH(inputCol="keys", outputCol="values", seed=12345, **params)
    return lsh.fit(frame(rows))


def distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.norm(a[:, None] - b[None], axis=2)


def test_hash_function(tmp_path):
    """Hash functions given, not drawn: they come in by way of a saved model."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from lshjoin import BucketedRandomProjectionLSHModel

    model = fitted(GRID, numHashTables=2, bucketLength=0.5)
    model.save(tmp_path / "model")
    (data,) = (tmp_path / "model" / "data").glob("*.parquet")
    table = pq.read_table(data)
    (matrix,) = table["randUnitVectors"].to_pylist()
    assert matrix["isTransposed"]
    matrix["values"] = [0.0, 1.0, 1.0, 0.0]
    column = pa.array([matrix], table["randUnitVectors"].type)
    pq.write_table(pa.table([column], schema=table.schema), data)
    model = BucketedRandomProjectionLSHModel.load(tmp_path / "model")
    hashed = model.transform(frame(np.array([[1.23, 4.56]])))
    assert hashed["values"].to_list() == [[[9.0], [2.0]]]


def test_unit_vectors(tmp_path):
    import pyarrow.parquet as pq

    fitted(GRID, numHashTables=20, bucketLength=1.0).save(tmp_path / "model")
    (data,) = (tmp_path / "model" / "data").glob("*.parquet")
    (matrix,) = pq.read_table(data)["randUnitVectors"].to_pylist()
    norms = np.linalg.norm(np.reshape(matrix["values"], (20, 2)), axis=1)
    np.testing.assert_allclose(norms, 1, rtol=0, atol=1e-14)


def lsh_property(rows: NDArray[np.float64], far: float, near: float, **params):
    """Of the pairs that share a bucket, the share farther apart than `far`; of those that share
    none, the share nearer than `near`."""
    hashed = fitted(rows, **params).transform(frame(rows))
    buckets = np.array(hashed["values"].to_list())[:, :, 0]
    shared = (buckets[:, None] == buckets[None]).any(axis=2)
    distance = distances(rows, rows)
    return (distance[shared] > far).mean(), (distance[~shared] < near).mean()


def test_lsh_property():
    false_positive, false_negative = lsh_property(GRID, far=8, near=2, bucketLength=1.0)
    assert false_positive < 0.4
    assert false_negative < 0.4


def test_lsh_property_in_100_dimensions():
    rows = np.concatenate([np.eye(100) * value for value in (-2, -1, 1, 2)])
    false_positive, false_negative = lsh_property(
        rows, far=3, near=2, numHashTables=10, bucketLength=2.5
    )
    assert false_positive < 0.3
    assert false_negative < 0.3


@pytest.mark.parametrize(
    ("tables", "length", "at_least"),
    [
        pytest.param(2, 4.0, 0.6, id="single probe"),
        # Spark's Scala API reaches this with several probes, which Python has not: its 20 tables
        # hold enough candidates without.
        pytest.param(20, 1.0, 0.7, id="many tables"),
    ],
)
def test_nearest_neighbors(tables, length, at_least):
    model = fitted(GRID, numHashTables=tables, bucketLength=length)
    found = model.approxNearestNeighbors(frame(GRID), KEY, 100)
    nearest = np.argsort(distances(GRID, KEY[None])[:, 0], kind="stable")[:100]
    correct = len(set(found["id"]) & set(nearest.tolist()))
    assert correct / len(found) >= at_least
    assert correct / 100 >= at_least
    if tables == 20:
        assert len(found) == 100


@pytest.mark.parametrize("k", [0, -1])
def test_no_neighbors_asked_for(k):
    with pytest.raises(ValueError, match="number of nearest neighbors cannot be less than 1"):
        fitted(GRID, bucketLength=1.0).approxNearestNeighbors(frame(GRID), KEY, k)


@pytest.mark.parametrize(
    ("a", "b", "threshold"),
    [
        pytest.param(GRID, CIRCLE, 1.0, id="two frames"),
        pytest.param(CIRCLE, CIRCLE, 3.0, id="self"),
    ],
)
def test_similarity_join(a, b, threshold):
    model = fitted(a, numHashTables=2, bucketLength=4.0)
    joined = model.approxSimilarityJoin(frame(a), frame(b), threshold)
    found = set(
        zip(
            *(joined[side].struct["id"] for side in ("datasetA", "datasetB")),
            strict=True,
        )
    )
    expected = set(zip(*np.nonzero(distances(a, b) < threshold), strict=True))
    assert found <= expected, "precision is 1"
    assert len(found) >= 0.7 * len(expected)
