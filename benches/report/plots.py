"""The plots of a run, as SVG in bench-results/: on white, so that dark pages show them as well."""

import math
from collections.abc import Iterable, Sequence
from statistics import median

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benches import record
from benches.report.results import ENOUGH, Line, Point, Results, chosen, spark_join

# lshjoin in one colour, a family of peers in another each; lines are told apart by their labels.
OURS = "#c8102e"
FAMILIES = {
    "FAISS": "#1f5a8a",
    "hnswlib": "#2f7d4f",
    "usearch": "#6a9f58",
    "pynndescent": "#8a5a9e",
    "Spark": "#d98a00",
}
OTHERS = "#7d7d7d"
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "svg.hashsalt": "lshjoin",  # the same plot is the same file
}
SECONDS = "seconds, building included (lower is better)"
MISSED_AT_LEAST = 0.0005  # of the neighbours: where a recall of 1 is drawn


def draw(results: Results) -> None:
    mpl.use("Agg")
    with plt.rc_context(STYLE):
        for name in results.knn:
            save(recall_against_time(results, name), f"{results.name}-{name}")
        if len(results.growing) > 1:
            save(time_against_rows(results), f"{results.name}-rows")
        if results.knn:
            save(memory(results), f"{results.name}-memory")
        if spark_join(results.name):
            save(spark_bars(results.name), f"{results.name}-spark")


def save(figure: Figure, name: str) -> None:
    figure.savefig(record.RESULTS / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def colour(label: str) -> str:
    if label.startswith("lshjoin"):
        return OURS
    return next((of for name, of in FAMILIES.items() if label.startswith(name)), OTHERS)


def recall_against_time(results: Results, workload: str) -> Figure:
    about = results.workloads[workload]
    figure, axes = plt.subplots(figsize=(8.5, 5.2), layout="constrained")
    ends = []
    for label, points in results.of_label(workload).items():
        line = best_so_far([point for point in points if point.seconds is not None])
        if not line:
            continue
        missed = [max(1 - point.recall, MISSED_AT_LEAST) for point in line]
        seconds = [point.seconds for point in line]
        ours = label == "lshjoin"
        axes.plot(
            missed,
            seconds,
            "o-",
            color=colour(label),
            linewidth=2.4 if ours else 1.2,
            markersize=5 if ours else 3.5,
            zorder=3 if ours else 2,
        )
        ends.append((missed[-1], seconds[-1], label))
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="recall@10 (further right is better)",
        ylabel=SECONDS,
        title=title(about),
    )
    axes.set_xlim(min(0.9, axes.get_xlim()[1]), MISSED_AT_LEAST * 0.8)
    recalls = [0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1]
    axes.set_xticks([max(1 - r, MISSED_AT_LEAST) for r in recalls], [f"{r:g}" for r in recalls])
    axes.xaxis.set_minor_locator(NullLocator())
    plain_seconds(axes)
    side_labels(axes, ends)
    return figure


def title(about: Line) -> str:
    return f"{about['title']}, {about['data']}".replace(", self-join", "").replace(" float32", "")


def best_so_far(points: Iterable[Point]) -> list[Point]:
    """The points that no other of the same system beats in both, by recall."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: point.seconds):
        if not best or point.recall > best[-1].recall:
            best.append(point)
    return best


def side_labels(axes: Axes, ends: Sequence[tuple[float, float, str]]) -> None:
    """A label for each line in a column on the right, in the order of the lines' ends."""
    if not ends:
        return
    low, high = (math.log(limit) for limit in axes.get_ylim())
    step = (high - low) / 22
    ends = sorted(ends, key=lambda end: end[1])
    places = [math.log(y) for _, y, _ in ends]
    # Apart from below to above, then what stands out at the top is pushed down again.
    for at in range(1, len(places)):
        places[at] = max(places[at], places[at - 1] + step)
    for at in reversed(range(len(places))):
        above = places[at + 1] if at + 1 < len(places) else high + step
        places[at] = min(places[at], above - step)
    for (x, y, label), place in zip(ends, places, strict=True):
        axes.annotate(
            label,
            (x, y),
            xytext=(1.02, (place - low) / (high - low)),
            textcoords="axes fraction",
            color=colour(label),
            fontweight="bold" if label == "lshjoin" else "normal",
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour(label), "lw": 0.4, "alpha": 0.5},
        )


