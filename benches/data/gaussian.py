"""Made rows that planning finds easy or hard: clusters, none, copies, and a few huge norms."""

from collections.abc import Callable

import numpy as np

from benches.data.rows import Rows


def clusters(dimensions: int) -> Callable[[int, int], Rows]:
    """Gaussian ones around Gaussian centres, some tight and some loose."""

    def make(rows: int, seed: int) -> Rows:
        rng = np.random.default_rng(seed)
        centres = rng.standard_normal((300, dimensions), np.float32)
        spread = rng.uniform(0.2, 0.8, 300).astype(np.float32)
        member = rng.integers(300, size=rows)
        noise = rng.standard_normal((rows, dimensions), np.float32)
        return centres[member] + spread[member, None] * noise

    return make


def sphere(rows: int, seed: int) -> Rows:
    values = np.random.default_rng(seed).standard_normal((rows, 128), np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def duplicates(rows: int, seed: int) -> Rows:
    """A tenth of the rows are copies of others."""
    values = clusters(64)(rows, seed)
    values[-(rows // 10) :] = values[: rows // 10]
    return np.random.default_rng(seed).permutation(values)


def huge(rows: int, seed: int) -> Rows:
    values = clusters(64)(rows, seed)
    values[np.random.default_rng(seed).choice(rows, 10, replace=False)] *= 1e5
    return values
