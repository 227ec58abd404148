"""The estimators and models of Spark ML, over Spark data frames, with the engine in the executors.

``from lshjoin.spark import BucketedRandomProjectionLSH, MinHashLSH`` in the place of
``pyspark.ml.feature``'s. Needs ``pip install 'lshjoin[spark]'`` on the driver and on the executors.

Start with ``stages.py``, which ``lsh.py`` and ``minhash.py`` make their families of. Joins are in
``similarity.py`` and ``nearest.py``, which send rows to tasks by ``shuffle.py``; ``hashing.py`` is
the hash functions, ``rows.py``, ``vectors.py`` and ``sets.py`` how rows reach Python. Uses
``frames`` for parameters and storage, ``arrays`` for joins, ``base`` and the engine.
"""

from lshjoin.spark.lsh import BucketedRandomProjectionLSH, BucketedRandomProjectionLSHModel
from lshjoin.spark.minhash import MinHashLSH, MinHashLSHModel

__all__ = [
    "BucketedRandomProjectionLSH",
    "BucketedRandomProjectionLSHModel",
    "MinHashLSH",
    "MinHashLSHModel",
]
