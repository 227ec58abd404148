"""The estimators and models of Spark ML, over Spark data frames, with the engine in the executors.

``from lshjoin.spark import BucketedRandomProjectionLSH, MinHashLSH`` in the place of
``pyspark.ml.feature``'s. Needs ``pip install 'lshjoin[spark]'`` on the driver and on the executors.

Start with ``stages.py``, which ``minhash.py`` makes its family of, and ``lsh.py``, by way of
``vector_stages.py``, those for vectors. Joins are in ``similarity.py`` and ``nearest.py``, which
``parts.py`` plans and, within groups of equal keys, ``groups.py``; ``shuffle.py`` sends their rows
to tasks, ``local.py`` is for joins that need none, and ``pairs.py`` says what comes back.
``plans.py`` tells beforehand what a join will move and take. ``nearest_by.py`` is Spark's own join
of nearest neighbours; ``dedup.py`` makes groups of near pairs, and ``components.py`` of groups
larger ones. ``hashing.py`` is the hash functions, ``rows.py``, ``vectors.py``, ``sets.py`` and
``sides.py`` how rows reach Python. Uses ``frames`` for parameters and storage, ``arrays`` for
joins, ``base`` and the engine.
"""

from lshjoin.spark.dedup import dedup
from lshjoin.spark.lsh import (
    BucketedRandomProjectionLSH,
    BucketedRandomProjectionLSHModel,
    ManhattanProjectionLSH,
    ManhattanProjectionLSHModel,
    RandomHyperplaneLSH,
    RandomHyperplaneLSHModel,
)
from lshjoin.spark.minhash import MinHashLSH, MinHashLSHModel
from lshjoin.spark.nearest_by import nearest_by_join
from lshjoin.spark.plans import KnnJoinPlan, plan_knn_join

__all__ = [
    "BucketedRandomProjectionLSH",
    "BucketedRandomProjectionLSHModel",
    "KnnJoinPlan",
    "ManhattanProjectionLSH",
    "ManhattanProjectionLSHModel",
    "MinHashLSH",
    "MinHashLSHModel",
    "RandomHyperplaneLSH",
    "RandomHyperplaneLSHModel",
    "dedup",
    "nearest_by_join",
    "plan_knn_join",
]
