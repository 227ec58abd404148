"""The table of bench-results/sisap.json: our entry beside what others published."""

from typing import Any


def sisap_table(result: dict[str, Any]) -> list[str]:
    machine = f"{result['machine']['cores']} cores of an {result['machine']['cpu']}"
    lines = [
        "| | vectors | machine | recall | seconds |",
        "|---|---|---|---:|---:|",
        *(
            f"| **lshjoin**, {point['recall_asked']} asked | {result['data']} | {machine} "
            f"| {point['recall']:.3f} | {point['buildtime']:.1f} |"
            for point in result["points"]
        ),
    ]
    for challenge in result["published"]:
        lines += [
            f"| {entry['name']}, {challenge['challenge']} | {challenge['data']} "
            f"| {challenge['machine']} | {entry['recall']:.3f} | {entry['seconds']:.1f} |"
            for entry in challenge["entries"]
        ]
    return lines
