"""What plan_knn_join tells beforehand, beside what the join then does."""

import doctest
import os

import numpy as np
import pytest
from test_on_spark import frame, model, reset_way, set_way

pytestmark = [
    pytest.mark.usefixtures("spark"),
    pytest.mark.skipif(
        bool(os.environ.get("LSHJOIN_ISA")), reason="once, on the best instruction set, is enough"
    ),
]

# Of 48 kB of vectors: several blocks.
SHUFFLED = {"broadcastBytes": "0", "blockBytes": "24k"}


@pytest.fixture
def shuffled(spark):
    set_way(spark, SHUFFLED)
    yield
    reset_way(spark)


@pytest.fixture(scope="module")
def rows(spark):
    found = frame(spark, np.random.default_rng(2).standard_normal((2_000, 6)), "float").cache()
    yield found
    found.unpersist()


def shuffled_bytes(spark) -> int:
    executors = spark.sparkContext._jsc.sc().statusStore().executorList(False)
    return sum(executors.apply(at).totalShuffleWrite() for at in range(executors.size()))


def test_shuffled_bytes_are_those_of_the_join(spark, rows, shuffled):
    """But for Spark's compression, and for what it adds to a row."""
    from lshjoin.spark import plan_knn_join

    if not hasattr(spark, "sparkContext"):
        pytest.skip("by the context of classic Spark")
    plan = plan_knn_join(rows, rows, 10, idCol="id", recall=0.8)
    assert plan.rows == (2_000, 2_000)
    assert plan.parts > 1
    assert 1 <= plan.probes <= plan.parts
    assert plan.copies[0] == pytest.approx(1)
    assert plan.copies[1] == pytest.approx(plan.probes)
    assert plan.neighbor_bytes == 0
    before = shuffled_bytes(spark)
    joined = model(rows, bucketLength=1.0).approxNearestNeighborsJoin(
        rows, rows, 10, recall=0.8, idCol="id"
    )
    assert joined.count() == 20_000
    found = shuffled_bytes(spark) - before
    assert plan.vector_bytes + plan.neighbor_bytes == pytest.approx(found, rel=0.4)


@pytest.mark.connect
def test_a_sample_stands_for_all(rows, shuffled):
    from lshjoin.spark import plan_knn_join

    whole = plan_knn_join(rows, rows, 10, idCol="id", recall=0.8, cores=4)
    some = rows.where("id % 4 = 0")
    plan = plan_knn_join(some, some, 10, idCol="id", recall=0.8, scale=4, cores=4)
    assert plan.rows == whole.rows
    assert whole.parts / 2 <= plan.parts <= 2 * whole.parts
    assert whole.probes / 1.5 <= plan.probes <= 1.5 * whole.probes
    assert whole.vector_bytes / 2 <= plan.vector_bytes <= 3 * whole.vector_bytes
    many = plan_knn_join(some, some, 10, idCol="id", recall=0.8, scale=40, cores=4)
    assert many.rows == (20_000, 20_000)
    assert many.parts > plan.parts
    assert many.seconds > 5 * plan.seconds


def test_all_pairs_and_a_broadcast(spark, rows):
    from lshjoin.spark import plan_knn_join

    plan = plan_knn_join(rows, rows, 10, idCol="id", recall=1.0, cores=2)
    assert (plan.parts, plan.blocks, plan.vector_bytes, plan.neighbor_bytes) == (0, 0, 0, 0)
    assert "B goes to every task" in str(plan)
    one = plan_knn_join(rows, rows, 10, idCol="id", recall=1.0, cores=1)
    assert one.seconds == pytest.approx(2 * plan.seconds)
    set_way(spark, SHUFFLED)
    try:
        plan = plan_knn_join(rows, rows, 10, idCol="id", recall=1.0, cores=2)
    finally:
        reset_way(spark)
    assert (plan.parts, plan.probes) == (1, 1)
    assert plan.copies[0] == pytest.approx(2)
    assert "every row of A meets all of B" in str(plan)


def test_rows_kept_apart_from_those_around_them_go_further(rows, shuffled):
    from lshjoin.spark import plan_knn_join

    slabs = rows.selectExpr("*", "floor(features[0]) AS slab")
    near, far = (
        plan_knn_join(slabs, slabs, 10, idCol="id", recall=0.8, apart=apart)
        for apart in (None, "slab")
    )
    assert far.parts >= near.parts
    assert far.probes > near.probes


def test_ids_of_letters_count(rows, shuffled):
    from lshjoin.spark import plan_knn_join

    numbers = plan_knn_join(rows, rows, 10, idCol="id", recall=0.8)
    named = rows.selectExpr("repeat('x', 100) AS id", "features")
    letters = plan_knn_join(named, named, 10, idCol="id", recall=0.8)
    copies = numbers.copies[1] * 2_000  # as rows that are both sides go once
    assert letters.vector_bytes - numbers.vector_bytes == pytest.approx(100 * copies, rel=1e-3)
    # Few queries go to the items, and have their neighbours merged.
    numbers, letters = (
        plan_knn_join(table.where("rand(0) < 0.2"), table, 10, idCol="id", recall=0.8)
        for table in (rows, named)
    )
    assert numbers.copies[1] == pytest.approx(1)
    assert letters.neighbor_bytes > 5 * numbers.neighbor_bytes > 0


def test_complaints(rows):
    from lshjoin.spark import plan_knn_join

    for words, arguments in (
        ("scale must be above 0 and finite, not 0", {"scale": 0}),
        ("scale must be above 0 and finite, not inf", {"scale": float("inf")}),
        ("metric must be one of .* not 'inner_product'", {"metric": "inner_product"}),
        ("recall must be above 0", {"recall": 0.0}),
        ("No such struct field `key`", {"idCol": "key"}),
        ("datasetA has no rows to plan by", {"datasetA": rows.where("id < 0")}),
        ("datasetB has no rows to plan by", {"datasetB": rows.where("id < 0")}),
        ("cores must be at least 1, not 0", {"cores": 0}),
        ("No such struct field `key`", {"apart": "key"}),
    ):
        good = {"datasetA": rows, "datasetB": rows, "numNearestNeighbors": 3, "idCol": "id"}
        with pytest.raises(ValueError, match=words):
            plan_knn_join(**(good | arguments))


def test_examples(spark):
    import lshjoin.spark.plans

    results = doctest.testmod(lshjoin.spark.plans, extraglobs={"spark": spark})
    assert (results.failed, results.attempted > 3) == (0, True)
