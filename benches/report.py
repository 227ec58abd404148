"""Tables, plots and the figures of README and docs/, from what bench-results/ holds.

`python report.py NAME` writes bench-results/NAME.md and its plots; for `bench`, the run that is
published, also what stands between `<!-- bench:BLOCK -->` and `<!-- /bench -->` in README.md and
docs/*.md. `--second OTHER` compares the run with a second one: bench-results/NAME-repeated.md.
"""

import argparse
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import record

ROOT = record.RESULTS.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PUBLISHED, MAIN, SINGLE = "bench", "embeddings-100k", "single-30k"
ENOUGH = 0.9  # the recall at which systems are compared in one row each
REPEATED_WITHIN = 0.2
BLOCK = re.compile(r"(<!-- bench:([\w-]+) -->)(.*?)(<!-- /bench -->)", re.DOTALL)
NOT_RUN = "not measured yet: `make bench`"
Line = dict[str, Any]
# By the first of these patterns that its index's factory string has.
FAISS_KINDS = {
    "LSH.*RFlat": "FAISS LSH, reranked",
    "LSH": "FAISS LSH",
    "HNSW": "FAISS HNSW",
    "PQ": "FAISS IVF-PQ fast-scan, refined",
    "IVF": "FAISS IVF-Flat",
    "Flat": "FAISS Flat",
}


@dataclass(frozen=True)
class Cell:
    """One system with one setting: the medians of its rounds."""

    label: str
    settings: str
    line: Line  # of a round; with an error, or the seconds that it took at least
    seconds: float | None = None
    build_seconds: float = 0
    search_seconds: float = 0
    recall: float | None = None
    peak_bytes: int = 0

    @property
    def failed(self) -> str:
        if "error" in self.line:
            return f"failed: {self.line['error']}"
        return f"over {self.line['over_seconds']:.0f} s" if self.seconds is None else ""


class Results:
    """The lines of a run."""

    def __init__(self, name: str):
        lines = record.read_lines(name)
        self.name = name
        self.about = lines[0] if lines else {}
        self.workloads = {line["workload"]: line for line in lines if "statistics" in line}
        self.lines = [line for line in lines if "system" in line]

    @property
    def growing(self) -> list[str]:
        """Workloads on more and more rows of one kind."""
        named = [name for name in self.knn if name.startswith("embeddings-")]
        return sorted(named, key=lambda name: self.workloads[name]["rows"])

    @property
    def knn(self) -> list[str]:
        """Workloads of neighbours of which something was measured."""
        measured = {line["workload"] for line in self.lines}
        return [
            name
            for name, about in self.workloads.items()
            if about["task"] == "knn" and name in measured
        ]

    def cells(self, workload: str) -> list[Cell]:
        grouped: dict[tuple[str, str], list[Line]] = {}
        for line in self.lines:
            if line["workload"] == workload:
                grouped.setdefault((label(line), settings(line)), []).append(line)
        return [cell(*of, lines) for of, lines in grouped.items()]

    def of_label(self, workload: str) -> dict[str, list[Cell]]:
        found: dict[str, list[Cell]] = {}
        for one in self.cells(workload):
            found.setdefault(one.label, []).append(one)
        return found


def label(line: Line) -> str:
    """The system and, where it has several, its kind of index."""
    name, build = line["system"], line["build"]
    if name == "FAISS":
        return next(kind for part, kind in FAISS_KINDS.items() if re.search(part, build["index"]))
    return f"usearch {build['dtype']}" if name == "usearch" else name


def settings(line: Line) -> str:
    given = line["build"] | line["search"]
    return ", ".join(f"{name} {value}" for name, value in given.items() if name != "seed")


def cell(label: str, settings: str, lines: list[Line]) -> Cell:
    done = [line for line in lines if "seconds" in line]
    if not done:
        return Cell(label, settings, lines[0])
    recalls = [line["recall"] for line in done if "recall" in line]
    return Cell(
        label,
        settings,
        done[0],
        *(median(line[f"{of}seconds"] for line in done) for of in ("", "build_", "search_")),
        median(recalls) if recalls else None,
        max(line["peak_bytes"] for line in done),
    )


