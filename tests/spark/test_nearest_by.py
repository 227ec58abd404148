"""nearest_by_join beside nearestByJoin of Spark 4.2 and later."""

import os
from collections import Counter

import numpy as np
import pytest
from test_on_spark import clustered, reset_way, set_way

pytestmark = [
    pytest.mark.usefixtures("spark"),
    pytest.mark.skipif(
        bool(os.environ.get("LSHJOIN_ISA")), reason="once, on the best instruction set, is enough"
    ),
]

# Of 60 items some hundred bytes each: every block holds a part of them.
SHUFFLED = {"broadcastBytes": "0", "blockBytes": "1k"}
CONNECT = pytest.mark.connect
SCHEMA = "id int not null, `a.b` string, v array<float>"


def rows_of(found) -> Counter:
    return Counter(
        tuple(tuple(each) if isinstance(each, list) else each for each in row)
        for row in found.collect()
    )


@pytest.fixture(scope="module")
def sides(spark):
    rng = np.random.default_rng(5)
    vectors = clustered(100, 6, rng).astype(np.float32).tolist()
    rows = [(id, str(id), vector) for id, vector in enumerate(vectors)]
    rows[17] = (17, "17", None)
    left = spark.createDataFrame(rows[:40], SCHEMA).cache()
    other = spark.createDataFrame([*rows[40:], (99, None, None)], SCHEMA)
    yield left, other.withColumnRenamed("v", "w").cache()
    left.unpersist()
    other.unpersist()


@pytest.mark.parametrize(
    ("metric", "ranking", "direction", "joinType", "way"),
    [
        ("euclidean", "vector_l2_distance", "distance", "leftouter", SHUFFLED),
        pytest.param("euclidean", "vector_l2_distance", "distance", "inner", {}, marks=CONNECT),
        ("cosine", "vector_cosine_similarity", "similarity", "inner", SHUFFLED),
        pytest.param(
            "inner_product",
            "vector_inner_product",
            "similarity",
            "leftouter",
            SHUFFLED,
            marks=CONNECT,
        ),
    ],
)
def test_exact_rows_and_schema_are_those_of_spark(
    spark, sides, metric, ranking, direction, joinType, way
):
    from lshjoin.spark import nearest_by_join
    from pyspark.sql import functions as F

    left, other = sides
    if not hasattr(left, "nearestByJoin"):
        pytest.skip("this Spark has no nearestByJoin: 4.2 is the first that has")
    expected = left.nearestByJoin(
        other, getattr(F, ranking)(left.v, other.w), 7, "exact", direction, joinType=joinType
    )
    set_way(spark, way)
    found = nearest_by_join(left, other, "v", "w", 7, "exact", metric=metric, joinType=joinType)
    reset_way(spark)
    assert found.columns == expected.columns
    assert [field.dataType for field in found.schema] == [
        field.dataType for field in expected.schema
    ]
    assert rows_of(found) == rows_of(expected)
    assert found.count() == 39 * 7 + (joinType == "leftouter")


@pytest.mark.parametrize("metric", ["manhattan", "cosine", "inner_product"])
def test_approx_finds_the_recall_that_was_asked_for(spark, metric):
    """By parts around centroids, to which each row goes by the metric."""
    from lshjoin import knn_join
    from lshjoin.spark import nearest_by_join

    rng = np.random.default_rng(6)
    items = clustered(3_000, 16, rng) * rng.random((3_000, 1))
    table = spark.createDataFrame(list(enumerate(items.tolist())), "id int, v array<double>")
    set_way(spark, {"broadcastBytes": "0", "blockBytes": "40k"})
    found = nearest_by_join(table, table, "v", "v", 5, metric=metric, recall=0.8)
    reset_way(spark)
    pairs = [(row[0], row[2]) for row in found.collect()]
    assert len(set(pairs)) == len(pairs) == 5 * 3_000
    truth = knn_join(items, items, 5, metric=metric, recall=1.0).indices
    same = {(query, int(item)) for query, near in enumerate(truth) for item in near} & set(pairs)
    assert len(same) >= 0.8 * len(pairs)


def test_rows_are_fetched_by_a_column_that_tells_them_apart(spark, sides, capsys):
    """Not by vectors, which are long, unless there is none."""
    from lshjoin.spark import nearest_by_join

    left, other = sides
    same = other.selectExpr("0 AS id", "w")
    set_way(spark, SHUFFLED)
    try:
        for items, by_vectors in ((other, False), (same, True)):
            found = nearest_by_join(left, items, "v", "w", 3, "exact")
            found.explain()
            plan = capsys.readouterr().out
            assert "xxhash64(v#" not in plan
            assert ("xxhash64(w#" in plan) == by_vectors
            assert found.count() == 3 * 39
    finally:
        reset_way(spark)


def test_nothing_to_choose_from(spark, sides):
    from lshjoin.spark import nearest_by_join

    left, other = sides
    none = other.where("id < 0")
    assert nearest_by_join(left, none, "v", "w", 3).count() == 0
    found = nearest_by_join(left, none, "v", "w", 3, joinType="leftouter").toDF(*"abcdef").collect()
    assert sorted(row.a for row in found) == list(range(40))
    assert {(row.d, row.e, row.f) for row in found} == {(None, None, None)}


def test_complaints(spark, sides):
    from lshjoin.spark import nearest_by_join

    left, other = sides
    for words, arguments in (
        ("mode must be one of approx, exact, not 'EXACT'", {"mode": "EXACT"}),
        ("joinType must be one of inner, leftouter, not 'left'", {"joinType": "left"}),
        ("metric must be one of euclidean, .*inner_product, not 'l2'", {"metric": "l2"}),
        ("number of nearest neighbors cannot be less than 1", {"numResults": 0}),
        ("recall must be above 0 and at most 1, not 1.5", {"recall": 1.5}),
        ("No such struct field `v`", {"rightCol": "v"}),
    ):
        good = {"leftCol": "v", "rightCol": "w", "numResults": 1}
        with pytest.raises(ValueError, match=words):
            nearest_by_join(left, other, **(good | arguments))
    with pytest.raises(TypeError, match="recall is for mode='approx'"):
        nearest_by_join(left, other, "v", "w", 1, "exact", recall=0.9)
    with pytest.raises(TypeError, match="Column id must be of type vector"):
        nearest_by_join(left, other, "id", "w", 1)


def test_examples(spark):
    import doctest

    import lshjoin.spark.nearest_by

    results = doctest.testmod(lshjoin.spark.nearest_by, extraglobs={"spark": spark})
    assert (results.failed, results.attempted > 3) == (0, True)
