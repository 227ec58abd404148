"""Rows to join, with their exact neighbours and statistics, kept in files between runs."""

import tempfile
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches.data.rows import Indices, Rows, unit
from benches.data.truth import Truth

K = 10
CACHE = Path(tempfile.gettempdir()) / "lshjoin-bench"


class Data:
    """Rows in files for the processes that are measured, and their exact neighbours."""

    def __init__(
        self,
        name: str,
        items: Rows,
        queries: Rows | None = None,
        metric: str = "euclidean",
        *,
        k: int = K,
        keys: Indices | None = None,  # of items: only those of one key are neighbours
    ):
        self.name, self.items, self.queries, self.metric = name, items, queries, metric
        self.k, self.keys = k, keys
        self.items_file = _saved(items)
        self.queries_file = None if queries is None else _saved(queries)
        self.keys_file = None if keys is None else _saved(keys)

    def __str__(self) -> str:
        asked = "self-join" if self.queries is None else f"{len(self.queries):,} queries"
        rows, dimensions = self.items.shape
        if self.keys is not None:
            asked += f" within {len(np.unique(self.keys)):,} groups"
        metric = "" if self.metric == "euclidean" else f", {self.metric}"
        return f"{self.name}, {rows:,} x {dimensions} {self.items.dtype}, {asked}{metric}"

    @cached_property
    def truth(self) -> Truth:
        paths = (self.items_file, self.queries_file, self.keys_file)
        sides = "-".join(path.stem for path in paths if path)
        kept = CACHE / f"{sides}.{self.metric}{self.k}.npz"
        if not kept.exists():
            np.savez(kept, **vars(Truth.of(*self._measured, self.k, seed=0, keys=self.keys)))
        return Truth(**np.load(kept))

    def recall(self, found: Indices) -> float:
        return self.truth.recall(*self._measured, found)

    @cached_property
    def _measured(self) -> tuple[Rows, Rows | None]:
        """Rows whose Euclidean distances are in the order of the metric's."""
        if self.metric == "euclidean":
            return self.items, self.queries
        return unit(self.items), None if self.queries is None else unit(self.queries)

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """How hard the rows are: the spectrum, the contrast and the intrinsic dimension."""
        items, queries = self._measured
        rng = np.random.default_rng(0)
        some = items[rng.choice(len(items), min(len(items), 20_000), replace=False)]
        variances = np.linalg.eigvalsh(np.cov(some, rowvar=False))[::-1]
        shares = np.cumsum(variances) / variances.sum()
        near = self.truth.distances
        asked = (items if queries is None else queries)[self.truth.sample]
        others = items[rng.integers(len(items), size=len(asked))]
        random_pair = np.linalg.norm(asked.astype(float) - others, axis=1).mean()
        return {
            "variance_of_leading_axes": {
                axes: float(shares[axes - 1]) for axes in (16, 64, 128) if axes < len(shares)
            },
            "contrast": float(random_pair / near[:, -1].mean()),
            "intrinsic_dimension": intrinsic_dimension(near),
        }


def intrinsic_dimension(distances: NDArray[np.float64]) -> float:
    """The maximum-likelihood estimate of Levina and Bickel (2004), averaged as MacKay and
    Ghahramani have it, from the sorted distances to the nearest neighbours of each row."""
    last = distances[:, -1:]
    with np.errstate(divide="ignore"):
        logs = np.log(last / distances[:, :-1])
    return float(1 / logs[np.isfinite(logs)].mean())


def _saved(rows: NDArray[Any]) -> Path:
    CACHE.mkdir(exist_ok=True)
    path = CACHE / f"{blake2b(rows, digest_size=16).hexdigest()}.npy"
    if not path.exists():
        np.save(path, rows)
    return path
