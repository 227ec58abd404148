"""What README.md and docs/ show of bench-results/.

It stands between `<!-- bench:BLOCK -->` and `<!-- /bench -->`, so that no measured number is typed.
"""

import re
from collections.abc import Callable

from benches import record
from benches.report.growth import about_growth, projected_table, sizes_table
from benches.report.levels import levels_table
from benches.report.reliability import reliability_table
from benches.report.results import ENOUGH, PUBLISHED, Results, spark_join
from benches.report.sisap import sisap_table
from benches.report.spark_cluster import growth_table, planned_table
from benches.report.tables import main_table, single_table, spark_table
from benches.report.umap_layout import umap_table

PAGES = (record.ROOT / "README.md", *sorted((record.ROOT / "docs").rglob("*.md")))
MAIN, SINGLE = "embeddings-100k", "single-30k"
LINES = "lines"  # of `make bench NAME=lines DATA=lines.npy K=15`
BLOCK = re.compile(r"(<!-- bench:([\w-]+) -->)(.*?)(<!-- /bench -->)", re.DOTALL)
NOT_RUN = "not measured yet: `make bench`"


def block_join() -> str:
    results = Results(PUBLISHED)
    if MAIN not in results.workloads:
        return NOT_RUN
    about, machine = results.workloads[MAIN], results.about["machine"]
    said = (
        f"The 10 nearest others of each of {about['rows']:,} vectors ({about['data']}), from "
        "arrays in memory to the answer, building included, on "
        f"{results.about['threads']} threads of an {machine['cpu']}; the fastest setting of "
        f"each that finds {ENOUGH:.0%} or more:"
    )
    return workload_block(
        results, MAIN, f"![Recall against total time](bench-results/{PUBLISHED}-{MAIN}.svg)", said
    )


def workload_block(results: Results, workload: str, picture: str, said: str) -> str:
    """The picture of a workload, what it is, and the table of its systems."""
    return "\n".join(["", picture, "", said, "", *main_table(results, workload), ""])


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
    return "\n".join(["", *single_table(results.points(SINGLE), about), ""])


def block_parts() -> str:
    """To how many parts a row goes on Spark, from a sample of embeddings."""
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


def block_spark_growth() -> str:
    """How joins grow on two Spark workers."""
    case = record.read("spark_cluster").get("growth")
    if not case:
        return NOT_RUN
    return "\n".join(["", f"{case['data']}:", "", *growth_table(case), ""])


def block_spark_planned() -> str:
    """What plan_knn_join says of a hundred million rows."""
    case = record.read("spark_cluster").get("planned")
    if not case:
        return NOT_RUN
    return "\n".join(["", f"{case['data']}:", "", *planned_table(case), ""])


def block_reliability() -> str:
    known = record.read("reliability")
    return "\n".join(["", *reliability_table(known), ""]) if known else NOT_RUN


def block_umap() -> str:
    """How much of UMAP's time neighbours take."""
    known = record.read("umap_layout")
    if not known:
        return NOT_RUN
    about = f"{known['rows']:,} rows of {known['dimensions']} ({known['data']})"
    threads, cpu = known["threads"], known["machine"]["cpu"]
    lines = [f"{about} on {threads} threads of an {cpu}:", "", *umap_table(known)]
    return "\n".join(["", *lines, ""])


def block_growth() -> str:
    """Time and memory over the rows, and what they tell of more."""
    known = record.read("growth")
    if not known:
        return "not measured yet: `make bench-growth`"
    return "\n".join(
        [
            "",
            "![Time against rows](../bench-results/growth.svg)",
            "",
            f"Seconds, {about_growth(known)}:",
            "",
            *sizes_table(known, "seconds", 1, 2),
            "",
            "Peak memory of the process, MB:",
            "",
            *sizes_table(known, "peak_bytes", 1e6, 0),
            "",
            f"What {known['paper']:,} rows would take, all in such a machine's memory, by the "
            "exponents of time and by what each row adds to memory:",
            "",
            *projected_table(known),
            "",
        ]
    )


def block_levels() -> str:
    """The headline join on each level of instructions."""
    case = record.read("knn_join").get("cases", {}).get("levels")
    if not case:
        return "not measured yet: `make bench-join CASES=levels`"
    about = f"{case['data']}, on {case['threads']} threads of an {case['machine']['cpu']}"
    return "\n".join(["", f"{about}:", "", *levels_table(case), ""])


def block_sisap() -> str:
    """Our entry beside what was published."""
    known = record.read("sisap")
    if not known:
        return "not measured yet: `make bench-sisap DATA=rows.npy`"
    return "\n".join(["", *sisap_table(known), ""])


def block_lines() -> str:
    """A million lines of text."""
    results = Results(LINES)
    if LINES not in results.workloads:
        return "not measured yet: `make bench NAME=lines DATA=lines.npy K=15`"
    about, machine = results.workloads[LINES], results.about["machine"]
    said = (
        f"The {about['k']} nearest others of each of {about['rows']:,} vectors, on "
        f"{results.about['threads']} threads of an {machine['cpu']} with "
        f"{results.about['isa']}; the fastest setting of each that finds {ENOUGH:.0%} or more, "
        "or else the one that finds most:"
    )
    picture = f"![Recall against time, a million lines](../bench-results/{LINES}-{LINES}.svg)"
    return workload_block(results, LINES, picture, said)


BLOCKS: dict[str, Callable[[], str]] = {
    "join": block_join,
    "lines": block_lines,
    "spark": block_spark,
    "spark-ratio": block_spark_ratio,
    "single": block_single,
    "parts": block_parts,
    "spark-growth": block_spark_growth,
    "spark-planned": block_spark_planned,
    "reliability": block_reliability,
    "umap": block_umap,
    "growth": block_growth,
    "levels": block_levels,
    "sisap": block_sisap,
}


def filled(text: str) -> str:
    """The text of a page with its figures as they are in bench-results/."""
    return BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]]()}{found[4]}", text)


def fill_pages() -> None:
    for path in PAGES:
        path.write_text(filled(path.read_text()))
