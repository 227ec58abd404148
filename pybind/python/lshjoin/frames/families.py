"""The hash families for vectors: for Euclidean, Manhattan and cosine distance."""

from __future__ import annotations

from lshjoin.frames.estimator import BucketedLSH, VectorLSH
from lshjoin.frames.model import BucketedLSHModel, VectorLSHModel


class BucketedRandomProjectionLSHModel(BucketedLSHModel):
    """Fitted by :class:`BucketedRandomProjectionLSH`; distances are Euclidean."""

    family = "euclidean"
    spark_class = "org.apache.spark.ml.feature.BucketedRandomProjectionLSHModel"


class BucketedRandomProjectionLSH(BucketedLSH[BucketedRandomProjectionLSHModel]):
    """LSH for Euclidean distance: Spark's class of this name, with the same answers.

    A hash function projects a vector on a random Gaussian direction of length 1 and cuts the
    projection into buckets of ``bucketLength``: ``floor(r · x / bucketLength)`` (Datar, Immorlica,
    Indyk and Mirrokni 2004, without their random offset, as in Spark). Directions are drawn with
    Spark's generator: the same seed gives the same buckets. A table asks ``numHashFunctions``
    functions to agree (AND; 1 in Spark), and one table that agrees makes two rows candidates (OR).

    Args:
        inputCol: the column of vectors.
        outputCol: the column of hashes; ``uid + "__output"`` unless set.
        seed: signed 64-bit; 772209414 unless set, the default of Spark's Scala side. (PySpark's own
            default is the hash of a string, which changes from one Python process to the next.)
        numHashTables: tables, 1 unless set.
        bucketLength: width of a bucket in the units of the vectors; must be set.
        numHashFunctions: functions a table, 1 unless set.

    Examples:
        The example in Spark's documentation, with a polars data frame.

        >>> import polars as pl
        >>> from lshjoin import BucketedRandomProjectionLSH
        >>> corners = [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]
        >>> df = pl.DataFrame({"id": range(4), "features": corners})
        >>> brp = BucketedRandomProjectionLSH(inputCol="features", outputCol="hashes")
        >>> model = brp.setSeed(12345).setBucketLength(1.0).fit(df)
        >>> model.transform(df).row(0)
        (0, [-1.0, -1.0], [[-1.0]])
        >>> others = [[2.0, 2.0], [2.0, 3.0], [3.0, 2.0], [3.0, 3.0]]
        >>> df2 = pl.DataFrame({"id": range(4, 8), "features": others})
        >>> model.approxNearestNeighbors(df2, [1.0, 2.0], 1).row(0)
        (4, [2.0, 2.0], [[1.0]], 1.0)
        >>> pairs = model.approxSimilarityJoin(df, df2, 3.0, distCol="EuclideanDistance")
        >>> pairs.select(
        ...     idA=pl.col("datasetA").struct["id"],
        ...     idB=pl.col("datasetB").struct["id"],
        ...     distance="EuclideanDistance",
        ... ).rows()
        [(3, 6, 2.23606797749979)]
    """

    family = "euclidean"
    model_class = BucketedRandomProjectionLSHModel
    spark_class = "org.apache.spark.ml.feature.BucketedRandomProjectionLSH"


class ManhattanProjectionLSHModel(BucketedLSHModel):
    """Fitted by :class:`ManhattanProjectionLSH`; distances are Manhattan."""

    family = "manhattan"


class ManhattanProjectionLSH(BucketedLSH[ManhattanProjectionLSHModel]):
    """LSH for Manhattan distance.

    As :class:`BucketedRandomProjectionLSH`, but directions are drawn from the Cauchy distribution:
    projections of two vectors then differ in proportion to their Manhattan distance (the 1-stable
    case of Datar, Immorlica, Indyk and Mirrokni 2004). The parameters are the same; ``seed`` feeds
    a generator of our own, since Spark has no such class.

    Examples:
        >>> import numpy as np, pandas as pd
        >>> from lshjoin import ManhattanProjectionLSH
        >>> df = pd.DataFrame({"id": [0, 1, 2], "x": list(np.array([[0.0, 0], [1, 1], [60, 80]]))})
        >>> model = ManhattanProjectionLSH(inputCol="x", bucketLength=10.0, numHashTables=8).fit(df)
        >>> pairs = model.approxSimilarityJoin(df, df, 5.0)
        >>> pairs[pairs[("datasetA", "id")] < pairs[("datasetB", "id")]]["distCol"].tolist()
        [2.0]
    """

    family = "manhattan"
    model_class = ManhattanProjectionLSHModel


class RandomHyperplaneLSHModel(VectorLSHModel):
    """Fitted by :class:`RandomHyperplaneLSH`; distances are 1 - cosine similarity."""

    family = "cosine"


class RandomHyperplaneLSH(VectorLSH[RandomHyperplaneLSHModel]):
    """LSH for cosine distance, 1 - cosine similarity.

    A hash function is the side of a random hyperplane through the origin on which a vector lies
    (Charikar 2002): two vectors at an angle θ agree with probability 1 - θ/π. One bit splits the
    data in two only, so set ``numHashFunctions`` to some 8 to 20 (AND) and several tables (OR).
    The parameters are those of :class:`BucketedRandomProjectionLSH` without ``bucketLength``.

    Examples:
        >>> import pyarrow as pa
        >>> from lshjoin import RandomHyperplaneLSH
        >>> table = pa.table({"id": [0, 1, 2], "x": [[1.0, 0.0], [2.0, 0.0], [0.0, -1.0]]})
        >>> model = RandomHyperplaneLSH(inputCol="x", numHashFunctions=4).fit(table)
        >>> pairs = model.approxNearestNeighborsJoin(table, table, 3)
        >>> [(p["datasetA"]["id"], p["datasetB"]["id"]) for p in pairs.to_pylist()][:2]
        [(0, 0), (0, 1)]
    """

    family = "cosine"
    model_class = RandomHyperplaneLSHModel
