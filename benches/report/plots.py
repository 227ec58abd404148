"""The plots of a run, as SVG in bench-results/: on white, so that dark pages show them as well.

Narrow, so that a phone shows them at nearly their size. Peers are grouped by how they work, with a
colour and a mark each (Okabe and Ito's colours, which colour-blind people tell apart). In each
group the fastest is bold and named; the others, which the tables name, are faint.
"""

import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benches import record
from benches.report.results import AGAIN, ENOUGH, Line, Point, Results, chosen, spark_join


@dataclass(frozen=True)
class Group:
    """Systems that work alike, by a pattern of their labels."""

    name: str
    labels: str
    colour: str
    mark: str


OURS = Group("lshjoin", "lshjoin", "#D55E00", "o")
GROUPS = (
    OURS,
    Group("Spark", "Spark", "#E69F00", "P"),
    Group("k-NN graphs", "PiPNN|pynndescent|deglib", "#56B4E9", "D"),
    Group("search graphs", "hnswlib|usearch|glass|.*HNSW|DiskANN|SVS", "#0072B2", "^"),
    Group("hashing, trees", ".*LSH|annoy|FALCONN|NearPy|ann-search-rs|SemHash", "#CC79A7", "v"),
    Group("inverted lists", "FAISS (IVF|big_batch)", "#009E73", "s"),
    Group("all pairs", "", "#555555", "x"),
)
DARK = "#222222"  # of words
WIDTH = 4.6  # inches
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "svg.hashsalt": "lshjoin",  # the same plot is the same file
}
SECONDS = "seconds, building included (lower is better)"
MISSED_AT_LEAST = 0.001  # of the neighbours: where a recall of 1 is drawn


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


def draw_growth(result: dict[str, Any], name: str) -> None:
    """That of bench-results/growth.json."""
    mpl.use("Agg")
    with plt.rc_context(STYLE):
        lines = {
            label: [(size["rows"], size["seconds"]) for size in one["sizes"]]
            for label, one in result["systems"].items()
        }
        text = f"Self-joins of {result['data'].partition(',')[0]}, recall ≥ {result['recall']:.0%}"
        save(against_rows(lines, text, SECONDS), name)


def save(figure: Figure, name: str) -> None:
    figure.savefig(record.RESULTS / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def group(label: str) -> Group:
    return next(one for one in GROUPS if re.match(one.labels, label))


def titled(figure: Figure, axes: Axes, text: str, about: str = "", letters: int = 60) -> None:
    """The title, bold, and what it is about above the axes, so many letters a line."""
    figure.suptitle(textwrap.fill(text, 50), x=0.02, ha="left", fontsize=10.5, fontweight="bold")
    axes.set_title(textwrap.fill(about, letters), loc="left", fontsize=8.5, fontweight="normal")


def title(about: Line) -> tuple[str, str]:
    data = about["data"].replace(", self-join", "").replace(" float32", "")
    return about["title"], data


def recall_against_time(results: Results, workload: str) -> Figure:
    about = results.workloads[workload]
    figure, axes = plt.subplots(figsize=(WIDTH, 5), layout="constrained")
    lines = {}
    for label, points in results.of_label(workload).items():
        line = best_so_far([point for point in points if point.seconds is not None])
        if line and label != AGAIN:
            lines[label] = line
    ends, bold = [], fastest(lines)
    for label, line in lines.items():
        missed = [max(1 - point.recall, MISSED_AT_LEAST) for point in line]
        seconds = [point.seconds for point in line]
        draw_line(axes, missed, seconds, label, label in bold)
        if label in bold:
            ends.append((missed[-1], seconds[-1], label))
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=f"recall@{about.get('k', 10)} (right is better)",
        ylabel=SECONDS,
    )
    axes.set_xlim(min(0.45, axes.get_xlim()[1]), MISSED_AT_LEAST * 0.8)
    recalls = [0.6, 0.8, 0.9, 0.95, 0.99, 1]
    axes.set_xticks([max(1 - r, MISSED_AT_LEAST) for r in recalls], [f"{r:g}" for r in recalls])
    axes.xaxis.set_minor_locator(NullLocator())
    plain_seconds(axes)
    side_labels(axes, ends)
    titled(figure, axes, *title(about))
    return figure


def fastest(lines: dict[str, list[Point]]) -> set[str]:
    """Of each group the system that the tables would have first."""
    best: dict[str, str] = {}
    for label, points in lines.items():
        kind = group(label).name
        if kind not in best or before(chosen(points), chosen(lines[best[kind]])):
            best[kind] = label
    return set(best.values())


def before(one: Point, other: Point) -> bool:
    return (one.recall < ENOUGH, one.seconds) < (other.recall < ENOUGH, other.seconds)


def draw_line(axes: Axes, x: Sequence[float], y: Sequence[float], label: str, bold: bool) -> None:
    kind = group(label)
    axes.plot(
        x,
        y,
        kind.mark + "-",
        color=kind.colour,
        linewidth=2.6 if kind is OURS else 1.7 if bold else 0.7,
        markersize=5 if bold else 3,
        alpha=1 if bold else 0.45,
        zorder=4 if kind is OURS else 3 if bold else 2,
    )


