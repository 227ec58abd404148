"""Vectors to measure on: real sentence embeddings where they are at hand, made ones elsewhere."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# 117,659 glosses of WordNet embedded by all-MiniLM-L6-v2; lies beside the repository, not in it.
REAL = Path(__file__).resolve().parents[2] / "shared/data/wordnet-minilm-117659x384-f16.npy"


def embeddings(n: int, seed: int) -> tuple[str, NDArray[np.float32]]:
    """What they are, and n unit vectors of 384 dimensions."""
    rng = np.random.default_rng(seed)
    if REAL.exists():
        rows = np.load(REAL, mmap_mode="r")
        chosen = np.sort(rng.choice(len(rows), n, replace=False))
        return "WordNet glosses, all-MiniLM-L6-v2", rows[chosen].astype(np.float32)
    # Ten rows a cluster, some clusters tight and some loose, so that a join finds pairs at any
    # threshold: independent Gaussians would all lie at distance sqrt(2). Variance falls as in the
    # real ones: half of it lies in 64 axes, three quarters in 128.
    deviations = np.exp(-np.arange(384) / 170)
    clusters = n // 10 + 1
    centres = rng.standard_normal((clusters, 384))
    spread = rng.uniform(0.2, 1.2, clusters)
    member = rng.integers(clusters, size=n)
    rows = centres[member] + spread[member, None] * rng.standard_normal((n, 384))
    rows *= deviations
    return "generated clusters", (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(
        np.float32
    )
