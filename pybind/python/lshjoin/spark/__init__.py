"""The estimator and model of Spark ML, over Spark data frames, with the engine in the executors.

``from lshjoin.spark import BucketedRandomProjectionLSH`` in the place of ``pyspark.ml.feature``'s.
Needs ``pip install 'lshjoin[spark]'`` on the driver and on the executors.
"""

from lshjoin.spark.lsh import BucketedRandomProjectionLSH, BucketedRandomProjectionLSHModel

__all__ = ["BucketedRandomProjectionLSH", "BucketedRandomProjectionLSHModel"]
