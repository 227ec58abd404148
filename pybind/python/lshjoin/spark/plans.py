"""What a join of nearest neighbours will do on a cluster, told before it does it.

The join's own plan is made, and the rows of a sample are sent where it would send them: so many of
them in a block tell how many rows, bytes and seconds that will be.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, SupportsIndex, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lshjoin.arrays.knn import plan_knn_join as plan_of_arrays
from lshjoin.arrays.neighbors import Metric, NearestMetric
from lshjoin.base.checks import at_least_one, to_float, to_recall
from lshjoin.spark.groups import check_keys
from lshjoin.spark.nearest import planned
from lshjoin.spark.pairs import with_ids
from lshjoin.spark.parts import Plan, Search, Which, keys_of
from lshjoin.spark.rows import HASH, Size
from lshjoin.spark.shuffle import Cluster
from lshjoin.spark.sides import Sample, Side
from lshjoin.spark.stages import MOST_ROWS
from lshjoin.spark.vectors import packed

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from lshjoin._lshjoin import Matrix

Rows = NDArray[np.floating[Any]]

# Rows of a side that are sent where the plan would send all.
_SAMPLE_ROWS = 20_000
# Of the sample's items every so many show how the time of a query grows with their number.
_FEWER = 4
# What Spark compresses a shuffle with, unless ``spark.io.compression.codec`` says otherwise.
_CODEC = "lz4_raw"
# Beside its vector a row has its hashes and an id on its way, and a neighbour is an id and a
# distance. Ids are of eight bytes, strings longer. What Spark adds hardly outlasts its compression.
_BYTES_OF_ROW, _BYTES_OF_NEIGHBOR = 32, 16
# What a core handles of the shuffle, and of neighbours that it hands to Spark. With these 200,000
# rows in 36 parts are 23 core seconds, of which 19 were measured, and a million in two parts 43,
# where two cores took 27 s.
_BYTES_A_SECOND, _NEIGHBORS_A_SECOND = 20e6, 500_000


@dataclass(frozen=True)
class KnnJoinPlan:
    """What ``approxNearestNeighborsJoin`` with ``idCol`` will do, and take."""

    rows: tuple[int, int]  #: of the two sides
    #: Of neighbouring lists of a coarse quantiser; 1 where each row of A meets all of B, 0 where B
    #: goes to every task and nothing is shuffled.
    parts: int
    #: Parts that a row is sent to, on average: one of A or of B, whose other side goes to one each.
    probes: float
    blocks: int  #: pieces of work: a part, or a slice of A with one of B in it
    partitions: int  #: of the shuffle: at most ``spark.sql.shuffle.partitions``
    copies: tuple[float, float]  #: blocks that a row of either side is sent to, on average
    block_bytes: int  #: vectors of both sides in the largest block
    vector_bytes: int  #: shuffled to the blocks, compressed
    neighbor_bytes: int  #: shuffled from there, for the neighbours of a row to be merged
    cores: int  #: tasks that run at a time
    seconds: float  #: see :func:`plan_knn_join`

    def __str__(self) -> str:
        """A line for each number."""
        a, b = self.rows
        where = f"{self.parts:,} parts, of which a row is sent to {self.probes:.1f}"
        if self.parts < 2:
            where = "every row of A meets all of B" if self.parts else "B goes to every task"
        return (
            f"rows       {a:,} and {b:,}\n"
            f"way        {where}\n"
            f"blocks     {self.blocks:,} in {self.partitions:,} partitions\n"
            f"copies     {self.copies[0]:.1f} of a row of A, {self.copies[1]:.1f} of a row of B\n"
            f"block      {_size(self.block_bytes)} of vectors in the largest\n"
            f"shuffle    {_size(self.vector_bytes)} of vectors, "
            f"{_size(self.neighbor_bytes)} of neighbours\n"
            f"time       {self.seconds:,.0f} s on {self.cores:,} cores"
        )


def plan_knn_join(
    datasetA: DataFrame,
    datasetB: DataFrame,
    numNearestNeighbors: SupportsIndex,
    *,
    idCol: str,
    inputCol: str = "features",
    metric: NearestMetric = "euclidean",
    recall: float = 0.95,
    apart: str | None = None,
    scale: float = 1.0,
    cores: SupportsIndex | None = None,
) -> KnnJoinPlan:
    """What ``approxNearestNeighborsJoin`` with ``idCol`` will move and take, from a sample.

    Small jobs count the rows and collect tens of thousands, as the join itself does first.
    The plan is the one that it would follow with the settings of this session; then the sample is
    sent where that plan sends rows, and what comes to each block is multiplied to all rows.

    A block of q rows of A and i of B, which hold ``bytes`` on their way, is taken to last ::

        q · t · (i / s)^g + bytes / 20 MB + q · k / 500,000 seconds,

    where t is what a query takes among the sample's s rows of B by :func:`lshjoin.plan_knn_join`,
    on one core of the driver, and g is how that grows from a quarter of s to s. ``seconds`` is the
    sum over all blocks by the tasks that run at a time, or the longest block. The other terms are
    what Spark takes to bring rows into Python by way of a shuffle, and neighbours out of it: what
    joins took in bench-results/spark_cluster.md beyond the engine's own time. They depend on disks
    and network, and say no more than whether minutes, hours or days are to be expected. Left out is
    what it takes to read the data and to start jobs.

    Args:
        datasetA: the rows that want neighbours, or a sample of them.
        datasetB: the rows to choose from, or a sample of the same share; or the same data frame.
        numNearestNeighbors: neighbours a row of A, at least 1.
        idCol: a column of both sides, as for the join.
        inputCol: the column of vectors.
        metric: that of the model: "euclidean", "cosine" or "manhattan".
        recall: the share of the true neighbours to find, above 0 and at most 1.
        apart: a column of keys, as for the join. There is no ``within``: how large groups are a
            sample does not tell.
        scale: for how many rows each row of the data frames stands, above 0: 100 where they are a
            sample of one in a hundred.
        cores: tasks that will run at a time; those of this session if None.

    Returns:
        The plan. ``print`` it.

    Raises:
        TypeError: for a column of vectors, ids or keys of another type, or keys of two types.
        ValueError: for a number out of range, another metric, columns that are not there, a side
            without rows.

    Examples:
        As if for 100 times as many rows and 64 cores; ``spark`` is a session.

        >>> from lshjoin.spark import plan_knn_join
        >>> from pyspark.sql import functions as F
        >>> rows = spark.range(10_000).select("id", F.array(*map(F.rand, range(16))).alias("v"))
        >>> plan = plan_knn_join(rows, rows, 10, idCol="id", inputCol="v", scale=100, cores=64)
        >>> plan.rows, plan.cores
        ((1000000, 1000000), 64)
    """
    if metric not in get_args(Metric):
        raise ValueError(f"metric must be one of {', '.join(get_args(Metric))}, not {metric!r}")
    factor = to_float(scale)
    if not 0 < factor < math.inf:
        raise ValueError(f"scale must be above 0 and finite, not {scale!r}")
    k = min(at_least_one(numNearestNeighbors), MOST_ROWS)
    search = Search(k, to_recall(recall), metric, apart=apart)
    for column in search.keys:
        check_keys(column, datasetA, datasetB)
    left = _Scaled.of_ids(datasetA, inputCol, idCol, factor, *search.keys)
    right = left
    if datasetB is not datasetA:
        right = _Scaled.of_ids(datasetB, inputCol, idCol, factor, *search.keys)
    sizes = left.size(), right.size()
    for name, size in zip(("datasetA", "datasetB"), sizes, strict=True):
        if size.rows == 0:
            raise ValueError(f"{name} has no rows to plan by")
    slots = Cluster.of(datasetA.sparkSession).slots if cores is None else operator.index(cores)
    if slots < 1:
        raise ValueError(f"cores must be at least 1, not {slots}")
    of_left, of_right = (
        side.sample(measured, _SAMPLE_ROWS, *search.keys)
        for side, measured in zip((left, right), sizes, strict=True)
    )
    samples = of_left.vectors, of_right.vectors
    plan = planned(left, right, search, sizes[1])
    recall_inside = 1.0 if plan is None else plan.recall
    cost = _Cost.of(of_left, of_right, replace(search, recall=recall_inside))
    rows = sizes[0].rows, sizes[1].rows
    if plan is None:
        seconds = float(cost.seconds(*np.array(rows, np.float64))) / slots
        return KnnJoinPlan(rows, 0, 0.0, 0, 0, (0.0, 0.0), 0, 0, 0, slots, seconds)

    count, parts = len(plan.blocks.keys), len(plan.blocks.down)
    queries, items = (
        _in_blocks(plan, sampled, which, count, side_rows)
        for sampled, which, side_rows in zip(samples, get_args(Which), rows, strict=True)
    )
    sent = np.zeros(count) if plan.itself else queries, items
    probing = plan.routing.probing
    of_probing = samples[get_args(Which).index(probing)]
    routes = plan.routing.routes(of_probing, pa.table({}), probing)
    # Of an id the letters, where it has some: the rest counts as a number.
    ids = [side.size().bytes / side.size().rows - side.row_bytes for side in (left, right)]
    held, shuffled = np.zeros(count), np.zeros(count)
    for side, sampled, of_id in zip(sent, samples, ids, strict=True):
        of_vector, compressed = _bytes_of_vector(sampled)
        held += side * of_vector
        shuffled += side * (compressed + of_id + _BYTES_OF_ROW)
    neighbors = queries * (k * (_BYTES_OF_NEIGHBOR + ids[1]) + ids[0] + _BYTES_OF_ROW)
    if not plan.merges:
        neighbors[:] = 0
    work = cost.seconds(queries, items) + (shuffled + neighbors) / _BYTES_A_SECOND
    work += queries * k / _NEIGHBORS_A_SECOND
    tasks = min(slots, plan.blocks.partitions)
    return KnnJoinPlan(
        rows=rows,
        parts=parts,
        probes=len(routes.row) / routes.rows,
        blocks=count,
        partitions=plan.blocks.partitions,
        copies=(float(queries.sum()) / rows[0], float(items.sum()) / rows[1]),
        block_bytes=int(held.max()),
        vector_bytes=int(shuffled.sum()),
        neighbor_bytes=int(neighbors.sum()),
        cores=slots,
        seconds=float(max(work.sum() / tasks, work.max())),
    )


@dataclass(frozen=True)
class _Scaled(Side):
    """A side each row of which stands for so many; counted once."""

    scale: float

    @classmethod
    def of_ids(
        cls, dataset: DataFrame, features: str, id_col: str, scale: float, *keys: str
    ) -> _Scaled:
        side = Side.of(with_ids(dataset, features, id_col, *keys), features)
        return cls(side.rows, side.vectors, scale)

    @cached_property
    def _counted(self) -> Size:
        return super().size()

    def size(self) -> Size:
        counted = self._counted
        return Size(round(counted.rows * self.scale), round(counted.bytes * self.scale))

    def sample(self, measured: Size, rows: int, *keys: str) -> Sample:
        return super().sample(self._counted, rows, *keys)


@dataclass(frozen=True)
class _Cost:
    """The time of the engine, on one core, by what it predicts for samples."""

    items: int  #: of the sample
    of_query: float  #: seconds of a query among these
    growth: float  #: the power of the number of items that this goes by

    @classmethod
    def of(cls, queries: Sample, items: Sample, search: Search) -> _Cost:
        def of_query(some: Sample) -> float:
            predicted = plan_of_arrays(
                queries.vectors,
                some.vectors,
                min(search.k, len(some)),
                metric=search.metric,
                recall=search.recall,
                num_threads=1,
                progress=False,
                **keys_of(queries.keys, some.keys, search),
            ).predicted
            assert predicted is not None  # as it is of every plan that the planner makes
            return predicted.seconds / len(queries)

        fewer, whole = items.take(np.arange(0, len(items), _FEWER)), of_query(items)
        if len(fewer) == len(items):  # a single one
            return cls(len(items), whole, 1.0)
        growth = math.log(whole / of_query(fewer)) / math.log(len(items) / len(fewer))
        return cls(len(items), whole, growth)

    def seconds(self, queries: Rows, items: Rows) -> Rows:
        """For so many queries and items."""
        return self.of_query * queries * (items / self.items) ** self.growth


def _bytes_of_vector(sampled: Matrix) -> tuple[float, float]:
    """Of one where it is compared, and of one as Spark compresses it on its way there."""
    values = packed(sampled).buffers()[2]
    compressed = pa.compress(values, _CODEC, asbytes=False)
    return values.size / len(sampled), compressed.size / len(sampled)


def _in_blocks(plan: Plan, sampled: Matrix, which: Which, count: int, rows: int) -> Rows:
    """Rows that come to each block, by where those of a sample go."""
    hashes = np.random.default_rng(0).integers(2**62, size=len(sampled))
    went = plan.blocks_of(sampled, pa.table({HASH: hashes}), which).flatten()
    blocks = went.field("block").to_numpy()
    if plan.itself and which == "queries":  # rows that are not at home in a block are items there
        blocks = blocks[~went.field("right").to_numpy(zero_copy_only=False)]
    return np.bincount(blocks, minlength=count) * (rows / len(sampled))


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