def chosen(cells: list[Cell], recall: float = ENOUGH) -> Cell:
    """The fastest that reaches the recall; else the one that comes nearest, else what failed."""
    done = [one for one in cells if one.seconds is not None]
    if not done:
        return cells[0]
    enough = [one for one in done if one.recall >= recall]
    return min(enough, key=lambda one: one.seconds) if enough else max(done, key=lambda x: x.recall)


def compared(results: Results, workload: str) -> list[Cell]:
    """A cell a system: those with enough recall by time, the rest, and those without an answer."""
    found = [chosen(cells) for cells in results.of_label(workload).values()]
    return sorted(
        found,
        key=lambda one: (one.seconds is None, (one.recall or 0) < ENOUGH, one.seconds or 0),
    )


# Tables.


def main_table(results: Results, workload: str) -> list[str]:
    cells = compared(results, workload)
    ours = next(one.seconds for one in cells if one.label == "lshjoin")
    lines = [
        "| | build, s | query, s | total, s | recall@10 | peak, MB | × lshjoin |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for one in cells:
        if one.seconds is None:
            lines.append(f"| {one.label} | | | {one.failed} | | | |")
            continue
        short = "" if one.recall >= ENOUGH else " (its most)"
        name = "**lshjoin**" if one.label == "lshjoin" else one.label
        lines.append(
            f"| {name} | {one.build_seconds:.1f} | {one.search_seconds:.1f} | {one.seconds:.1f} "
            f"| {one.recall:.3f}{short} | {one.peak_bytes / 1e6:,.0f} | {one.seconds / ours:.1f} |"
        )
    return lines


def statistics(about: Line) -> str:
    known = about["statistics"]
    shares = ", ".join(
        f"{share:.0%} of the variance in {axes} axes"
        for axes, share in known["variance_of_leading_axes"].items()
    )
    return (
        f"{shares}; contrast {known['contrast']:.2f} (a random pair to the 10th neighbour), "
        f"intrinsic dimension {known['intrinsic_dimension']:.1f}"
    )


def knn_table(cells: list[Cell], about: Line) -> list[str]:
    lines = [
        "| system | settings | build, s | query, s | total, s | recall@10 | peak, MB |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for one in cells:
        timed = (
            f"{one.build_seconds:.2f} | {one.search_seconds:.2f} | {one.seconds:.2f} "
            f"| {one.recall:.4f} | {one.peak_bytes / 1e6:,.0f}"
            if one.seconds is not None
            else f"| | {one.failed} | |"
        )
        lines.append(f"| {one.label} | {one.settings} | {timed} |")
    return lines


def radius_table(cells: list[Cell], about: Line) -> list[str]:
    exact = max(one.line.get("pairs", 0) for one in cells)
    lines = [
        f"Pairs nearer than {about['radius']}, each once.",
        "",
        "| system | settings | total, s | pairs | share of all | peak, MB |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for one in cells:
        timed = one.failed + " | | |"
        if one.seconds is not None:
            pairs = one.line["pairs"]
            timed = f"{one.seconds:.2f} | {pairs:,} | {pairs / max(exact, 1):.3f} | "
            timed += f"{one.peak_bytes / 1e6:,.0f}"
        lines.append(f"| {one.label} | {one.settings} | {timed} |")
    return lines


def hash_table(cells: list[Cell], about: Line) -> list[str]:
    lines = ["| system | settings | s | rows a second |", "|---|---|---:|---:|"]
    for one in cells:
        timed = one.failed + " |"
        if one.seconds is not None:
            timed = f"{one.search_seconds:.3f} | {about['rows'] / one.search_seconds:,.0f}"
        lines.append(f"| {one.label} | {one.settings} | {timed} |")
    return lines


def single_table(cells: list[Cell], about: Line) -> list[str]:
    lines = [
        "| system | settings | build, s | one query, ms | kept beside the rows, MB |",
        "|---|---|---:|---:|---:|",
    ]
    for one in cells:
        timed = f"| {one.failed} |"
        if one.seconds is not None:
            rest = one.line.get("rest_bytes")
            timed = f"{one.build_seconds:.1f} | {one.search_seconds * 1e3:.2f} | "
            timed += f"{rest / 1e6:,.0f}" if rest is not None else ""
        lines.append(f"| {one.label} | {one.settings} | {timed} |")
    return lines


TABLES: dict[str, Callable[[list[Cell], Line], list[str]]] = {
    "knn": knn_table,
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


def spark_join(run: str) -> dict[str, Any]:
    """What spark_join.py measured beside a run."""
    found = record.read("spark_join" if run == PUBLISHED else f"{run}_spark_join")
    return found if "sizes" in found else {}


def machine_line(about: Line) -> str:
    machine = about["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {about['threads']} threads each, instruction "
        f"set {about['isa']}, {machine['system']}; load {about['load']:.1f} at the start, "
        f"{about['started']}; {versions}."
    )


def page(results: Results) -> str:
    """bench-results/NAME.md."""
    lines = [
        "# lshjoin beside similar systems",
        "",
        "Everything from arrays in memory to the answer, each system in a process of its own, in "
        "turns; medians where there are several rounds. Recall is by exact search for 3,000 rows. "
        "A self-join leaves a row itself out; systems that return it are asked for one more.",
        "",
        machine_line(results.about),
        "",
    ]
    failures = results.about["not_installed"]
    lines += [f"Not installed: {name}: {why}" for name, why in failures.items()]
    for name, about in results.workloads.items():
        cells = results.cells(name)
        if not cells:
            continue
        lines += [
            "",
            f"## {name}: {about['title']}",
            "",
            f"{about['data']}; {statistics(about)}.",
            "",
            *TABLES[about["task"]](cells, about),
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


# What README and docs/ show.


def block_join() -> str:
    results = Results(PUBLISHED)
    if MAIN not in results.workloads:
        return NOT_RUN
    about, machine = results.workloads[MAIN], results.about["machine"]
    return "\n".join(
        [
            "",
            f"![Recall against total time](bench-results/{PUBLISHED}-{MAIN}.svg)",
            "",
            f"The 10 nearest others of each of {about['rows']:,} vectors ({about['data']}), from "
            "arrays in memory to the answer, building included, on "
            f"{results.about['threads']} threads of an {machine['cpu']}; the fastest setting of "
            f"each that finds {ENOUGH:.0%} or more:",
            "",
            *main_table(results, MAIN),
            "",
        ]
    )


def block_spark() -> str:
    result = spark_join(PUBLISHED)
    if not result:
        return NOT_RUN
    return "\n".join(
        [
            "",
            f"![Spark's join and ours](bench-results/{PUBLISHED}-spark.svg)",
            "",
            *spark_table(result),
            "",
        ]
    )


def block_spark_ratio() -> str:
    sizes = spark_join(PUBLISHED).get("sizes", [])
    return next((f"{size['ratio']:.0f}" for size in sizes if size["rows"] == 10_000), NOT_RUN)


def block_single() -> str:
    results = Results(PUBLISHED)
    if SINGLE not in results.workloads:
        return NOT_RUN
    about = results.workloads[SINGLE]
    return "\n".join(["", *single_table(results.cells(SINGLE), about), ""])


def block_parts() -> str:
    """How many parts a query visits on Spark, from a sample of embeddings."""
    case = record.read("spark_cluster").get("parts")
    if not case:
        return NOT_RUN
    recalls = list(next(iter(case["visited"].values())))
    lines = [
        "",
        f"| parts | recall {' | '.join(recalls)} |",
        "|---:|" + "---:|" * len(recalls),
        *(
            f"| {parts} | {' | '.join(str(visited[recall]) for recall in recalls)} |"
            for parts, visited in case["visited"].items()
        ),
        "",
    ]
    return "\n".join(lines)


def reliability_table(known: dict[str, Any]) -> list[str]:
    """What was tried, and what came of it."""
    defects = ("crash", "hang", "out of memory", "wrong answer", "other exception")
    lines = [
        "| | tried | answered | refused, with the reason | crashes | hangs | out of memory "
        "| wrong answers | other errors |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    named = {
        "indexes": "changed indexes, checksums right",
        "plans": "changed plans",
        "models": "changed models and estimators",
    }
    for part, name in named.items():
        if part in known:
            found = known[part]["outcomes"]
            counts = (found[what] for what in ("answered", "refused", *defects))
            shown = " | ".join(f"{count:,}" for count in counts)
            lines.append(f"| {name} | {sum(found.values()):,} | {shown} |")
    lines += [
        "",
        "| | tried | answered | refused | of so many tests failed |",
        "|---|---:|---:|---:|---:|",
    ]
    if arrays := known.get("arrays"):
        failed = f"{arrays['failed']} of {arrays['tests']}"
        for what, counts in arrays["counts"].items():
            answered, refused = counts.get("answered", 0), counts.get("refused", 0)
            lines.append(
                f"| odd {what} | {answered + refused:,} | {answered:,} | {refused:,} | {failed} |"
            )
    if kills := known.get("kills"):
        failed = f"{kills['failed']} of {len(kills['tests'])}"
        lines.append(f"| kills | {kills['kills']:,} | | | {failed} |")
    return lines


def block_reliability() -> str:
    known = record.read("reliability")
    return "\n".join(["", *reliability_table(known), ""]) if known else NOT_RUN


BLOCKS: dict[str, Callable[[], str]] = {
    "join": block_join,
    "spark": block_spark,
    "spark-ratio": block_spark_ratio,
    "single": block_single,
    "parts": block_parts,
    "reliability": block_reliability,
}


def filled(text: str) -> str:
    """The text of a page with its figures as they are in bench-results/."""
    return BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]]()}{found[4]}", text)


def fill_pages() -> None:
    for path in PAGES:
        path.write_text(filled(path.read_text()))


# Two runs.


def ratios(results: Results) -> Iterator[tuple[str, str, float]]:
    """Workload, setting, and how many times as long as lshjoin's fastest of enough recall."""
    for workload in results.knn:
        cells = [one for one in results.cells(workload) if one.seconds is not None]
        ours = chosen([one for one in cells if one.label == "lshjoin"]).seconds
        for one in cells:
            yield workload, f"{one.label}, {one.settings}", one.seconds / ours
    for size in spark_join(results.name).get("sizes", []):
        yield "approxSimilarityJoin", f"Spark, {size['rows']:,} rows", size["ratio"]


def repeated(first: Results, second: Results) -> str:
    before = {(workload, of): ratio for workload, of, ratio in ratios(first)}
    after = {(workload, of): ratio for workload, of, ratio in ratios(second)}
    changes = {of: after[of] / before[of] for of in before if of in after}
    within = sum(abs(change - 1) <= REPEATED_WITHIN for change in changes.values())
    lines = [
        "# Two runs on one machine",
        "",
        f"How many times as long as lshjoin each took, in {first.name} and in {second.name}: "
        f"{within} of {len(changes)} within {REPEATED_WITHIN:.0%} of the first.",
        "",
        machine_line(first.about),
        machine_line(second.about),
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


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("name")
    options.add_argument("--second", help="another run, to compare with")
    asked = options.parse_args()
    results = Results(asked.name)
    if not results.about:
        raise SystemExit(f"no bench-results/{asked.name}.jsonl: run `make bench`")
    if asked.second:
        text = repeated(results, Results(asked.second))
        (record.RESULTS / f"{asked.name}-repeated.md").write_text(text)
        print(text)
        return
    import plots

    plots.draw(results)
    (record.RESULTS / f"{asked.name}.md").write_text(page(results))
    if asked.name == PUBLISHED:
        fill_pages()
    print(f"bench-results/{asked.name}.md")


if __name__ == "__main__":
    main()
