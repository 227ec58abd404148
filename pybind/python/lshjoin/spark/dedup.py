"""Near-duplicates: groups of rows that chains of near pairs hold together.

All rows are compared, in blocks of two slices of them each, and each block says of what it found
only which rows hang together: the connected components of its pairs, as stars. Those of all blocks
make the groups.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from lshjoin.arrays.groups import Components, first_rows, require_scipy
from lshjoin.arrays.neighbors import Metric
from lshjoin.arrays.radius import radius_join_batches
from lshjoin.base.checks import to_radius
from lshjoin.spark.components import connected_components
from lshjoin.spark.groups import check_keys, group_grids, in_groups
from lshjoin.spark.pairs import check_free, with_ids
from lshjoin.spark.parts import OnePart, Parts, rows_of_block
from lshjoin.spark.rows import HASH, Batches, naming_rows, quoted, threads
from lshjoin.spark.shuffle import Blocks, Cluster, Ints, by_block, exchanged
from lshjoin.spark.sides import Side, Vectors, routed

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from lshjoin._lshjoin import Matrix

# Fewer rows are not worth a slice of their own.
_FEWEST_ROWS = 1_000
# Blocks that a slot gets at least, so that the tasks end at about the same time.
_BLOCKS_A_SLOT = 2


def dedup(
    df: DataFrame,
    threshold: float,
    idCol: str,
    *,
    inputCol: str = "features",
    metric: Metric = "euclidean",
    within: str | None = None,
) -> DataFrame:
    """Groups of near-duplicates, and which row of each to keep: :func:`lshjoin.dedup` on Spark.

    The groups are the connected components of the pairs nearer than the threshold. They are exact:
    all rows are compared, in blocks of ``spark.lshjoin.blockBytes`` a side, so that the time grows
    with the square of their number, and each row travels as often as there are slices of that size
    (docs/spark.md). Within groups only those are compared that have equal keys.

    This is done when the function is called. What is left, lazy, is to join the groups with the ids
    of ``df``, which is read several times: persist it where it is expensive to compute. Ids must
    come out the same each time, as those of ``monotonically_increasing_id`` may not.

    Args:
        df: the rows.
        threshold: rows nearer than that are duplicates, and so are duplicates of duplicates; in the
            units of the metric.
        idCol: a column of numbers, strings or the like, without nulls and each once.
        inputCol: the column of vectors: VectorUDT, dense or sparse, array<float> or array<double>.
        metric: "euclidean", "manhattan" or "cosine" (1 - cosine similarity).
        within: a column of keys, integers or strings: only rows of equal keys are duplicates. A row
            whose key is null is a duplicate of none.

    Returns:
        A row for each of ``df``: the id, under its name; ``group``, the least id of its group; and
        ``keep``, true for the row that has it.

    Raises:
        ImportError: without scipy, which the executors need, too:
            ``pip install 'lshjoin[spark,dedup]'``.
        TypeError: for a column of vectors, ids or keys of another type.
        ValueError: for a threshold that is negative or NaN, another metric, columns that are not
            there, an id that comes twice. Nulls, NaN and infinity end the job, with the row or the
            column named.

    Examples:
        >>> from lshjoin.spark import dedup
        >>> rows = [("a", [0.0, 0.0]), ("b", [3.0, 4.0]), ("c", [0.0, 0.2]), ("d", [0.0, 0.1])]
        >>> df = spark.createDataFrame(rows, ["id", "features"])
        >>> groups = dedup(df, 0.15, "id")
        >>> groups.orderBy("id").show()
        +---+-----+-----+
        | id|group| keep|
        +---+-----+-----+
        |  a|    a| true|
        |  b|    b| true|
        |  c|    a|false|
        |  d|    a|false|
        +---+-----+-----+
        <BLANKLINE>
        >>> sorted(row.id for row in df.join(groups.where("keep"), "id").collect())
        ['a', 'b']
    """
    require_scipy()
    radius = to_radius(threshold, "threshold")
    if metric not in get_args(Metric):
        raise ValueError(f"metric must be one of {', '.join(get_args(Metric))}, not {metric!r}")
    for name in ("group", "keep"):
        check_free(name, idCol)
    keys = [] if within is None else [within]
    for column in keys:
        check_keys(column, df)
    side = Side.of(with_ids(df, inputCol, idCol, *keys), inputCol)
    ids = side.rows.select(F.col(quoted(idCol)).alias("id"))
    twice = ids.groupBy("id").count().where("count > 1").first()
    if twice is not None:
        raise ValueError(
            f"Column {idCol}: id {twice.id!r} comes {twice['count']} times; every row needs an id "
            "of its own"
        )
    compared = replace(side, rows=in_groups(side.rows, within))
    groups = connected_components(_stars(compared, idCol, radius, metric, within))
    group = F.coalesce("component", "id")
    return ids.join(groups, ids.id == groups.node, "left").select(
        F.col("id").alias(idCol), group.alias("group"), F.isnull("component").alias("keep")
    )


def _stars(side: Side, id_col: str, radius: float, metric: Metric, within: str | None) -> DataFrame:
    """Edges ``a`` and ``b`` between ids: the components of each block's pairs, each as a star."""
    cluster = Cluster.of(side.rows.sparkSession)
    parts = _parts(side, side.size().rows, cluster.slots, within)
    blocks = Blocks.balanced(parts.across, parts.down, parts.work, cluster)
    routing, vectors = parts.routing, side.packed

    def blocks_of(found: Matrix, rows: pa.Table) -> pa.ListArray:
        return blocks.of_both(routing.routes(found, rows, "items"), rows.column(HASH).to_numpy())

    def join(batches: Batches) -> Batches:
        for block, lefts, rights in by_block(batches):
            others = None if blocks.is_diagonal(block) else rights
            centres = _centres(lefts, others, vectors, radius, metric, within)
            rows = lefts if others is None else pa.concat_tables([lefts, others])
            ids, ends = rows.column(id_col), np.flatnonzero(centres != np.arange(len(rows)))
            yield from pa.table(
                {"a": ids.take(pa.array(ends)), "b": ids.take(pa.array(centres[ends]))}
            ).to_batches()

    carried = [id_col] if within is None else [id_col, within]
    everywhere = routed(side, carried, blocks_of, within=within)
    spark_type = side.rows.schema[id_col].dataType
    schema = StructType().add("a", spark_type).add("b", spark_type)
    return exchanged(everywhere, None, blocks).mapInArrow(join, schema)


