"""The families for vectors: for Euclidean, Manhattan and cosine distance."""

from __future__ import annotations

from lshjoin.spark.vector_stages import BucketedLSH, BucketedLSHModel, VectorLSH, VectorLSHModel


class BucketedRandomProjectionLSHModel(BucketedLSHModel):
    """Fitted by :class:`BucketedRandomProjectionLSH`; distances are Euclidean."""

    family = "euclidean"
    spark_class = "org.apache.spark.ml.feature.BucketedRandomProjectionLSHModel"


class BucketedRandomProjectionLSH(BucketedLSH):
    """LSH for Euclidean distance: Spark's class of this name, with the same answers.

    A hash function projects a vector on a random Gaussian direction of length 1 and cuts the
    projection into buckets of ``bucketLength`` (Datar, Immorlica, Indyk and Mirrokni 2004, without
    their random offset, as in Spark). Directions are drawn with Spark's generator: the same seed
    gives the same buckets. A table asks ``numHashFunctions`` functions to agree (AND; 1 in Spark),
    and one table that agrees makes two rows candidates (OR).

    Args:
        inputCol: the column of vectors: VectorUDT, dense or sparse, array<float> or array<double>.
        outputCol: the column of hashes; ``uid + "__output"`` unless set.
        seed: signed 64-bit; 772209414 unless set, the default of Spark's Scala side. (PySpark's own
            default changes from one Python process to the next.)
        numHashTables: tables, 1 unless set.
        bucketLength: width of a bucket in the units of the vectors; must be set.
        numHashFunctions: functions a table, 1 unless set.

    Examples:
        The example in Spark's documentation; ``spark`` is a session.

        >>> from lshjoin.spark import BucketedRandomProjectionLSH
        >>> from pyspark.ml.linalg import Vectors
        >>> corners = [(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)]
        >>> df = spark.createDataFrame(
        ...     [(i, Vectors.dense(corner)) for i, corner in enumerate(corners)], ["id", "features"]
        ... )
        >>> brp = BucketedRandomProjectionLSH(inputCol="features", outputCol="hashes")
        >>> model = brp.setSeed(12345).setBucketLength(1.0).fit(df)
        >>> model.transform(df).orderBy("id").first()
        Row(id=0, features=DenseVector([-1.0, -1.0]), hashes=[DenseVector([-1.0])])
        >>> others = [(2.0, 2.0), (2.0, 3.0), (3.0, 2.0), (3.0, 3.0)]
        >>> df2 = spark.createDataFrame(
        ...     [(i, Vectors.dense(other)) for i, other in enumerate(others, 4)], ["id", "features"]
        ... )
        >>> model.approxNearestNeighbors(df2, Vectors.dense([1.0, 2.0]), 1).collect()
        [Row(id=4, features=DenseVector([2.0, 2.0]), hashes=[DenseVector([1.0])], distCol=1.0)]
        >>> pairs = model.approxSimilarityJoin(df, df2, 3.0, distCol="EuclideanDistance")
        >>> pairs.select("datasetA.id", "datasetB.id", "EuclideanDistance").collect()
        [Row(id=3, id=6, EuclideanDistance=2.23606797749979)]

        Not in Spark:

        >>> nearest = model.approxNearestNeighborsJoin(df2, df, 1, distCol="distance")
        >>> nearest.select("datasetA.id", "datasetB.id", "distance").orderBy("distance").first()
        Row(id=4, id=3, distance=1.4142135623730951)
        >>> nearest = model.approxNearestNeighborsJoin(df2, df, 1, distCol="distance", idCol="id")
        >>> nearest.orderBy("distance").first()
        Row(idA=4, idB=3, distance=1.4142135623730951)
    """

    family = "euclidean"
    model_class = BucketedRandomProjectionLSHModel
    spark_class = "org.apache.spark.ml.feature.BucketedRandomProjectionLSH"


class ManhattanProjectionLSHModel(BucketedLSHModel):
    """Fitted by :class:`ManhattanProjectionLSH`; distances are Manhattan."""

    family = "manhattan"


class ManhattanProjectionLSH(BucketedLSH):
    """LSH for Manhattan distance: :class:`lshjoin.ManhattanProjectionLSH` on Spark.

    With the same functions for the same seed, and so the same buckets and pairs. Its parameters are
    those of :class:`BucketedRandomProjectionLSH`. Spark has no such class, and loads no such model;
    ``lshjoin`` without Spark does.

    Examples:
        ``spark`` is a session.

        >>> from lshjoin.spark import ManhattanProjectionLSH
        >>> rows = [(0, [0.0, 0.0]), (1, [1.0, 1.0]), (2, [60.0, 80.0])]
        >>> df = spark.createDataFrame(rows, ["id", "x"])
        >>> lsh = ManhattanProjectionLSH(inputCol="x", bucketLength=10.0, numHashTables=8)
        >>> pairs = lsh.fit(df).approxSimilarityJoin(df, df, 5.0, idCol="id")
        >>> pairs.where("idA < idB").collect()
        [Row(idA=0, idB=1, distCol=2.0)]
    """

    family = "manhattan"
    model_class = ManhattanProjectionLSHModel


class RandomHyperplaneLSHModel(VectorLSHModel):
    """Fitted by :class:`RandomHyperplaneLSH`; distances are 1 - cosine similarity."""

    family = "cosine"


class RandomHyperplaneLSH(VectorLSH):
    """LSH for cosine distance: :class:`lshjoin.RandomHyperplaneLSH` on Spark.

    With the same functions for the same seed, and so the same buckets and pairs. A function has one
    bit: set ``numHashFunctions`` to some 8 to 20 (AND) and several tables (OR). The parameters are
    those of :class:`BucketedRandomProjectionLSH` without ``bucketLength``. Spark has no such class,
    and loads no such model; ``lshjoin`` without Spark does.

    Examples:
        ``spark`` is a session.

        >>> from lshjoin.spark import RandomHyperplaneLSH
        >>> rows = [(0, [1.0, 0.0]), (1, [2.0, 0.0]), (2, [0.0, -1.0])]
        >>> df = spark.createDataFrame(rows, ["id", "x"])
        >>> model = RandomHyperplaneLSH(inputCol="x", numHashFunctions=4).fit(df)
        >>> nearest = model.approxNearestNeighborsJoin(df, df, 3, idCol="id", nested=True)
        >>> [near.idB for near in nearest.where("idA = 0").first().neighbors]
        [0, 1, 2]
    """

    family = "cosine"
    model_class = RandomHyperplaneLSHModel
