"""The families that Spark has not: on Spark the answers of the same classes without it."""

import os

import numpy as np
import polars as pl
import pytest
from test_on_spark import WAYS, clustered, frame, pairs_of, reset_way, set_way
from test_parity import SEED, assert_same_pairs

pytestmark = [
    pytest.mark.usefixtures("spark"),
    pytest.mark.skipif(
        bool(os.environ.get("LSHJOIN_ISA")), reason="once, on the best instruction set, is enough"
    ),
]

FAMILIES = {
    "ManhattanProjectionLSH": {"bucketLength": 3.0, "numHashTables": 3, "numHashFunctions": 2},
    "RandomHyperplaneLSH": {"numHashTables": 3, "numHashFunctions": 6},
}


def some_rows(count):
    rows = clustered(count, 8, np.random.default_rng(4))
    rows[7] = 0  # which has no direction
    return rows


def estimators(family, **params):
    """Without Spark and with it."""
    import lshjoin.spark

    params = {"inputCol": "features", "outputCol": "hashes", "seed": SEED} | params
    return [getattr(of, family)(**params) for of in (lshjoin, lshjoin.spark)]


def fitted(spark, family, rows, **params):
    """Data frame and model, without Spark and with it."""
    alone = pl.DataFrame({"id": np.arange(len(rows)), "features": rows})
    table = frame(spark, rows).cache()
    without, ours = estimators(family, **FAMILIES[family] | params)
    return (alone, without.fit(alone)), (table, ours.fit(table))


def hashes_of(model, table):
    hashed = model.transform(table).orderBy("id").select("hashes").collect()
    return [[list(vector) for vector in row.hashes] for row in hashed]


def alone_pairs(joined):
    return {(a["id"], b["id"]): distance for a, b, distance in joined.iter_rows()}


@pytest.mark.parametrize(
    ("family", "threshold"),
    [
        ("ManhattanProjectionLSH", 1.5),
        pytest.param("RandomHyperplaneLSH", 0.1, marks=pytest.mark.connect),
    ],
)
def test_hashes_pairs_and_neighbours(spark, family, threshold):
    rows = some_rows(1_000)
    (alone, without), (table, ours) = fitted(spark, family, rows)
    assert ours.explainParams().replace(ours.uid, "") == without.explainParams().replace(
        without.uid, ""
    )
    assert hashes_of(ours, table) == without.transform(alone)["hashes"].to_list()

    key = rows[9] + 0.01
    near = ours.approxNearestNeighbors(table, key, 5).collect()
    expected = without.approxNearestNeighbors(alone, key, 5)
    assert [row.id for row in near] == expected["id"].to_list()
    assert [row.distCol for row in near] == pytest.approx(expected["distCol"].to_list())

    similar = alone_pairs(without.approxSimilarityJoin(alone, alone, threshold))
    nearest = alone_pairs(without.approxNearestNeighborsJoin(alone, alone, 4, recall=1.0))
    for way in WAYS:
        set_way(spark, way)
        found = ours.approxSimilarityJoin(table, table, threshold)
        assert_same_pairs(pairs_of(found), similar, at_least=2_000)
        found = pairs_of(ours.approxNearestNeighborsJoin(table, table, 4, recall=1.0))
        reset_way(spark)
        # Of rows at the same distance any may be meant.
        assert len(found) == len(nearest)
        for at in (found, nearest):
            assert all(near == pytest.approx(found.get(pair, near)) for pair, near in at.items())
        assert sorted(found.values()) == pytest.approx(sorted(nearest.values()))
    table.unpersist()


def test_a_row_without_direction_is_at_distance_one_of_all(spark):
    _, (table, ours) = fitted(spark, "RandomHyperplaneLSH", some_rows(300))
    none = table.where("id = 7")
    for way in WAYS:
        set_way(spark, way)
        near = ours.approxNearestNeighborsJoin(none, table, 3, recall=1.0, idCol="id").collect()
        reset_way(spark)
        assert [row.distCol for row in near] == [1.0] * 3
    table.unpersist()


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_models_and_pipelines(spark, saved, family):
    """Saved on Spark they load without it, and the other way round, with one function, too."""
    import lshjoin.spark
    from pyspark.ml import Pipeline, PipelineModel

    (alone, without), (table, ours) = fitted(spark, family, some_rows(200), numHashFunctions=1)
    expected = hashes_of(ours, table)
    ours.save(f"{saved}/ours")
    without.save(f"{saved}/without")
    loaded = getattr(lshjoin, f"{family}Model").load(f"{saved}/ours")
    assert loaded.transform(alone)["hashes"].to_list() == expected
    for path, of in (("ours", ours), ("without", without)):
        loaded = getattr(lshjoin.spark, f"{family}Model").load(f"{saved}/{path}")
        assert (loaded.uid, loaded.getOutputCol()) == (of.uid, "hashes")
        assert hashes_of(loaded, table) == expected
    with pytest.raises(ValueError, match="Expected class name .* but found class name"):
        lshjoin.spark.BucketedRandomProjectionLSHModel.load(f"{saved}/ours")

    lsh = estimators(family, **FAMILIES[family])[1]
    fitted_pipeline = Pipeline(stages=[lsh]).fit(table)
    fitted_pipeline.save(f"{saved}/pipeline")
    (stage,) = PipelineModel.load(f"{saved}/pipeline").stages
    assert hashes_of(stage, table) == hashes_of(fitted_pipeline, table)
    lsh.save(f"{saved}/estimator")
    estimator = getattr(lshjoin, family).load(f"{saved}/estimator")
    assert (estimator.uid, estimator.getSeed()) == (lsh.uid, SEED)
    table.unpersist()


def test_names_and_parameters(spark):
    from lshjoin.spark import ManhattanProjectionLSH, RandomHyperplaneLSH

    odd = frame(spark, some_rows(60)).selectExpr("struct(id) AS `a.b`", "id", "features AS `v.v`")
    ours = RandomHyperplaneLSH().setParams(inputCol="v.v", seed=1).fit(odd)
    found = ours.approxNearestNeighborsJoin(odd, odd, 1)
    assert found.schema["datasetA"].dataType == odd.schema
    assert found.count() == 60
    with pytest.raises(KeyError, match="Failed to find a default value for bucketLength"):
        ManhattanProjectionLSH(inputCol="v.v").fit(odd)
    with pytest.raises(TypeError, match="bucketLength"):
        RandomHyperplaneLSH(bucketLength=1.0)
