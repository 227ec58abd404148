"""The systems that are compared, a module each."""

from pathlib import Path

from benches.systems.install import ANN_SEARCH_RS_PEER

# Module and class of each, by the name that results have; or a program that follows the protocol by
# itself.
PEERS: dict[str, str | Path] = {
    "lshjoin": "lshjoin:Lshjoin",
    "lshjoin again": "lshjoin:Lshjoin",  # measured twice a run: how far times move by themselves
    "lshjoin Index": "lshjoin:LshjoinIndex",
    "lshjoin model": "lshjoin:LshjoinModel",
    "FAISS": "faiss:Faiss",
    "FAISS big_batch_search": "faiss:FaissBigBatch",
    "FAISS by group": "faiss:FaissByGroup",
    "PiPNN": "pipnn:Pipnn",
    "glass": "glass:Glass",
    "deglib": "deglib:Deglib",
    "deglib EVP": "deglib:DeglibEvp",
    "DiskANN": "diskann:DiskAnn",
    "SVS Vamana": "svs:Vamana",
    "SVS Vamana LVQ": "svs:VamanaLvq",
    "SemHash": "semhash:SemHash",
    "hnswlib": "hnswlib:Hnswlib",
    "usearch": "usearch:Usearch",
    "pynndescent": "pynndescent:Pynndescent",
    "annoy": "annoy:Annoy",
    "scikit-learn": "scikit_learn:ScikitLearn",
    "FALCONN": "falconn:Falconn",
    "NearPy": "nearpy:Nearpy",
    "ann-search-rs": ANN_SEARCH_RS_PEER,
    "Spark nearestByJoin": "spark:NearestByJoin",
    "Spark transform": "spark:Transform",
}
