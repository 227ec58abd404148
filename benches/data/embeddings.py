"""Vectors to measure on: real sentence embeddings where they are at hand, made ones elsewhere."""

from pathlib import Path

import numpy as np

from benches.data.rows import Rows

# 117,659 glosses of WordNet embedded by all-MiniLM-L6-v2; lies beside the repository, not in it.
REAL = Path(__file__).resolve().parents[3] / "shared/data/wordnet-minilm-117659x384-f16.npy"


def embeddings(n: int, seed: int) -> tuple[str, Rows]:
    """What they are, and n unit vectors of 384 dimensions."""
    if REAL.exists():
        rng = np.random.default_rng(seed)
        rows = np.load(REAL, mmap_mode="r")
        chosen = np.sort(rng.choice(len(rows), n, replace=False))
        return "WordNet glosses, all-MiniLM-L6-v2", rows[chosen].astype(np.float32)
    return "generated clusters", unit_clusters(n, 384, seed)


def unit_clusters(n: int, dimensions: int, seed: int) -> Rows:
    """Unit vectors, ten rows a cluster, some clusters tight and some loose.

    So a join finds pairs at any threshold: independent Gaussians would all lie at distance sqrt(2).
    Variance falls as in the real ones: half of it lies in a sixth of the axes, three quarters in a
    third.
    """
    rng = np.random.default_rng(seed)
    deviations = np.exp(-np.arange(dimensions) / (dimensions * 170 / 384))
    count = n // 10 + 1
    centres = rng.standard_normal((count, dimensions))
    spread = rng.uniform(0.2, 1.2, count)
    member = rng.integers(count, size=n)
    rows = centres[member] + spread[member, None] * rng.standard_normal((n, dimensions))
    rows *= deviations
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
