"""The nearest-by join of Spark 4.2, without its cross product."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, SupportsIndex, get_args

from pyspark.sql import functions as F

from lshjoin.arrays.neighbors import Metric, NearestMetric
from lshjoin.base.checks import at_least_one, to_recall
from lshjoin.spark.nearest import nearest_rows
from lshjoin.spark.pairs import Structs
from lshjoin.spark.parts import Search
from lshjoin.spark.rows import distinctly_named, quoted
from lshjoin.spark.sides import Side, Vectors
from lshjoin.spark.stages import MOST_ROWS
from lshjoin.spark.vectors import value_bytes

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Mode = Literal["approx", "exact"]
JoinType = Literal["inner", "leftouter"]

_METRICS = (*get_args(Metric), "inner_product")
# The name of the distances is that of no column of the result.
_PAIRS = Structs("distance")


def nearest_by_join(
    left: DataFrame,
    other: DataFrame,
    leftCol: str,
    rightCol: str,
    numResults: SupportsIndex,
    mode: Mode = "approx",
    *,
    metric: NearestMetric = "euclidean",
    recall: float | None = None,
    joinType: JoinType = "inner",
) -> DataFrame:
    """For each row of ``left`` the rows of ``other`` nearest to it, all columns side by side.

    What ``left.nearestByJoin(other, rankingExpression, numResults, mode, direction, joinType=...)``
    of Spark 4.2 gives for these ranking expressions, which it computes for all pairs of rows in
    either mode:

    ================== =================================== ==========
    metric             rankingExpression                   direction
    ================== =================================== ==========
    "euclidean"        ``vector_l2_distance(a, b)``        distance
    "cosine"           ``vector_cosine_similarity(a, b)``  similarity
    "inner_product"    ``vector_inner_product(a, b)``      similarity
    ================== =================================== ==========

    With "exact" the rows are the same, but for those that are at equal distances, or at distances
    that are equal but for rounding, of which Spark gives any, too. As there, a null vector is near
    nothing; unlike there, NaN and infinity are refused, and by "cosine" a vector of zeros is at
    distance 1 of all others.

    Args:
        left: the rows that want neighbours.
        other: the rows to choose from.
        leftCol: the column of vectors of ``left``: VectorUDT, dense or sparse, array<float> or
            array<double>.
        rightCol: that of ``other``.
        numResults: neighbours a row of ``left``, at least 1; fewer when ``other`` has fewer.
        mode: "approx", as many of the true neighbours as ``recall`` says, or "exact", all of them.
        metric: "euclidean", "manhattan", "cosine" or "inner_product" (the largest come first).
        recall: for "approx", the share of the true neighbours to find, above 0; 0.95 if None.
        joinType: "inner", or "leftouter" to keep rows of ``left`` without a neighbour, once, with
            nulls.

    Returns:
        The columns of ``left`` and then those of ``other``, under their names, in no order.

    Raises:
        TypeError: for a column of another type, or ``recall`` with "exact".
        ValueError: for fewer than 1 neighbours, another mode, metric or join type, a recall that is
            not above 0 and at most 1, columns that are not there. NaN and infinity end the job,
            with the row named.

    Examples:
        >>> from lshjoin.spark import nearest_by_join
        >>> users = spark.createDataFrame([("u", [1.0, 2.0]), ("v", [5.0, 5.0])], ["user", "taste"])
        >>> items = spark.createDataFrame([("tea", [1.0, 1.0]), ("pie", [4.0, 4.0])], ["item", "v"])
        >>> found = nearest_by_join(users, items, "taste", "v", 1, "exact")
        >>> found.orderBy("user").show()
        +----+----------+----+----------+
        |user|     taste|item|         v|
        +----+----------+----+----------+
        |   u|[1.0, 2.0]| tea|[1.0, 1.0]|
        |   v|[5.0, 5.0]| pie|[4.0, 4.0]|
        +----+----------+----+----------+
        <BLANKLINE>
    """
    for name, said, known in (
        ("mode", mode, get_args(Mode)),
        ("metric", metric, _METRICS),
        ("joinType", joinType, get_args(JoinType)),
    ):
        if said not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, not {said!r}")
    if mode == "exact" and recall is not None:
        raise TypeError("recall is for mode='approx': 'exact' finds all neighbours")
    share = 1.0 if mode == "exact" else to_recall(recall)
    search = Search(min(at_least_one(numResults), MOST_ROWS), share, metric)
    for dataset, name in ((left, leftCol), (other, rightCol)):
        value_bytes(dataset, name)
    queries, items = distinctly_named(left, [leftCol]), distinctly_named(other, [rightCol])
    null = F.isnull(F.col(quoted(leftCol)))
    right = Side.of(items.where(F.isnotnull(F.col(quoted(rightCol)))), rightCol)
    joined = nearest_rows(
        Side(queries.where(~null), Vectors(leftCol, right.vectors.dim)), right, search, _PAIRS
    )
    found = joined.select(*(f"{side}.*" for side in _PAIRS.sides))
    if joinType == "leftouter":
        lonely = queries if right.vectors.dim == 0 else queries.where(null)
        nulls = [F.lit(None).cast(field.dataType) for field in items.schema]
        found = found.union(lonely.select("*", *nulls))
    return found.toDF(*left.columns, *other.columns)
