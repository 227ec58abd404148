"""The hash family for sets: MinHash, for the Jaccard distance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lshjoin import engine
from lshjoin.base.sets import SetColumn, key_set, set_column
from lshjoin.frames.estimator import LSH
from lshjoin.frames.lsh_params import SETS_DEFAULT_SEED
from lshjoin.frames.model import LSHModel
from lshjoin.frames.storage import read_coefficients, write_coefficients

if TYPE_CHECKING:
    from pathlib import Path

    from lshjoin.base.progress import OnProgress
    from lshjoin.frames.adapters import Frame


class MinHashLSHModel(LSHModel):
    """Fitted by :class:`MinHashLSH`; distances are Jaccard's."""

    spark_class = "org.apache.spark.ml.feature.MinHashLSHModel"

    _fitted: engine.MinHashModel

    def _features(self, frame: Frame) -> SetColumn:
        name = self.getInputCol()
        return set_column(frame.column(name), name)

    def _alike(self, a: SetColumn, b: SetColumn) -> tuple[SetColumn, SetColumn]:
        a.check_alike(b, "datasetA and datasetB")
        return a, b

    def _key_and_rows(self, key: Any, rows: SetColumn) -> tuple[SetColumn, SetColumn]:
        query = key_set(key)
        query.check_alike(rows, "key and dataset")
        return query, rows

    def _save_data(self, directory: Path) -> None:
        write_coefficients(directory, self._fitted.coefficients)

    def _load_data(self, directory: Path, spark_version: str) -> None:
        self._fitted = engine.MinHashModel.from_coefficients(
            read_coefficients(directory), self.getNumHashFunctions()
        )


class MinHashLSH(LSH[MinHashLSHModel]):
    """LSH for sets and their Jaccard distance: Spark's class of this name, with the same answers.

    The distance of two sets is 1 - |A ∩ B| / |A ∪ B|. A hash function is the least of
    ``((1 + e) · a + b) mod 2038074743`` over the elements e of a set: two sets agree on it with a
    probability of about their similarity (Broder 1997). Functions are drawn with Spark's generator:
    the same seed gives the same hashes. A table asks ``numHashFunctions`` functions to agree (AND;
    1 in Spark), and one table that agrees makes two sets candidates (OR).

    ``inputCol`` holds sets in any of these forms, none of them empty:

    - lists of whole numbers from 0 to 2038074742, or in pandas Python's sets of them;
    - lists of strings, each of which stands for its xxh3 (64 bits, modulo 2038074743), so that two
      of n tokens are taken for one with a probability of about n² / 2³²;
    - sparse vectors as Spark's reach Arrow or, in pandas, as ``pyspark.ml`` or SciPy has them, and
      dense ones, lists of floats: the set of the positions that do not hold 0.

    A sparse matrix of SciPy's in the place of a data frame is one with the columns ``id``, the
    number of the row, and ``features``; results are pyarrow Tables.

    Args:
        inputCol: the column of sets.
        outputCol: the column of hashes; ``uid + "__output"`` unless set.
        seed: signed 64-bit; 328749633 unless set, the default of Spark's Scala side. (PySpark's own
            default changes from one Python process to the next.)
        numHashTables: tables, 1 unless set.
        numHashFunctions: functions a table, 1 unless set.

    Examples:
        The example in Spark's documentation, with a polars data frame.

        >>> import polars as pl
        >>> from lshjoin import MinHashLSH
        >>> df = pl.DataFrame({"id": range(3), "features": [[0, 1, 2], [2, 3, 4], [0, 2, 4]]})
        >>> mh = MinHashLSH(inputCol="features", outputCol="hashes", seed=12345)
        >>> model = mh.fit(df)
        >>> model.transform(df).row(0)
        (0, [0, 1, 2], [[617966841.0]])
        >>> df2 = pl.DataFrame({"id": range(3, 6), "features": [[1, 3, 5], [2, 3, 5], [1, 2, 4]]})
        >>> model.approxNearestNeighbors(df2, [1, 2], 1).row(0)
        (5, [1, 2, 4], [[617966841.0]], 0.33333333333333337)
        >>> pairs = model.approxSimilarityJoin(df, df2, 0.6, distCol="JaccardDistance")
        >>> pairs.select(
        ...     idA=pl.col("datasetA").struct["id"],
        ...     idB=pl.col("datasetB").struct["id"],
        ...     distance="JaccardDistance",
        ... ).rows()
        [(0, 5, 0.5), (1, 4, 0.5)]

        Lists of tokens, in pandas:

        >>> import pandas as pd
        >>> docs = pd.DataFrame({"words": [{"a", "rose", "is"}, {"a", "rose"}, {"no", "rose"}]})
        >>> model = MinHashLSH(inputCol="words", numHashTables=8).fit(docs)
        >>> near = model.approxNearestNeighbors(docs, ["a", "rose"], 2)
        >>> near["distCol"].round(2).tolist()
        [0.0, 0.33]

        A sparse matrix:

        >>> from scipy.sparse import csr_array
        >>> counts = csr_array([[1, 0, 2], [3, 0, 1], [0, 1, 0]])
        >>> model = MinHashLSH(inputCol="features").fit(counts)
        >>> model.approxNearestNeighbors(counts, [0, 2], 5)["id"].to_pylist()
        [0, 1]
    """

    default_seed = SETS_DEFAULT_SEED
    spark_class = "org.apache.spark.ml.feature.MinHashLSH"

    def _draw(
        self, frame: Frame, num_threads: int | None, on_progress: OnProgress
    ) -> MinHashLSHModel:
        name = self.getInputCol()
        set_column(frame.column(name), name)  # refuses what the model would
        native = engine.MinHashModel.draw(
            num_hash_functions=self.getNumHashFunctions(),
            num_hash_tables=self.getNumHashTables(),
            seed=self.getSeed(),
        )
        return MinHashLSHModel(native, self.uid)
