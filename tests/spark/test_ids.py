"""Joins of which the ids alone come back: those of the pairs that are given whole."""

import os
from collections import Counter

import numpy as np
import pytest
from test_on_spark import clustered, frame, model, pairs_of, reset_way, set_way

pytestmark = [
    pytest.mark.usefixtures("spark"),
    pytest.mark.skipif(
        bool(os.environ.get("LSHJOIN_ISA")), reason="once, on the best instruction set, is enough"
    ),
]


@pytest.fixture(params=["local", "broadcast", "shuffled"])
def way(request, spark, monkeypatch):
    """On the driver, by a broadcast, or in several parts and blocks of some hundred rows."""
    chosen = {"broadcastBytes": "0", "blockBytes": "20k"} if request.param == "shuffled" else {}
    if request.param == "broadcast":
        monkeypatch.setattr("lshjoin.spark.local._MOST_BYTES", -1)
    set_way(spark, chosen)
    yield request.param
    reset_way(spark)


def ids_of(joined) -> dict:
    rows = joined.collect()
    pairs = {(row[0], row[1]): row[2] for row in rows}
    assert len(pairs) == len(rows), "a pair comes twice"
    return pairs


@pytest.fixture(scope="module")
def sides(spark):
    rng = np.random.default_rng(23)
    left, right = (frame(spark, clustered(count, 8, rng)).cache() for count in (300, 1_500))
    yield left, right
    left.unpersist()
    right.unpersist()


@pytest.mark.connect
@pytest.mark.cluster
def test_nearest(spark, sides, way):
    """Where they are shuffled, the neighbours of each row come out of several parts."""
    left, right = sides
    join = model(left, bucketLength=1.0).approxNearestNeighborsJoin
    expected = pairs_of(join(left, right, 5, recall=0.8))
    flat = join(left, right, 5, "how far", recall=0.8, idCol="id")
    nested = join(left, right, 5, "how far", recall=0.8, idCol="id", nested=True)
    assert flat.schema.simpleString() == "struct<idA:bigint,idB:bigint,how far:double>"
    assert nested.schema.simpleString() == (
        "struct<idA:bigint,neighbors:array<struct<idB:bigint,how far:double>>>"
    )
    assert len(expected) == 5 * 300
    assert ids_of(flat) == expected
    lists = nested.collect()
    assert sorted(row.idA for row in lists) == list(range(300))
    assert all(len(row.neighbors) == 5 for row in lists)
    distances = [[at["how far"] for at in row.neighbors] for row in lists]
    assert distances == [sorted(each) for each in distances]
    assert {(row.idA, at.idB): at["how far"] for row in lists for at in row.neighbors} == expected


@pytest.mark.parametrize("itself", [pytest.param(False, marks=pytest.mark.connect), True])
def test_similarity(sides, way, itself):
    left, right = sides[itself], sides[1]
    ours = model(left, bucketLength=0.5, numHashTables=2)
    found = ours.approxSimilarityJoin(left, right, 1.0, "how far", idCol="id")
    assert found.columns == ["idA", "idB", "how far"]
    pairs = ids_of(found)
    assert pairs == pairs_of(ours.approxSimilarityJoin(left, right, 1.0))
    assert len(pairs) > 1_000


def test_sets(spark, way):
    from lshjoin.spark import MinHashLSH

    words = [["a", "b"], ["a", "b", "c"], ["x", "y"], ["a", "b"]]
    rows = spark.createDataFrame(list(enumerate(words)), ["id", "words"])
    ours = MinHashLSH(inputCol="words", outputCol="hashes", numHashTables=16, seed=1).fit(rows)
    found = ids_of(ours.approxSimilarityJoin(rows, rows, 0.5, idCol="id"))
    assert {(a, b) for a, b in found if a < b} == {(0, 1), (0, 3), (1, 3)}


@pytest.mark.parametrize("join", ["nearest", "similarity"])
def test_nothing_is_fetched(spark, capsys, way, join):
    from pyspark.sql import functions as F

    rows = frame(spark, clustered(400, 8, np.random.default_rng(7)))
    rows = rows.withColumn("text", F.concat(F.lit("unwanted"), F.col("id")))
    ours = model(rows, bucketLength=1.0)
    if join == "nearest":
        joined = ours.approxNearestNeighborsJoin(rows, rows, 2, idCol="id")
    else:
        joined = ours.approxSimilarityJoin(rows, rows, 1.0, idCol="id")
    joined.explain()
    plan = capsys.readouterr().out
    is_local = way == "local" and not spark.version.startswith("3.")
    assert ("LocalTableScan" if is_local else "MapInArrow") in plan
    assert "unwanted" not in plan
    assert "Join" not in plan


