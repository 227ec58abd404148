"""Pictures of what a join found."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lshjoin.base.places import Place, readable

_BINS = 60


def plot_pairs(pairs: Place, path: Path, queries: int) -> None:
    """Histograms of the distances, and of the neighbours found by each of so many queries.

    Args:
        pairs: a Parquet file of a join's pairs; read a row group at a time.
        path: of a .png or .svg file.
        queries: how many there were: those that found none are in no pair.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    from matplotlib.figure import Figure

    file = pq.ParquetFile(readable(pairs))
    column = file.schema_arrow.get_field_index("distance")
    groups = range(file.num_row_groups)
    ends = [file.metadata.row_group(group).column(column).statistics for group in groups]
    lowest = min((end.min for end in ends), default=0.0)
    highest = max((end.max for end in ends), default=1.0)
    edges = np.linspace(lowest, highest if highest > lowest else lowest + 1.0, _BINS + 1)
    distances = np.zeros(_BINS, np.int64)
    found = pa.table(
        {"query": pa.array([], file.schema_arrow.field("query").type), "count_sum": []}
    )
    found = found.set_column(1, "count_sum", found["count_sum"].cast(pa.int64()))
    for group in groups:
        table = file.read_row_group(group, columns=["query", "distance"])
        distances += np.histogram(table["distance"].to_numpy(), edges)[0]
        counts = pc.value_counts(table["query"])
        counts = pa.table({"query": counts.field("values"), "count": counts.field("counts")})
        both = pa.concat_tables([counts, found.rename_columns(["query", "count"])])
        found = both.group_by("query").aggregate([("count", "sum")])
    neighbors = found["count_sum"].to_numpy()
    neighbors = np.concatenate([neighbors, np.zeros(max(queries - len(neighbors), 0), np.int64)])

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.stairs(distances, edges, fill=True)
    left.set(xlabel="distance", ylabel="pairs", title=f"{distances.sum():,} pairs")
    most = int(neighbors.max(initial=0))
    right.hist(neighbors, bins=np.arange(most + 2) - 0.5 if most <= _BINS else _BINS)
    right.set(xlabel="neighbours found", ylabel="queries", title=f"{queries:,} queries")
    figure.savefig(path, dpi=150)
