"""Recall of a k-NN join by exact search on a sample of its queries."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
    def of(
        cls, items: Rows, queries: Rows | None, k: int, seed: int, keys: Indices | None = None
    ) -> "Truth":
        import faiss

        asked = items if queries is None else queries
        rng = np.random.default_rng(seed)
        sample = np.sort(rng.choice(len(asked), min(SAMPLE, len(asked)), replace=False))
        # Twice as many as needed, so that rounding in FAISS's float32 leaves out none of the k.
        near = np.full((len(sample), 2 * k + 1), -1)
        for of, members in groups(sample, keys):
            sides = (np.asarray(x, np.float32) for x in (asked[sample[of]], items[members]))
            _, found = faiss.knn(*sides, min(near.shape[1], len(items[members])))
            near[of, : found.shape[1]] = np.arange(len(items))[members][found]
        distances = _distances(items, queries, sample, near)
        return cls(sample, np.sort(distances, axis=1)[:, :k])

    def recall(self, items: Rows, queries: Rows | None, found: Indices) -> float:
        """The share of the k nearest that was found; of those at equal distance any will do."""
        distances = _distances(items, queries, self.sample, found[self.sample])
        # Far below the gaps between neighbours, far above the error of a double.
        return float((distances <= self.distances[:, -1:] * (1 + 1e-9)).mean())


def groups(sample: NDArray[np.int64], keys: Indices | None) -> Iterator[tuple[Any, Any]]:
    """Which of the sample may have which of the rows as neighbours: those of its key."""
    if keys is None:
        yield slice(None), slice(None)
        return
    for key in np.unique(keys[sample]):
        yield keys[sample] == key, np.flatnonzero(keys == key)


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