def test_ids_of_any_type(spark, way):
    """And of any name; one job for all types."""
    expressions = [
        "concat('röw ', id)",
        "cast(id AS tinyint)",
        "cast(id / 8 AS decimal(20, 4))",
        "date_add(date'2020-01-01', cast(id AS int))",
        "cast(cast(id AS string) AS binary)",
    ]
    rows = clustered(60, 4, np.random.default_rng(1))
    table = frame(spark, rows).cache()
    found = None
    for expression in expressions:
        named = table.selectExpr("features", f"{expression} AS `the.id`")
        ours = model(named, bucketLength=2.0)
        near = ours.approxNearestNeighborsJoin(named, named, 1, recall=1.0, idCol="the.id")
        of_type = named.schema["the.id"].dataType
        assert [near.schema[side].dataType for side in ("idA", "idB")] == [of_type] * 2
        names = table.selectExpr("id", f"{expression} AS name")
        given = (
            near.join(names, near.idA == names.name)
            .select("id", near.idA == near.idB, "distCol")
            .toDF("row", "same", "distance")
        )
        found = given if found is None else found.union(given)
    pairs = Counter(tuple(row) for row in found.collect())
    assert pairs == Counter({(row, True, 0.0): len(expressions) for row in range(60)})
    table.unpersist()


def test_ids_that_come_twice_are_rows_of_their_own(spark, way):
    """As in joins of files: an id is a name, by which no row is told from others."""
    rows = np.array([[0.0], [0.0], [1.0], [1.5], [9.0]])
    table = frame(spark, rows).selectExpr("features", "id div 3 AS id")  # 0, 0, 0, 1, 1
    ours = model(table, bucketLength=2.0)
    if way == "shuffled":
        spark.conf.set("spark.lshjoin.blockBytes", "16b")  # two rows
    near = ours.approxNearestNeighborsJoin(table, table, 2, recall=1.0, idCol="id")
    assert Counter(tuple(row) for row in near.collect()) == Counter(
        [(0, 0, 0.0)] * 5 + [(0, 1, 0.5), (1, 1, 0.0), (1, 0, 0.5), (1, 1, 0.0), (1, 1, 7.5)]
    )
    similar = ours.approxSimilarityJoin(table, table, 0.1, idCol="id")
    # Rows equal in id and vector count as one, as rows that are equal in Spark.
    assert Counter(tuple(row) for row in similar.collect()) == Counter(
        [(0, 0, 0.0)] * 2 + [(1, 1, 0.0)] * 2
    )


def test_nulls_among_the_ids_name_the_column(spark, way):
    rows = frame(spark, clustered(300, 3, np.random.default_rng(0)))
    bad = rows.selectExpr("features", "if(id = 123, null, id) AS id")
    ours = model(rows, bucketLength=1.0)
    for use in (
        lambda: ours.approxNearestNeighborsJoin(bad, rows, 1, idCol="id"),
        lambda: ours.approxNearestNeighborsJoin(rows, bad, 1, idCol="id"),
        lambda: ours.approxSimilarityJoin(bad, bad, 1.0, idCol="id"),
    ):
        with pytest.raises(Exception, match="Column id holds a null; every row needs an id"):
            use().collect()


def test_errors_of_rows_name_their_ids(spark, way):
    rows = np.random.default_rng(0).random((300, 3))
    good = frame(spark, rows)
    rows[123, 1] = np.nan
    bad = frame(spark, rows)
    ours = model(good, bucketLength=1.0)
    for use in (
        lambda: ours.approxNearestNeighborsJoin(bad, good, 1, idCol="id"),
        lambda: ours.approxSimilarityJoin(bad, good, 1.0, idCol="id"),
    ):
        with pytest.raises(Exception, match=r"NaN at dimension 1.*\[id=123\]"):
            use().collect()


def test_complaints(spark):
    rows = frame(spark, np.ones((2, 3)))
    ours = model(rows, bucketLength=1.0)
    near, similar = ours.approxNearestNeighborsJoin, ours.approxSimilarityJoin
    with pytest.raises(TypeError, match="nested is for ids: pass idCol="):
        near(rows, rows, 1, nested=True)
    for join in (near, similar):
        with pytest.raises(ValueError, match="No such struct field `key` in `id`, `features`"):
            join(rows, rows, 1, idCol="key")
        with pytest.raises(ValueError, match="More than one struct field `id`"):
            join(rows, rows.selectExpr("*", "id"), 1, idCol="id")
        with pytest.raises(TypeError, match=r"Column features must hold ids, .* but was actually"):
            join(rows, rows, 1, idCol="features")
        with pytest.raises(ValueError, match="Column IDB already exists"):
            join(rows, rows, 1, "IDB", idCol="id")


def test_frames_without_rows(spark, way):
    rows = frame(spark, np.ones((3, 2)))
    none = rows.where("id < 0")
    ours = model(rows, bucketLength=1.0)
    for sides in ((none, rows), (rows, none)):
        near = ours.approxNearestNeighborsJoin(*sides, 2, idCol="id", nested=True)
        assert near.count() == 0
    assert ours.approxSimilarityJoin(none, rows, 1.0, idCol="id").count() == 0
