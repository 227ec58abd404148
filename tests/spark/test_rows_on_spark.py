"""How large data frames are, and the rows of small ones."""

import os

import pytest

pytestmark = [
    pytest.mark.usefixtures("spark"),
    pytest.mark.skipif(
        bool(os.environ.get("LSHJOIN_ISA")), reason="once, on the best instruction set, is enough"
    ),
]

ROW, NAME = 8, "abc"


@pytest.mark.parametrize("tasks", [1, pytest.param(3, marks=pytest.mark.connect), 60])
@pytest.mark.parametrize("most", [0, 6_000, 22_000, 1 << 20])
def test_more_rows_than_spark_expects(spark, tasks, most):
    """Of an array that is exploded it expects one row, which is small whatever the limit."""
    from lshjoin.spark.rows import measured

    few = spark.range(0, 40, 1, tasks)
    rows = few.selectExpr("explode(sequence(50 * id, 50 * id + 49)) AS id", f"'{NAME}' AS name")
    found = measured(rows, ROW, most)
    assert (found.size.rows, found.size.bytes) == (2_000, 2_000 * (ROW + len(NAME)))
    if found.size.bytes > most:
        assert found.rows is None
    else:
        assert sorted(found.rows.column("id").to_pylist()) == list(range(2_000))
        assert found.rows.column_names == ["id", "name"]


@pytest.mark.connect
@pytest.mark.parametrize("most", [0, 1 << 20])
def test_no_rows(spark, most):
    from lshjoin.spark.rows import measured

    found = measured(spark.range(0).selectExpr("id", f"'{NAME}' AS name"), ROW, most)
    assert (found.size.rows, found.size.bytes, found.rows) == (0, 0, None)
