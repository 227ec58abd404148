"""Same seed, same parameters, same rows: what lshjoin answers and what a running Spark answers."""

from glob import glob
from pathlib import Path

import lshjoin
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from arrow_tables import to_arrow
from numpy.typing import NDArray

SEED = 12345


def estimators(**params):
    """Spark's estimator and ours, with the same parameters."""
    from pyspark.ml.feature import BucketedRandomProjectionLSH

    params = {"inputCol": "features", "outputCol": "hashes", "seed": SEED} | params
    return BucketedRandomProjectionLSH(**params), lshjoin.BucketedRandomProjectionLSH(**params)


def unit_vectors(model, path: Path) -> NDArray[np.float64]:
    """The random unit vectors, one a row, out of what the model saves: the layout is Spark's."""
    model.write().overwrite().save(str(path))
    (matrix,) = pq.read_table(glob(f"{path}/data/*.parquet")[0])["randUnitVectors"].to_pylist()
    order = "C" if matrix["isTransposed"] else "F"
    return np.reshape(matrix["values"], (matrix["numRows"], matrix["numCols"]), order=order)


def their_hashes(frame) -> NDArray[np.float64]:
    return np.array([row.hashes for row in frame.orderBy("id").collect()])[:, :, 0]


def our_hashes(frame: pl.DataFrame) -> NDArray[np.float64]:
    return np.array(frame["hashes"].to_list(), dtype=np.float64)[:, :, 0]