def named(label: str) -> str:
    """Two lines: what it is, and of which group it is the fastest."""
    short = label.replace(" fast-scan, refined", "").replace(" big_batch_search", " big batch")
    kind = group(label)
    return short if kind is OURS or kind.name in short else f"{short}\n({kind.name})"


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
    step = (high - low) / 11
    ends = sorted(ends, key=lambda end: end[1])
    places = [math.log(y) for _, y, _ in ends]
    # Apart from below to above, then what stands out at the top is pushed down again.
    for at in range(1, len(places)):
        places[at] = max(places[at], places[at - 1] + step)
    for at in reversed(range(len(places))):
        above = places[at + 1] if at + 1 < len(places) else high + step
        places[at] = min(places[at], above - step)
    for (x, y, label), place in zip(ends, places, strict=True):
        kind = group(label)
        axes.annotate(
            named(label),
            (x, y),
            xytext=(1.03, (place - low) / (high - low)),
            textcoords="axes fraction",
            color=kind.colour if kind is OURS else DARK,
            fontsize=8.5,
            fontweight="bold" if kind is OURS else "normal",
            linespacing=1.05,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": kind.colour, "lw": 0.5, "alpha": 0.6},
        )


def plain_seconds(axes: Axes) -> None:
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda seconds, _: f"{seconds:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def time_against_rows(results: Results) -> Figure:
    """Self-joins of the same kind of rows, the fastest setting with enough recall."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for name in results.growing:
        for label, points in results.of_label(name).items():
            best = chosen(points)
            if label != AGAIN and best.seconds is not None and best.recall >= ENOUGH:
                rows = results.workloads[name]["rows"]
                lines.setdefault(label, []).append((rows, best.seconds))
    return against_rows(lines, f"Self-joins of sentence embeddings, recall ≥ {ENOUGH:.0%}", SECONDS)


def against_rows(lines: dict[str, list[tuple[int, float]]], text: str, what: str) -> Figure:
    """Lines over the number of rows; of each group the one that is lowest at the end is named."""
    lines = {label: points for label, points in lines.items() if len(points) > 1}
    figure, axes = plt.subplots(figsize=(WIDTH, 4.4), layout="constrained")
    lowest: dict[str, str] = {}
    for label in sorted(lines, key=lambda label: (-lines[label][-1][0], lines[label][-1][1])):
        lowest.setdefault(group(label).name, label)
    ends = []
    for label, points in lines.items():
        bold = label in lowest.values()
        draw_line(axes, *zip(*points, strict=True), label, bold)
        if bold:
            ends.append((*points[-1], label))
    axes.set(xscale="log", yscale="log", xlabel="rows", ylabel=what)
    counts = sorted({rows for points in lines.values() for rows, _ in points})
    axes.set_xticks(counts, [brief(count) for count in counts])
    axes.xaxis.set_minor_locator(NullLocator())
    plain_seconds(axes)
    side_labels(axes, ends)
    titled(figure, axes, text)
    return figure


def brief(count: int) -> str:
    return f"{count / 1e6:g}M" if count >= 1e6 else f"{count / 1e3:g}k"


def memory(results: Results) -> Figure:
    """The peak of each system in the largest k-NN join that most of them took part in."""
    name = max(
        results.knn,
        key=lambda name: (len(results.of_label(name)), results.workloads[name]["rows"]),
    )
    about, labels = results.workloads[name], results.of_label(name)
    points = [chosen(points) for label, points in labels.items() if label != AGAIN]
    points = sorted((one for one in points if one.seconds is not None), key=lambda x: -x.peak_bytes)
    figure, axes = plt.subplots(figsize=(WIDTH, 0.24 * len(points) + 1.4), layout="constrained")
    names = [one.label.replace(" fast-scan, refined", "") for one in points]
    bars = axes.barh(
        names,
        [one.peak_bytes / 1e6 for one in points],
        color=[group(one.label).colour for one in points],
    )
    axes.bar_label(bars, [f"{one.peak_bytes / 1e6:,.0f}" for one in points], padding=3, fontsize=8)
    axes.tick_params(axis="y", labelsize=8.5)
    axes.margins(x=0.16)
    axes.axvline(about["item_bytes"] / 1e6, color="black", linewidth=0.8, linestyle=":")
    axes.annotate(
        " the rows themselves",
        (about["item_bytes"] / 1e6, 0),
        xycoords=("data", "axes fraction"),
        va="bottom",
        fontsize=8,
    )
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="MB")
    titled(figure, axes, "Peak memory of the process", ", ".join(title(about)), letters=44)
    return figure


def spark_bars(run: str) -> Figure:
    sizes = spark_join(run)["sizes"]
    figure, axes = plt.subplots(figsize=(WIDTH, 0.75 * len(sizes) + 1.3), layout="constrained")
    for at, size in enumerate(sizes):
        theirs = min(size["spark_seconds_by_shuffle_partitions"].values())
        ours = median(size["lshjoin_seconds"])
        for offset, seconds, name in ((-0.18, theirs, "Spark"), (0.18, ours, "lshjoin")):
            said = f"{seconds:.3g} s"
            if name == "lshjoin":
                said += f": {size['ratio']:.0f} times as fast"
            axes.barh(at + offset, seconds, 0.34, color=group(name).colour)
            axes.annotate(
                f"{name}, {said}",
                (seconds, at + offset),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                color=DARK,
            )
    axes.set(xscale="log", xlabel="seconds")
    axes.set_yticks(range(len(sizes)), [f"{brief(size['rows'])} rows" for size in sizes])
    axes.set_xlim(right=max(axes.get_xlim()[1], 1) * 40)
    axes.xaxis.set_major_formatter(lambda seconds, _: f"{seconds:g}")
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    titled(figure, axes, "approxSimilarityJoin of a frame with itself, the same pairs out")
    return figure
