"""lshjoin for ann-benchmarks.

To be copied, with config.yml and Dockerfile, into its ann_benchmarks/algorithms/lshjoin. It is made
for batches: run ann-benchmarks with --batch. There is no index, so fitting only keeps the rows, and
all work is done while queries are answered.
"""

import numpy as np
from lshjoin import knn_join

from ..base.module import BaseANN

METRICS = {"euclidean": "euclidean", "angular": "cosine"}


class LshJoin(BaseANN):
    def __init__(self, metric):
        if metric not in METRICS:
            raise ValueError(f"lshjoin knows {', '.join(METRICS)} but not {metric}")
        self._metric = METRICS[metric]
        self._recall = 0.95
        self.name = "lshjoin"

    def fit(self, X):
        self._items = np.ascontiguousarray(X, dtype=np.float32)

    def set_query_arguments(self, recall):
        self._recall = recall
        self.name = f"lshjoin(recall={recall})"

    def query(self, v, n):
        return self._join(np.reshape(v, (1, -1)), n)[0]

    def batch_query(self, X, n):
        self._found = self._join(X, n)

    def get_batch_results(self):
        return self._found

    def _join(self, X, n):
        queries = np.ascontiguousarray(X, dtype=np.float32)
        found = knn_join(
            queries, self._items, n, metric=self._metric, recall=self._recall, progress=False
        ).indices
        if n <= len(self._items):
            return found
        return [row[row >= 0] for row in found]
