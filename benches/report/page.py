"""The page of a run, bench-results/NAME.md, and that of two, bench-results/NAME-repeated.md."""

from collections.abc import Iterator

from benches import record
from benches.report.results import Line, Results, chosen, spark_join
from benches.report.tables import TABLES, noise_lines, spark_table, statistics

REPEATED_WITHIN = 0.15
SHORT = 1.0  # seconds: below, what else the machine does counts too much


def page(results: Results) -> str:
    """bench-results/NAME.md."""
    lines = [
        "# lshjoin beside similar systems",
        "",
        "Everything from arrays in memory to the answer, each system in a process of its own, in "
        "turns; medians where there are several rounds. Recall is by exact search for 3,000 rows. "
        "A self-join leaves a row itself out; systems that return it are asked for one more.",
        "",
        about_line(results.about),
        "",
    ]
    failures = results.about["not_installed"]
    lines += [f"Not installed: {name}: {why}" for name, why in failures.items()]
    for name, about in results.workloads.items():
        points = results.points(name)
        if not points:
            continue
        lines += [
            "",
            f"## {name}: {about['title']}",
            "",
            f"{about['data']}; {statistics(about)}.",
            "",
            *TABLES[about["task"]](points, about),
            *noise_lines(results, name),
        ]
        if name in results.knn:
            lines += ["", f"![Recall against time]({results.name}-{name}.svg)"]
    if joined := spark_join(results.name):
        lines += ["", "## Spark's approxSimilarityJoin", "", *spark_table(joined)]
        lines += ["", f"![Spark's join and ours]({results.name}-spark.svg)"]
    if len(results.growing) > 1:
        lines += ["", f"![Time against rows]({results.name}-rows.svg)"]
    if results.knn:
        lines += ["", f"![Memory]({results.name}-memory.svg)"]
    return "\n".join([*lines, ""])


def about_line(about: Line) -> str:
    where = record.circumstances(about).removesuffix(".")
    return f"{where}; load {about['load']:.1f} at the start, {about['started']}."


def ratios(results: Results) -> Iterator[tuple[str, str, float, float]]:
    """Workload, setting, how many times as long as lshjoin's fastest of enough recall, seconds."""
    for workload in results.knn:
        points = [one for one in results.points(workload) if one.seconds is not None]
        ours = chosen([one for one in points if one.label == "lshjoin"]).seconds
        for one in points:
            yield workload, f"{one.label}, {one.settings}", one.seconds / ours, one.seconds
    for size in spark_join(results.name).get("sizes", []):
        seconds = min(size["spark_seconds_by_shuffle_partitions"].values())
        yield "approxSimilarityJoin", f"Spark, {size['rows']:,} rows", size["ratio"], seconds


def repeated(first: Results, second: Results) -> str:
    before = {(workload, of): ratio for workload, of, ratio, _ in ratios(first)}
    after = {(workload, of): ratio for workload, of, ratio, _ in ratios(second)}
    long = {(workload, of) for workload, of, _, seconds in ratios(first) if seconds >= SHORT}
    changes = {of: after[of] / before[of] for of in before if of in after}
    within = {of for of, change in changes.items() if abs(change - 1) <= REPEATED_WITHIN}
    lines = [
        "# Two runs on one machine",
        "",
        f"How many times as long as lshjoin each took, in {first.name} and in {second.name}: "
        f"{len(within)} of {len(changes)} within {REPEATED_WITHIN:.0%} of the first; of those that "
        f"took {SHORT:g} s or more, {len(within & long)} of {len(long & set(changes))}.",
        "",
        about_line(first.about),
        about_line(second.about),
        "",
        "| workload | system | first | second | change |",
        "|---|---|---:|---:|---:|",
    ]
    for (workload, of), change in changes.items():
        beyond = " !" if abs(change - 1) > REPEATED_WITHIN else ""
        lines.append(
            f"| {workload} | {of} | {before[workload, of]:.2f} | {after[workload, of]:.2f} "
            f"| {change - 1:+.0%}{beyond} |"
        )
    return "\n".join([*lines, ""])
