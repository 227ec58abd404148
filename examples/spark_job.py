"""A Spark job: near-duplicates by Spark's own method, and nearest neighbours, which Spark has not.

    spark-submit examples/spark_job.py [ROWS]
    python examples/spark_job.py [ROWS]        # on this machine; needs Java 17

The engine runs inside the executors. Coming from Spark only the import line is another.
"""

import sys

import numpy as np
from lshjoin.spark import BucketedRandomProjectionLSH  # was: from pyspark.ml.feature import ...
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

rows = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
spark = SparkSession.builder.appName("lshjoin").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")

# A hundredth of the rows is there twice, the second time a little moved.
rng = np.random.default_rng(0)
vectors = rng.standard_normal((rows, 16))
copies = vectors[: rows // 100] + 0.01 * rng.standard_normal((rows // 100, 16))
vectors = np.concatenate([vectors, copies])
frame = spark.createDataFrame(
    [(row, vector.tolist()) for row, vector in enumerate(vectors)], ["id", "features"]
).persist()

# Rows that share a bucket in one of 4 tables are candidates. In each, 4 hash functions have to
# agree (Spark has one), so that few rows share a bucket that are far from each other.
lsh = BucketedRandomProjectionLSH(
    inputCol="features", outputCol="hashes", bucketLength=1.0, numHashTables=4, numHashFunctions=4
)
model = lsh.fit(frame)
pairs = model.approxSimilarityJoin(frame, frame, 0.2, distCol="distance")
pairs = pairs.where(F.col("datasetA.id") < F.col("datasetB.id"))
hidden = pairs.where(F.col("datasetB.id") - F.col("datasetA.id") == rows).count()
print(f"{pairs.count()} pairs are nearer than 0.2; {hidden} of {len(copies)} hidden ones are found")

# The nearest of each row: two, since with one frame for both sides each row finds itself first.
nearest = model.approxNearestNeighborsJoin(frame, frame, 2, recall=0.95)
others = nearest.where(F.col("datasetA.id") != F.col("datasetB.id"))
found = others.where(F.abs(F.col("datasetA.id") - F.col("datasetB.id")) == rows).count()
print(f"the nearest other of {found} of {2 * len(copies)} rows is their copy or original")
spark.stop()
