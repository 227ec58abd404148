"""Nearest neighbours and similarity joins of embeddings, by locality-sensitive hashing.

For data frames (pandas, polars, pyarrow) :func:`join`, and the estimators and models of Spark ML:
:class:`BucketedRandomProjectionLSH` and its relatives for vectors, :class:`MinHashLSH` for sets;
for frames of Spark itself the two that Spark has in ``lshjoin.spark``. For NumPy arrays
:func:`knn_join` and :func:`radius_join`; a :class:`JoinPlan` is how the former goes about it.
:func:`dedup` takes either, for near-duplicates. For scikit-learn's pipelines there is
``lshjoin.sklearn``. :func:`radius_join_batches` is for results that need not fit in memory,
:func:`knn_join_files`, :func:`radius_join_files` and :func:`dedup_files` for vectors that need not
either. An :class:`Index` keeps items ready, in memory or on disk, for joins to come;
:func:`build_index` and :func:`query_index` do so from files to files.
"""

from lshjoin.arrays.knn import knn_join, plan_knn_join
from lshjoin.arrays.neighbors import Edges, Neighbors, RadiusNeighbors
from lshjoin.arrays.plot import plot_plan
from lshjoin.arrays.radius import radius_join, radius_join_batches
from lshjoin.base.plan import JoinPlan, Prediction
from lshjoin.base.report import Estimate, Report
from lshjoin.engine import __version__, cpu_features
from lshjoin.errors import NotFiniteError, OtherJobError, RowError
from lshjoin.files.datasets import Dataset, open_dataset
from lshjoin.files.dedup import FilesDeduplication, dedup_files
from lshjoin.files.indexes import FoundInIndex, build_index, query_index
from lshjoin.files.joins import FilesJoin, knn_join_files, radius_join_files
from lshjoin.files.plan import FilesPlan
from lshjoin.files.planner import plan_knn_join_files
from lshjoin.frames.dedup import Deduplication, dedup
from lshjoin.frames.estimator import Suggestion
from lshjoin.frames.families import (
    BucketedRandomProjectionLSH,
    BucketedRandomProjectionLSHModel,
    ManhattanProjectionLSH,
    ManhattanProjectionLSHModel,
    RandomHyperplaneLSH,
    RandomHyperplaneLSHModel,
)
from lshjoin.frames.join import join
from lshjoin.frames.minhash import MinHashLSH, MinHashLSHModel
from lshjoin.index import Index

__all__ = [
    "BucketedRandomProjectionLSH",
    "BucketedRandomProjectionLSHModel",
    "Dataset",
    "Deduplication",
    "Edges",
    "Estimate",
    "FilesDeduplication",
    "FilesJoin",
    "FilesPlan",
    "FoundInIndex",
    "Index",
    "JoinPlan",
    "ManhattanProjectionLSH",
    "ManhattanProjectionLSHModel",
    "MinHashLSH",
    "MinHashLSHModel",
    "Neighbors",
    "NotFiniteError",
    "OtherJobError",
    "Prediction",
    "RadiusNeighbors",
    "RandomHyperplaneLSH",
    "RandomHyperplaneLSHModel",
    "Report",
    "RowError",
    "Suggestion",
    "__version__",
    "build_index",
    "cpu_features",
    "dedup",
    "dedup_files",
    "join",
    "knn_join",
    "knn_join_files",
    "open_dataset",
    "plan_knn_join",
    "plan_knn_join_files",
    "plot_plan",
    "query_index",
    "radius_join",
    "radius_join_batches",
    "radius_join_files",
]


def __dir__() -> list[str]:
    """What is public; modules are not, but for those with another library's name."""
    return __all__
