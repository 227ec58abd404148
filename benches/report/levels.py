"""The table of the case "levels" of bench-results/knn_join.json."""

from typing import Any


def levels_table(case: dict[str, Any]) -> list[str]:
    """Seconds of each recall that was asked for, a row for each level of instructions."""
    recalls = list(dict.fromkeys(level["asked"] for level in case["levels"]))
    seconds = {(level["isa"], level["asked"]): level["seconds"] for level in case["levels"]}
    best = {recall: min(s for (_, of), s in seconds.items() if of == recall) for recall in recalls}
    heads = " | ".join(f"recall {recall}, s | of the best" for recall in recalls)
    return [
        f"| instructions | {heads} |",
        "|---|" + "---:|" * 2 * len(recalls),
        *(
            f"| {isa} | "
            + " | ".join(
                f"{seconds[isa, recall]:.2f} | {seconds[isa, recall] / best[recall]:.2f}"
                for recall in recalls
            )
            + " |"
            for isa in dict.fromkeys(level["isa"] for level in case["levels"])
        ),
    ]