def clustered(n: int, dim: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Rows in loose groups of about ten, so that a join has something to find."""
    centres = np.random.default_rng(SEED).standard_normal((n // 10, dim))
    return centres[rng.integers(len(centres), size=n)] + 0.2 * rng.standard_normal((n, dim))


@pytest.mark.parametrize(
    ("seed", "dim", "tables"),
    [
        (0, 1, 1),
        (12345, 7, 3),
        (-(2**63), 384, 2),
        (2**63 - 1, 64, 16),
        (772209414, 1000, 5),
    ],
)
def test_unit_vectors_bit_for_bit(frames, tmp_path, seed, dim, tables):
    """Where the JVM sums the norms in eight lanes; elsewhere Spark's own last bits differ: from 4.0
    on it runs netlib's VectorBLAS, with one fused sum for each lane of the widest vector."""
    both = frames(np.ones((1, dim)))
    spark, ours = estimators(seed=seed, numHashTables=tables, bucketLength=1.0)
    expected = unit_vectors(spark.fit(both.theirs), tmp_path / "theirs")
    actual = unit_vectors(ours.fit(both.ours), tmp_path / "ours")
    spark_version = both.theirs.sparkSession.version
    eight_lanes = "avx512" in lshjoin.cpu_features() and spark_version >= "4"
    np.testing.assert_array_max_ulp(actual, expected, maxulp=0 if eight_lanes else 4)


@pytest.mark.parametrize("tables", [1, 3, 16])
@pytest.mark.parametrize(("dtype", "margin"), [(np.float64, 1e-9), (np.float32, 1e-5)])
def test_hashes(frames, tmp_path, dtype, margin, tables):
    """Equal but for projections so near to a boundary that the order of a sum decides."""
    both = frames(np.random.default_rng(tables).standard_normal((10_000, 64)).astype(dtype))
    spark, ours = estimators(numHashTables=tables, bucketLength=0.5)
    model = spark.fit(both.theirs)
    expected = their_hashes(model.transform(both.theirs))
    actual = our_hashes(ours.fit(both.ours).transform(both.ours))

    projections = both.rows.astype(np.float64) @ unit_vectors(model, tmp_path / "m").T / 0.5
    on_boundary = np.abs(projections - np.round(projections)) < margin
    print(f"{on_boundary.sum()} of {expected.size} projections within {margin} of a boundary,"
          f" {(actual != expected).sum()} hashes differ")  # fmt: skip
    np.testing.assert_array_equal(actual[~on_boundary], expected[~on_boundary])
    assert on_boundary.mean() < 1e-3


def test_transform_keeps_rows_columns_and_order(frames):
    both = frames(np.random.default_rng(0).standard_normal((100, 4)))
    spark, ours = estimators(numHashTables=2, bucketLength=1.0)
    out = ours.fit(both.ours).transform(both.ours)
    assert out.columns == spark.fit(both.theirs).transform(both.theirs).columns
    assert out.drop("hashes").equals(both.ours)


def their_pairs(joined) -> dict[tuple[int, int], float]:
    rows = to_arrow(joined.selectExpr("datasetA.id AS a", "datasetB.id AS b", "distCol")).columns
    a, b, distance = (column.to_pylist() for column in rows)
    return dict(zip(zip(a, b, strict=True), distance, strict=True))


def our_pairs(joined: pl.DataFrame) -> dict[tuple[int, int], float]:
    ids = (joined[side].struct.field("id") for side in ("datasetA", "datasetB"))
    pairs = list(zip(*ids, strict=True))
    assert len(set(pairs)) == len(pairs)
    return dict(zip(pairs, joined["distCol"], strict=True))


def assert_same_pairs(actual, expected, at_least: int) -> None:
    assert len(expected) >= at_least, "too few pairs to show anything"
    assert actual.keys() == expected.keys()
    pairs = expected.keys()
    np.testing.assert_allclose(
        [actual[p] for p in pairs], [expected[p] for p in pairs], rtol=1e-12, atol=0
    )


def test_similarity_join(frames):
    rng = np.random.default_rng(1)
    a, b = (frames(clustered(5_000, 32, rng)) for _ in range(2))
    spark, ours = estimators(numHashTables=3, bucketLength=0.2)
    expected = spark.fit(a.theirs).approxSimilarityJoin(a.theirs, b.theirs, 1.8)
    actual = ours.fit(a.ours).approxSimilarityJoin(a.ours, b.ours, 1.8)
    assert_same_pairs(our_pairs(actual), their_pairs(expected), at_least=5_000)
    assert actual.columns == expected.columns
    for side in ("datasetA", "datasetB"):
        assert [f.name for f in actual.schema[side].fields] == expected.schema[side].dataType.names


def test_self_join_has_every_pair_both_ways_and_every_row_with_itself(frames):
    both = frames(clustered(5_000, 32, np.random.default_rng(2)))
    spark, ours = estimators(numHashTables=3, bucketLength=0.2)
    theirs = spark.fit(both.theirs).approxSimilarityJoin(both.theirs, both.theirs, 1.8)
    model = ours.fit(both.ours)
    actual = our_pairs(model.approxSimilarityJoin(both.ours, both.ours, 1.8))
    assert_same_pairs(actual, their_pairs(theirs), at_least=10_000)
    assert {(i, i) for i in range(5_000)} <= actual.keys()
    assert all((b, a) in actual for a, b in actual)


def test_join_of_frames_that_are_hashed_already(frames):
    """Both use the hash column that is there, so a transform can be done once for many joins."""
    both = frames(clustered(500, 8, np.random.default_rng(3)))
    spark, ours = estimators(bucketLength=0.5)
    theirs, model = spark.fit(both.theirs), ours.fit(both.ours)
    expected = theirs.approxSimilarityJoin(theirs.transform(both.theirs), both.theirs, 1.0)
    actual = model.approxSimilarityJoin(model.transform(both.ours), both.ours, 1.0)
    assert_same_pairs(our_pairs(actual), their_pairs(expected), at_least=500)


def test_nearest_neighbors_of_many_keys(frames):
    """Half of the keys lie so far out that fewer than k rows share a bucket with them."""
    from pyspark.ml.linalg import Vectors

    rng = np.random.default_rng(4)
    items = frames(clustered(5_000, 16, rng))
    keys = clustered(40, 16, rng)
    keys[20:] *= 6
    k = 10
    spark, ours = estimators(numHashTables=2, bucketLength=0.1)
    theirs, model = spark.fit(items.theirs), ours.fit(items.ours)
    hashed = theirs.transform(items.theirs).cache()

    found = []
    for key in keys:
        nearest = theirs.approxNearestNeighbors(hashed, Vectors.dense(key), k)
        expected = to_arrow(nearest.select("id", "distCol"))
        actual = model.approxNearestNeighbors(items.ours, key, k)
        assert actual.columns == nearest.columns
        assert actual["id"].to_list() == expected["id"].to_pylist()
        np.testing.assert_allclose(actual["distCol"], expected["distCol"], rtol=1e-12, atol=0)
        found.append(len(expected))
    assert min(found) < k, "no key with fewer candidates than k"
    assert max(found) == k
