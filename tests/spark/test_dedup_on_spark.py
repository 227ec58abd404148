"""lshjoin.spark.dedup: the groups of lshjoin.dedup, by stars of stars."""

import doctest
import importlib
import os

import lshjoin
import numpy as np
import pytest
from test_on_spark import ELSEWHERE, clustered, frame, reset_way

pytestmark = [
    pytest.mark.usefixtures("spark"),
    pytest.mark.skipif(
        bool(os.environ.get("LSHJOIN_ISA")), reason="once, on the best instruction set, is enough"
    ),
]


@pytest.fixture
def small_blocks(spark):
    """Of some hundred rows."""
    spark.conf.set("spark.lshjoin.blockBytes", "8k")
    yield
    reset_way(spark)


def components(spark, edges) -> dict:
    from lshjoin.spark.components import connected_components

    kind = "string" if isinstance(edges[0][0], str) else "long"
    rows = connected_components(spark.createDataFrame(edges, f"a {kind}, b {kind}")).collect()
    found = {row.node: row.component for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.connect
def test_components_are_those_of_scipy(spark):
    """A long path, a star, a random forest and a ring, of shuffled numbers."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rng = np.random.default_rng(14)
    path = [(at, at + 1) for at in range(300)]
    star = [(400, at) for at in range(401, 500)]
    forest = [(int(rng.integers(500, at)), at) for at in range(501, 900) if at % 40]
    ring = [(900 + at, 900 + (at + 1) % 50) for at in range(50)]
    number = rng.permutation(1_000)
    edges = number[np.array([*path, *star, *forest, *ring, (3, 3), *path[:9]])]
    edges = np.where(rng.random((len(edges), 1)) < 0.5, edges, edges[:, ::-1])
    _, labels = connected_components(
        coo_array((np.ones(len(edges)), tuple(edges.T)), shape=(1_000, 1_000)), directed=False
    )
    least = {label: min(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist())}
    expected = {
        node: least[label] for node, label in enumerate(labels.tolist()) if node != least[label]
    }
    assert components(spark, edges.tolist()) == expected


def groups_of(found) -> tuple[list[int], list[bool]]:
    """Of ids that are row numbers, in their order."""
    rows = found.orderBy("id").collect()
    return [row.group for row in rows], [row.keep for row in rows]


@pytest.mark.parametrize(
    ("metric", "kind", "threshold"),
    [
        ("euclidean", "float", 0.9),
        pytest.param("cosine", "dense", 0.1, marks=ELSEWHERE),
    ],
)
def test_groups_are_those_of_arrays(spark, small_blocks, metric, kind, threshold):
    from lshjoin.spark import dedup

    rows = clustered(1_500, 8, np.random.default_rng(3))
    rows[200:230] = rows[0]
    dtype = np.float32 if kind == "float" else np.float64
    expected = lshjoin.dedup(rows.astype(dtype), threshold, metric=metric)
    assert 100 < expected.keep.sum() < 1_400
    first = np.unique(expected.groups, return_index=True)[1]
    found = dedup(frame(spark, rows, kind), threshold, "id", metric=metric)
    assert found.columns == ["id", "group", "keep"]
    groups, keep = groups_of(found)
    assert groups == first[expected.groups].tolist()
    assert keep == expected.keep.tolist()


def test_strings_and_other_names(spark, small_blocks):
    from lshjoin.spark import dedup

    rows = np.array([[0.0], [1.0], [9.0], [2.0], [8.0]])
    table = frame(spark, rows).selectExpr("concat('röw.', 9 - id) AS `a.b`", "features AS `v.v`")
    found = dedup(table, 1.5, "a.b", inputCol="v.v")
    assert found.columns == ["a.b", "group", "keep"]
    assert sorted(map(tuple, found.collect())) == [
        ("röw.5", "röw.5", True),
        ("röw.6", "röw.6", True),
        ("röw.7", "röw.5", False),
        ("röw.8", "röw.6", False),
        ("röw.9", "röw.6", False),
    ]


def test_no_rows_and_no_duplicates(spark):
    from lshjoin.spark import dedup

    rows = frame(spark, np.arange(6.0).reshape(3, 2))
    assert dedup(rows.where("id < 0"), 1.0, "id").count() == 0
    assert groups_of(dedup(rows, 0.0, "id")) == ([0, 1, 2], [True] * 3)
    assert groups_of(dedup(rows, np.inf, "id")) == ([0, 0, 0], [True, False, False])


def test_a_directory_for_checkpoints_is_used(spark, tmp_path):
    from lshjoin.spark import dedup

    if not hasattr(spark, "sparkContext"):
        pytest.skip("by the context of classic Spark")
    context = spark.sparkContext
    context.setCheckpointDir(str(tmp_path))
    try:
        found = dedup(frame(spark, np.zeros((3, 2))), 1.0, "id")
        assert groups_of(found) == ([0, 0, 0], [True, False, False])
        assert list(tmp_path.glob("*/rdd-*"))
    finally:
        context._jsc.sc().setCheckpointDir(None)


def test_complaints(spark):
    from lshjoin.spark import dedup

    rows = frame(spark, np.ones((4, 2)))
    for words, use in (
        ("threshold must not be negative or NaN", lambda: dedup(rows, -1.0, "id")),
        ("metric must be one of .* not 'l2'", lambda: dedup(rows, 1.0, "id", metric="l2")),
        ("No such struct field `v`", lambda: dedup(rows, 1.0, "id", inputCol="v")),
        ("No such struct field `key`", lambda: dedup(rows, 1.0, "key")),
        ("Column keep already exists", lambda: dedup(rows.toDF("Keep", "features"), 1.0, "Keep")),
        (
            "Column id: id 1 comes 3 times",
            lambda: dedup(rows.selectExpr("if(id > 0, 1, 0) AS id", "features"), 1.0, "id"),
        ),
    ):
        with pytest.raises(ValueError, match=words):
            use()
    nan = np.ones((4, 2))
    nan[3, 1] = np.nan
    with pytest.raises(Exception, match=r"NaN at dimension 1.*\[id=3\]"):
        dedup(frame(spark, nan), 1.0, "id")
    bad = rows.selectExpr("if(id = 2, null, id) AS id", "features")
    with pytest.raises(Exception, match="Column id holds a null"):
        dedup(bad, 1.0, "id")


def test_examples(spark):
    # Of the package's two things of this name the module.
    module = importlib.import_module("lshjoin.spark.dedup")
    results = doctest.testmod(module, extraglobs={"spark": spark})
    assert (results.failed, results.attempted > 3) == (0, True)