def _parts(side: Side, rows: int, slots: int, within: str | None) -> Parts:
    """Slices of all so many rows, or of those of the large groups."""
    enough = math.ceil(math.sqrt(2 * _BLOCKS_A_SLOT * slots))
    slices = max(
        math.ceil(rows / rows_of_block(side, side)),
        min(enough, math.ceil(rows / _FEWEST_ROWS)),
        1,
    )
    if within is not None:
        return group_grids(side, within, rows, max(math.ceil(rows / slices), 1))
    return Parts(OnePart(), False, np.array([slices]), np.array([slices]), np.ones(1))


def _centres(
    lefts: pa.Table,
    rights: pa.Table | None,
    vectors: Vectors,
    radius: float,
    metric: Metric,
    within: str | None,
) -> Ints:
    """For each row of a block the first row of its component; of one slice with itself if None."""
    rows = vectors.read(lefts)
    others = None if rights is None else vectors.read(rights)
    shift = 0 if others is None else len(rows)
    components = Components(shift + len(rows if others is None else others))
    keys: Any = None
    if within is not None:
        keys = lefts.column(within)
        if rights is not None:
            keys = keys, rights.column(within)
    with naming_rows(lefts, vectors.name):
        for batch in radius_join_batches(
            rows,
            others,
            radius,
            metric=metric,
            within=keys,
            num_threads=threads(),
            progress=False,
        ):
            components.connect(batch["query"].to_numpy(), shift + batch["item"].to_numpy())
    return first_rows(components.labels)
