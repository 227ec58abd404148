"""Pictures of what a join found."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lshjoin.base.places import Place
from lshjoin.files.results import Layout, read_pairs

_BINS = 60


def plot_pairs(pairs: Place, layout: Layout, path: Path, queries: int) -> None:
    """Histograms of the distances, and of the neighbours found by each of so many queries.

    Args:
        pairs: a join's result, which is read twice, a piece at a time.
        layout: of that.
        path: of a .png or .svg file.
        queries: how many there were: those that found none are in no pair.
    """
    import pyarrow as pa
    from matplotlib.figure import Figure

    ends = [
        (piece.min(), piece.max()) for *_, piece in read_pairs(pairs, layout) if len(piece)
    ] or [(0.0, 1.0)]
    lowest, highest = min(low for low, _ in ends), max(high for _, high in ends)
    edges = np.linspace(lowest, highest if highest > lowest else lowest + 1.0, _BINS + 1)
    distances = np.zeros(_BINS, np.int64)
    found: list[pa.Table] = []
    for of_queries, counts, piece in read_pairs(pairs, layout):
        distances += np.histogram(piece, edges)[0]
        if len(counts):
            found.append(pa.table({"query": of_queries, "count": counts}))
            sums = pa.concat_tables(found).group_by("query").aggregate([("count", "sum")])
            found = [sums.select(["query", "count_sum"]).rename_columns(["query", "count"])]
    neighbors = found[0]["count"].to_numpy() if found else np.empty(0, np.int64)
    neighbors = np.concatenate([neighbors, np.zeros(max(queries - len(neighbors), 0), np.int64)])

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.stairs(distances, edges, fill=True)
    left.set(xlabel="distance", ylabel="pairs", title=f"{distances.sum():,} pairs")
    most = int(neighbors.max(initial=0))
    right.hist(neighbors, bins=np.arange(most + 2) - 0.5 if most <= _BINS else _BINS)
    right.set(xlabel="neighbours found", ylabel="queries", title=f"{queries:,} queries")
    figure.savefig(path, dpi=150)
