"""The native engine, by the name that the rest of the package has for it.

Private, and the only module that imports ``lshjoin._lshjoin``, whose functions are described in
``_lshjoin.pyi``. It uses nothing of the package.
"""

from lshjoin._lshjoin import (
    FileJoin,
    Index,
    IndexBuilder,
    ListRouter,
    MinHashModel,
    Model,
    RadiusJoinBatches,
    Sets,
    __version__,
    check_plan,
    cpu_features,
    isa,
    ivf_plan,
    knn_join,
    lsh_plan,
    partition_plan,
    plan_knn_join,
    radius_join,
    suggest,
    token_indices,
)

__all__ = [
    "FileJoin",
    "Index",
    "IndexBuilder",
    "ListRouter",
    "MinHashModel",
    "Model",
    "RadiusJoinBatches",
    "Sets",
    "__version__",
    "check_plan",
    "cpu_features",
    "isa",
    "ivf_plan",
    "knn_join",
    "lsh_plan",
    "partition_plan",
    "plan_knn_join",
    "radius_join",
    "suggest",
    "token_indices",
]
