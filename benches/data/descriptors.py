"""Rows like local image descriptors (SIFT): 128 integers of 0 to 255, a third of them zero."""

from collections.abc import Iterator

import numpy as np

from benches.data.rows import Rows

DIMENSIONS = 128
# Clusters within clusters, and how far each strays from the centre that it belongs to. Their number
# does not depend on that of the rows: fewer rows are a sample of more.
LEVELS = ((64, 0.8), (4_096, 0.7), (65_536, 0.6))
SPREAD = 0.35, 0.95  # of rows about theirs, from the tightest cluster to the loosest
LEVEL, SCALE = 22, 40  # of a value, before what is below 0 is cut off


def descriptors(n: int, seed: int) -> Rows:
    return next(descriptor_batches(n, seed, batch=n))


def descriptor_batches(
    n: int, seed: int, batch: int, dimensions: int = DIMENSIONS
) -> Iterator[Rows]:
    """The same, some rows at a time, for more than fit in memory."""
    rng = np.random.default_rng(seed)
    deviations = (1 + np.arange(dimensions, dtype=np.float32)) ** np.float32(-0.4)
    deviations *= np.sqrt(dimensions / (deviations**2).sum())
    axes = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))[0].astype(np.float32)
    basis = SCALE * deviations[:, None] * axes

    centres = np.zeros((1, dimensions), np.float32)
    for clusters, distance in LEVELS:
        parents = centres[rng.integers(len(centres), size=clusters)]
        centres = parents + distance * rng.standard_normal(parents.shape, np.float32)
    spreads = np.exp(rng.uniform(*np.log(SPREAD), len(centres))).astype(np.float32)

    for start in range(0, n, batch):
        member = rng.integers(len(centres), size=min(batch, n - start))
        rows = rng.standard_normal((len(member), dimensions), np.float32)
        rows *= spreads[member, None]
        rows += centres[member]
        rows = rows @ basis
        rows += LEVEL
        yield np.clip(np.rint(rows, out=rows), 0, 255, out=rows)
