"""Recall of a k-NN join by exact search on a sample of its queries."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benches.data.rows import Indices, Rows

SAMPLE = 3_000


@dataclass(frozen=True)
class Truth:
    """Sampled queries, and how far the k nearest of each are, nearest first."""

    sample: NDArray[np.int64]
    distances: NDArray[np.float64]

    @classmethod
    def of(cls, items: Rows, queries: Rows | None, k: int, seed: int) -> "Truth":
        import faiss

        asked = items if queries is None else queries
        rng = np.random.default_rng(seed)
        sample = np.sort(rng.choice(len(asked), min(SAMPLE, len(asked)), replace=False))
        # Twice as many as needed, so that rounding in FAISS's float32 leaves out none of the k.
        _, near = faiss.knn(asked[sample], items, min(2 * k + 1, len(items)))
        distances = _distances(items, queries, sample, near)
        return cls(sample, np.sort(distances, axis=1)[:, :k])

    def recall(self, items: Rows, queries: Rows | None, found: Indices) -> float:
        """The share of the k nearest that was found; of those at equal distance any will do."""
        distances = _distances(items, queries, self.sample, found[self.sample])
        # Far below the gaps between neighbours, far above the error of a double.
        return float((distances <= self.distances[:, -1:] * (1 + 1e-9)).mean())


def differences(items: Rows, a: Indices, b: Indices) -> tuple[int, float]:
    """Rows whose neighbours differ between two self-joins, and by which part of the distance."""
    differ = np.flatnonzero((np.sort(a) != np.sort(b)).any(axis=1))
    far_a, far_b = (np.sort(_distances(items, None, differ, x[differ])) for x in (a, b))
    worst = np.max(np.abs(far_a - far_b) / np.maximum(far_b, 1e-30), initial=0)
    return len(differ), float(worst)


def _distances(
    items: Rows, queries: Rows | None, sample: NDArray[np.int64], found: Indices
) -> NDArray[np.float64]:
    """Inf for no neighbour, the row itself and what was found before."""
    asked = items if queries is None else queries
    distances = np.full(found.shape, np.inf)
    for row, query, near in zip(distances, sample, found, strict=True):
        new = np.unique(near, return_index=True)[1]
        new = new[near[new] >= 0]
        if queries is None:
            new = new[near[new] != query]
        row[new] = np.linalg.norm(items[near[new]].astype(float) - asked[query], axis=1)
    return distances
