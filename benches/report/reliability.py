"""The tables of bench-results/reliability.json."""

from typing import Any


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
