"""A picture of what the planner saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex

from numpy.typing import ArrayLike

from lshjoin.arrays.knn import study
from lshjoin.arrays.neighbors import NearestMetric
from lshjoin.arrays.sides import are_bits, sides
from lshjoin.base.checks import to_k
from lshjoin.base.progress import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_plan(
    queries: ArrayLike | None = None,
    items: ArrayLike | None = None,
    k: SupportsIndex = 10,
    *,
    metric: NearestMetric = "euclidean",
    recall: float = 0.95,
    seed: SupportsIndex = 0,
    num_threads: int | None = None,
    progress: Progress = None,
) -> Figure:
    """Draws what :func:`plan_knn_join` chooses from, for the same arguments.

    On the left the recall and the predicted seconds of the settings considered, with the chosen one
    marked; on the right how far sampled queries are from their k-th neighbours and from random
    items. Where all pairs are compared at once there is one setting and there are no distances.

    Needs matplotlib: ``pip install 'lshjoin[plot]'``.

    Returns:
        A matplotlib figure, to show or save, which belongs to no window.

    Raises:
        ImportError: without matplotlib.
        TypeError, ValueError: as :func:`plan_knn_join`.

    Examples:
        >>> import numpy as np
        >>> from lshjoin import plot_plan
        >>> plot_plan(np.eye(100), k=3).savefig("plan.png")
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plot_plan needs matplotlib: pip install 'lshjoin[plot]'") from None
    k = to_k(k)
    if are_bits(metric):
        raise ValueError("of packed bits nothing is predicted, so that there is nothing to draw")
    query_rows, item_rows = sides(queries, items, metric)
    plan, considered = study(
        query_rows,
        item_rows,
        k,
        metric=metric,
        recall=recall,
        seed=seed,
        num_threads=num_threads,
        progress=progress,
    )
    figure = Figure(figsize=(10, 4), layout="constrained")
    cost, distances = figure.subplots(1, 2)

    curves: dict[str, list[tuple[float, float]]] = {}
    for setting in considered["considered"]:
        point = setting["seconds"], setting["recall"]
        curves.setdefault(_name(setting["plan"]), []).append(point)
    for name, points in curves.items():
        seconds, recalls = zip(*sorted(points), strict=True)
        cost.plot(seconds, recalls, marker="o", label=name)
    if plan.predicted is not None:
        chosen = plan.predicted.seconds, plan.predicted.recall.value
        cost.plot(*chosen, "k*", markersize=15, label="chosen")
    cost.axhline(recall, color="grey", linestyle=":", label="asked for")
    cost.set(xlabel="predicted seconds", ylabel="recall")
    cost.legend()

    for name, label in (("near", f"neighbour {k}"), ("random", "a random item")):
        if considered[name]:
            distances.hist(considered[name], bins=50, alpha=0.6, label=label)
    distances.set(xlabel=f"{metric} distance", ylabel="sampled queries")
    if considered["near"]:
        distances.legend()
    return figure


def _name(plan: dict[str, Any]) -> str:
    return "exact" if plan["plan"] == "exact" else f"{plan['lists']:,} lists"
