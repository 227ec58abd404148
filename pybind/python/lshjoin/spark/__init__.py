"""The estimator and model of Spark ML, over Spark data frames, with the engine in the executors.

``from lshjoin.spark import BucketedRandomProjectionLSH`` in the place of ``pyspark.ml.feature``'s.
Needs ``pip install 'lshjoin[spark]'`` on the driver and on the executors.

Start with ``lsh.py``. Its joins are in ``similarity.py`` and ``nearest.py``, which send rows to
tasks by ``shuffle.py``; ``hashing.py`` is the hash functions, ``rows.py`` and ``vectors.py`` how
rows reach Python. Uses ``frames`` for parameters and storage, ``arrays`` for joins, ``base`` and
the engine.
"""

from lshjoin.spark.lsh import BucketedRandomProjectionLSH, BucketedRandomProjectionLSHModel

__all__ = ["BucketedRandomProjectionLSH", "BucketedRandomProjectionLSHModel"]