def plain_seconds(axes: Axes) -> None:
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda seconds, _: f"{seconds:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def time_against_rows(results: Results) -> Figure:
    """Self-joins of the same kind of rows, the fastest setting with enough recall."""
    named = results.growing
    lines: dict[str, list[tuple[int, float]]] = {}
    for name in named:
        for label, points in results.of_label(name).items():
            best = chosen(points)
            if best.seconds is not None and best.recall >= ENOUGH:
                rows = results.workloads[name]["rows"]
                lines.setdefault(label, []).append((rows, best.seconds))
    figure, axes = plt.subplots(figsize=(8.5, 4.6), layout="constrained")
    ends = []
    for label, points in lines.items():
        if len(points) == 1:
            continue
        axes.plot(
            *zip(*points, strict=True),
            "o-",
            color=colour(label),
            linewidth=2.4 if label == "lshjoin" else 1.2,
            markersize=4,
        )
        ends.append((*points[-1], label))
    axes.set(xscale="log", yscale="log", xlabel="rows", ylabel=SECONDS)
    rows = [results.workloads[name]["rows"] for name in named]
    axes.set_xticks(rows, [f"{count:,}" for count in rows])
    axes.xaxis.set_minor_locator(NullLocator())
    plain_seconds(axes)
    side_labels(axes, ends)
    axes.set_title(f"Self-join of sentence embeddings, recall {ENOUGH:.0%} or more")
    return figure


def memory(results: Results) -> Figure:
    """The peak of each system in the largest k-NN join that most of them took part in."""
    name = max(
        results.knn,
        key=lambda name: (len(results.of_label(name)), results.workloads[name]["rows"]),
    )
    about = results.workloads[name]
    points = [chosen(points) for points in results.of_label(name).values()]
    points = sorted((one for one in points if one.seconds is not None), key=lambda x: -x.peak_bytes)
    figure, axes = plt.subplots(figsize=(8.5, 0.26 * len(points) + 1.2), layout="constrained")
    bars = axes.barh(
        [one.label for one in points],
        [one.peak_bytes / 1e6 for one in points],
        color=[colour(one.label) for one in points],
    )
    axes.bar_label(bars, [f"{one.peak_bytes / 1e6:,.0f}" for one in points], padding=3)
    axes.axvline(about["item_bytes"] / 1e6, color="black", linewidth=0.8, linestyle=":")
    axes.annotate(
        " the rows themselves",
        (about["item_bytes"] / 1e6, 1),
        xycoords=("data", "axes fraction"),
        va="bottom",
        fontsize=8,
    )
    axes.grid(visible=False, axis="y")
    axes.set(xlabel=f"MB; {title(about)}")
    axes.set_title("Peak memory of the process", pad=16)
    return figure


def spark_bars(run: str) -> Figure:
    sizes = spark_join(run)["sizes"]
    figure, axes = plt.subplots(figsize=(8.5, 0.75 * len(sizes) + 1.3), layout="constrained")
    for at, size in enumerate(sizes):
        theirs = min(size["spark_seconds_by_shuffle_partitions"].values())
        ours = median(size["lshjoin_seconds"])
        for offset, seconds, name in ((-0.18, theirs, "Spark"), (0.18, ours, "lshjoin")):
            said = f"{seconds:.3g} s"
            if name == "lshjoin":
                said += f": {size['ratio']:.0f} times as fast"
            axes.barh(at + offset, seconds, 0.34, color=colour(name))
            axes.annotate(
                f"{name}, {said}",
                (seconds, at + offset),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                color=colour(name),
            )
    axes.set(xscale="log", xlabel="seconds")
    axes.set_yticks(range(len(sizes)), [f"{size['rows']:,} rows" for size in sizes])
    axes.set_xlim(right=max(axes.get_xlim()[1], 1) * 6)
    axes.xaxis.set_major_formatter(lambda seconds, _: f"{seconds:g}")
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_title("approxSimilarityJoin of a frame with itself, the same pairs out")
    return figure
