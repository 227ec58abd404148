"""within= and apart= on Spark, against brute force: by a broadcast, and by groups that travel."""

import os

import lshjoin
import numpy as np
import pytest
from test_dedup_on_spark import groups_of
from test_on_spark import ELSEWHERE, clustered, frame, model, pairs_of, reset_way, set_way

pytestmark = [
    pytest.mark.usefixtures("spark"),
    pytest.mark.skipif(
        bool(os.environ.get("LSHJOIN_ISA")), reason="once, on the best instruction set, is enough"
    ),
]

# Blocks of some three hundred rows of eight doubles.
SHUFFLED = {"broadcastBytes": "0", "blockBytes": "20k"}
K = 4
# A group of half the rows, which no block holds, one that a block does, many small ones, none.
COUNTRY = (
    "CASE WHEN id % 13 = 0 THEN NULL WHEN id % 2 = 0 THEN 'large' "
    "WHEN id % 16 = 1 THEN 'middling' ELSE concat('of ', id % 97) END"
)


def country(row):
    if row % 13 == 0:
        return None
    if row % 2 == 0:
        return "large"
    return "middling" if row % 16 == 1 else f"of {row % 97}"


@pytest.fixture(params=["broadcast", "shuffled"])
def way(request, spark):
    chosen = SHUFFLED if request.param == "shuffled" else {}
    set_way(spark, chosen)
    yield chosen
    reset_way(spark)


@pytest.fixture(scope="module")
def sides(spark):
    """Rows, and the frame of them: a column of strings for within, one of numbers for apart."""
    rng = np.random.default_rng(24)
    both = []
    for count in (700, 3_000):
        rows = clustered(count, 8, rng)
        table = frame(spark, rows).selectExpr("*", f"{COUNTRY} AS `the.country`", "id div 5 AS doc")
        both.append((rows, table.cache()))
    yield both
    for _, table in both:
        table.unpersist()


def keys(rows, of):
    return np.array([of(row) for row in range(len(rows))], object)


def equal(a, b):
    """(rows of a, rows of b): whether keys are equal, as null is to none."""
    return (a[:, None] == b) & np.not_equal(a, None)[:, None]


def check(pairs, queries, items, allowed, recall):
    """As many neighbours as there are, at their distances, and nearly the nearest."""
    squares = (queries**2).sum(1)[:, None] + (items**2).sum(1) - 2 * queries @ items.T
    distances = np.where(allowed, np.sqrt(squares.clip(0)), np.inf)
    a, b = np.array(list(pairs)).T
    found = np.array(list(pairs.values()))
    assert allowed[a, b].all()
    np.testing.assert_allclose(found, np.linalg.norm(queries[a] - items[b], axis=1), rtol=1e-6)
    limits = np.sort(distances, axis=1)[:, :K]
    there = np.isfinite(limits).sum(axis=1)
    counts = np.bincount(a, minlength=len(queries))
    assert (counts <= there).all()
    near = (found <= limits[a, np.maximum(there[a], 1) - 1] + 1e-6).sum()
    assert near >= recall * there.sum()
    if recall == 1:
        np.testing.assert_array_equal(counts, there)
    return counts == there


@pytest.mark.parametrize("recall", [1.0, pytest.param(0.8, marks=ELSEWHERE)])
def test_within_is_brute_force_by_group(sides, way, recall):
    """Of two frames, whole rows; where rows of a group lie in several blocks they are merged."""
    (queries, left), (items, right) = sides
    join = model(left, bucketLength=1.0).approxNearestNeighborsJoin
    found = join(left, right, K, recall=recall, within="the.country")
    assert found.schema["datasetA"].dataType == left.schema
    allowed = equal(keys(queries, country), keys(items, country))
    complete = check(pairs_of(found), queries, items, allowed, recall)
    small = keys(queries, country) != "large"
    assert complete[small].all()


def test_within_of_a_frame_with_itself(sides, way):
    """Ids, as a list for each row that is in a group."""
    rows, table = sides[1]
    found = (
        model(table, bucketLength=1.0)
        .approxNearestNeighborsJoin(
            table, table, K, recall=0.8, idCol="id", nested=True, within="the.country"
        )
        .collect()
    )
    of_rows = keys(rows, country)
    assert sorted(row.idA for row in found) == np.flatnonzero(np.not_equal(of_rows, None)).tolist()
    pairs = {(row.idA, near.idB): near.distCol for row in found for near in row.neighbors}
    check(pairs, rows, rows, equal(of_rows, of_rows), 0.8)


