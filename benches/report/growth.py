"""The page and the tables of bench-results/growth.json: how joins grow with the rows."""

from typing import Any

from benches import record


def sizes_table(result: dict[str, Any], amount: str, unit: float, digits: int) -> list[str]:
    """A row for each system, a column for each number of rows."""
    counts = sorted({size["rows"] for one in result["systems"].values() for size in one["sizes"]})
    lines = [
        f"| | {' | '.join(f'{count:,}' for count in counts)} | exponent |",
        "|---|" + "---:|" * (len(counts) + 1),
    ]
    for label, one in sorted(result["systems"].items(), key=lambda item: last(item[1], amount)):
        of_rows = {size["rows"]: size[amount] / unit for size in one["sizes"]}
        shown = (f"{of_rows[count]:,.{digits}f}" if count in of_rows else "" for count in counts)
        exponent = f"{one[amount]['exponent']:.2f}" if amount in one else ""
        lines.append(f"| {bold(label)} | {' | '.join(shown)} | {exponent} |")
    return lines


def last(one: dict[str, Any], amount: str) -> tuple[int, float]:
    size = max(one["sizes"], key=lambda size: size["rows"])
    return -size["rows"], size[amount]


def bold(label: str) -> str:
    return f"**{label}**" if label == "lshjoin" else label


def projected_table(result: dict[str, Any]) -> list[str]:
    """What more rows than were measured would take, and by which rows that is told."""
    lines = ["| | hours | GB | told by |", "|---|---:|---:|---|"]
    for label, one in result["systems"].items():
        if "fitted" in one:
            hours, memory = one["seconds"]["projected"] / 3600, one["peak_bytes"]["projected"] / 1e9
            rows = ", ".join(f"{rows:,}" for rows in one["fitted"])
            lines.append(f"| {bold(label)} | {hours:.1f} | {memory:,.0f} | {rows} rows |")
    return lines


def about_growth(result: dict[str, Any]) -> str:
    data, k = result["data"].partition(",")[0], result["k"]
    least, threads = f"{result['recall']:.0%}", result["threads"]
    where = f"on {threads} threads of an {result['machine']['cpu']}"
    return f"the {k} nearest of each of {data}, {least} or more of them found, {where}"


def growth_page(result: dict[str, Any], name: str) -> str:
    return "\n".join(
        [
            "# How joins grow",
            "",
            f"Self-joins, the {result['k']} nearest of each row, of parts of {result['data']}: the "
            f"fastest setting of each system that finds {result['recall']:.0%} or more. A system "
            "without a figure took too long, would have taken too much memory, or found fewer.",
            "",
            record.circumstances(result),
            "",
            f"![Time against rows]({name}.svg)",
            "",
            "## Seconds",
            "",
            *sizes_table(result, "seconds", 1, 2),
            "",
            f"lshjoin a second time at the most rows: {result['noise']:.0%} apart at most.",
            "",
            "## Peak memory of the process, MB",
            "",
            *sizes_table(result, "peak_bytes", 1e6, 0),
            "",
            f"## {result['paper']:,} rows, on paper",
            "",
            "Told from the largest size measured, time by the exponent, memory by what each row "
            "added since the size before; on the same machine, all in memory: nobody joined so "
            "many here.",
            "",
            *projected_table(result),
            "",
        ]
    )
