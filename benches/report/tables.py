"""Tables of a run, in Markdown."""

from collections.abc import Callable
from statistics import median
from typing import Any

from benches.report.results import ENOUGH, Line, Point, Results, compared


def main_table(results: Results, workload: str) -> list[str]:
    points, noise = compared(results, workload), results.noise(workload) or 0
    k = results.workloads[workload].get("k", 10)
    ours = next(one.seconds for one in points if one.label == "lshjoin")
    lines = [
        f"| | build, s | query, s | total, s | recall@{k} | peak, MB | × lshjoin |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for one in points:
        if one.seconds is None:
            lines.append(f"| {one.label} | | | {one.failed} | | | |")
            continue
        short = "" if one.recall >= ENOUGH else " (its most)"
        name = "**lshjoin**" if one.label == "lshjoin" else one.label
        ratio = one.seconds / ours
        even = " (even)" if one.label != "lshjoin" and max(ratio, 1 / ratio) <= 1 + noise else ""
        lines.append(
            f"| {name} | {one.build_seconds:.1f} | {one.search_seconds:.1f} | {one.seconds:.1f} "
            f"| {one.recall:.3f}{short} | {one.peak_bytes / 1e6:,.0f} | {ratio:.1f}{even} |"
        )
    return [*lines, *noise_lines(results, workload)]


def noise_lines(results: Results, workload: str) -> list[str]:
    """What the control says: a difference within it is none."""
    noise = results.noise(workload)
    if noise is None:
        return []
    return [
        "",
        f"lshjoin measured a second time, after all others: {noise:.0%} apart at most. A ratio "
        "within that is neither a win nor a loss.",
    ]


def statistics(about: Line) -> str:
    known = about["statistics"]
    shares = ", ".join(
        f"{share:.0%} of the variance in {axes} axes"
        for axes, share in known["variance_of_leading_axes"].items()
    )
    return (
        f"{shares}; contrast {known['contrast']:.2f} (a random pair to the last of "
        f"{about.get('k', 10)} neighbours), intrinsic dimension {known['intrinsic_dimension']:.1f}"
    )


def knn_table(points: list[Point], about: Line) -> list[str]:
    lines = [
        f"| system | settings | build, s | query, s | total, s | recall@{about.get('k', 10)} "
        "| peak, MB |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for one in points:
        timed = (
            f"{one.build_seconds:.2f} | {one.search_seconds:.2f} | {one.seconds:.2f} "
            f"| {one.recall:.4f} | {one.peak_bytes / 1e6:,.0f}"
            if one.seconds is not None
            else f"| | {one.failed} | |"
        )
        lines.append(f"| {one.label} | {one.settings} | {timed} |")
    return lines


def radius_table(points: list[Point], about: Line) -> list[str]:
    exact = max(one.line.get("pairs", 0) for one in points)
    lines = [
        f"Pairs nearer than {about['radius']}, each once.",
        "",
        "| system | settings | total, s | pairs | share of all | peak, MB |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for one in points:
        timed = one.failed + " | | |"
        if one.seconds is not None:
            pairs = one.line["pairs"]
            timed = f"{one.seconds:.2f} | {pairs:,} | {pairs / max(exact, 1):.3f} | "
            timed += f"{one.peak_bytes / 1e6:,.0f}"
        lines.append(f"| {one.label} | {one.settings} | {timed} |")
    return lines


def dedup_table(points: list[Point], about: Line) -> list[str]:
    lines = [
        f"Cosine similarity of {about['radius']} or more.",
        "",
        "| system | settings | total, s | rows kept | peak, MB |",
        "|---|---|---:|---:|---:|",
    ]
    for one in points:
        timed = one.failed + " | |"
        if one.seconds is not None:
            timed = f"{one.seconds:.2f} | {one.line['kept']:,} | {one.peak_bytes / 1e6:,.0f}"
        lines.append(f"| {one.label} | {one.settings} | {timed} |")
    return lines


def hash_table(points: list[Point], about: Line) -> list[str]:
    lines = ["| system | settings | s | rows a second |", "|---|---|---:|---:|"]
    for one in points:
        timed = one.failed + " |"
        if one.seconds is not None:
            timed = f"{one.search_seconds:.3f} | {about['rows'] / one.search_seconds:,.0f}"
        lines.append(f"| {one.label} | {one.settings} | {timed} |")
    return lines


def single_table(points: list[Point], about: Line) -> list[str]:
    lines = [
        "| system | settings | build, s | one query, ms | kept beside the rows, MB |",
        "|---|---|---:|---:|---:|",
    ]
    for one in points:
        timed = f"| {one.failed} |"
        if one.seconds is not None:
            rest = one.line.get("rest_bytes")
            timed = f"{one.build_seconds:.1f} | {one.search_seconds * 1e3:.2f} | "
            timed += f"{rest / 1e6:,.0f}" if rest is not None else ""
        lines.append(f"| {one.label} | {one.settings} | {timed} |")
    return lines


TABLES: dict[str, Callable[[list[Point], Line], list[str]]] = {
    "knn": knn_table,
    "within": knn_table,
    "dedup": dedup_table,
    "radius": radius_table,
    "hash": hash_table,
    "single": single_table,
}


def spark_table(result: dict[str, Any]) -> list[str]:
    """How much longer Spark's join takes than ours, by the number of rows."""
    lines = [
        "| rows | pairs found | Spark, 200 partitions, s | Spark, 8 partitions, s | lshjoin, s "
        "| times as fast |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for size in result["sizes"]:
        theirs = size["spark_seconds_by_shuffle_partitions"]
        shown = (f"{theirs[n]:.1f}" if n in theirs else "not run" for n in ("200", "8"))
        lines.append(
            f"| {size['rows']:,} | {size['agreement']['pairs']:,} | {' | '.join(shown)} "
            f"| {median(size['lshjoin_seconds']):.3f} | {size['ratio']:.0f} |"
        )
    return lines