def test_a_row_of_small_groups_goes_once(spark, sides):
    from lshjoin.spark.groups import plan_groups
    from lshjoin.spark.parts import Search
    from lshjoin.spark.sides import Side

    side = Side.of(sides[1][1], "features")
    set_way(spark, SHUFFLED)
    plan = plan_groups(side, side, side.size(), side.size(), Search(K, 0.8, within="doc"))
    reset_way(spark)
    assert plan.itself
    assert plan.recall == 0.8
    assert len(plan.blocks.keys) > 9


@pytest.mark.parametrize("recall", [1.0, pytest.param(0.8, marks=ELSEWHERE)])
def test_apart_is_brute_force(sides, way, recall):
    """Of keys that near rows have in common, so that neighbours of other keys are far away."""
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import functions as F

    rows, table = sides[1]
    table = table.withColumn("slab", F.floor(vector_to_array("features")[0]).cast("int"))
    slabs = np.floor(rows[:, 0]).astype(object)
    found = model(table, bucketLength=1.0).approxNearestNeighborsJoin(
        table, table, K, recall=recall, idCol="id", apart="slab"
    )
    pairs = {(row.idA, row.idB): row.distCol for row in found.collect()}
    check(pairs, rows, rows, ~equal(slabs, slabs), recall)


def test_apart_by_ids_and_within(sides, way):
    """No row is its own neighbour; a null key is unlike all others."""
    rows, table = sides[0]
    join = model(table, bucketLength=1.0).approxNearestNeighborsJoin
    numbers, of_rows = keys(rows, int), keys(rows, country)
    found = join(table, table, K, recall=1.0, idCol="id", within="the.country", apart="id")
    allowed = equal(of_rows, of_rows) & ~equal(numbers, numbers)
    check({(row[0], row[1]): row[2] for row in found.collect()}, rows, rows, allowed, 1.0)
    found = pairs_of(join(table, table, K, recall=1.0, apart="the.country"))
    check(found, rows, rows, ~equal(of_rows, of_rows), 1.0)


def test_equal_rows_of_other_keys(spark, way):
    """Rows without a column that tells them apart are known by vectors and keys."""
    rows = np.zeros((60, 2))
    table = frame(spark, rows).selectExpr("features", "id % 3 AS doc", "id % 3 AS `of`")
    found = (
        model(table, bucketLength=1.0)
        .approxNearestNeighborsJoin(table, table, 5, recall=1.0, apart="doc")
        .collect()
    )
    assert len(found) == 5 * 60
    assert all(row.datasetA.doc != row.datasetB.doc == row.datasetB.of for row in found)


@pytest.mark.connect
def test_groups_of_duplicates(spark, sides):
    from lshjoin.spark import dedup

    rows, table = sides[1]
    of_rows = keys(rows, country)
    expected = lshjoin.dedup(rows, 0.9, within=of_rows)
    assert 100 < expected.keep.sum() < 2_900
    first = np.unique(expected.groups, return_index=True)[1]
    set_way(spark, SHUFFLED)
    found = groups_of(dedup(table, 0.9, "id", within="the.country"))
    reset_way(spark)
    assert found == (first[expected.groups].tolist(), expected.keep.tolist())


def test_complaints(sides):
    from lshjoin.spark import dedup

    _, table = sides[0]
    join = model(table, bucketLength=1.0).approxNearestNeighborsJoin
    fractions = table.selectExpr("*", "CAST(id AS double) AS part")
    for name in ("within", "apart"):
        with pytest.raises(ValueError, match="No such struct field `key`"):
            join(table, table, 1, **{name: "key"})
        with pytest.raises(TypeError, match=r"Column features must hold keys, .* was actually"):
            join(table, table, 1, **{name: "features"})
        with pytest.raises(TypeError, match=r"Column part must hold keys, .* actually double"):
            join(fractions, fractions, 1, **{name: "part"})
        other = table.withColumn("doc", table.doc.cast("string"))
        with pytest.raises(TypeError, match="one type on both sides, but was .*bigint and string"):
            join(table, other, 1, **{name: "doc"})
    with pytest.raises(TypeError, match="Column features must hold keys"):
        dedup(table, 1.0, "id", within="features")
