"""Tables of bench-results/spark_cluster.json: how joins grow on Spark, and what is foretold."""

from typing import Any


def growth_table(case: dict[str, Any]) -> list[str]:
    """What joins of more and more rows took and moved, beside what was told beforehand."""
    return [
        "| rows | parts, a row's | core seconds | foretold | GB shuffled | foretold |",
        "|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {size['rows']:,} | {size['parts']}, {size['probes']:.3g} "
            f"| {size['core_seconds']:.0f} | {size['predicted_core_seconds']:.0f} "
            f"| {size['shuffle_bytes'] / 1e9:.2f} | {size['predicted_bytes'] / 1e9:.2f} |"
            for size in case["sizes"]
        ),
    ]


def large_table(case: dict[str, Any]) -> list[str]:
    """What joins of millions of rows took, and the memory of an executor's two processes."""
    return [
        "| rows | s | recall | GB shuffled | GB of the JVM | of Python |",
        "|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {size['rows']:,} | {size['seconds']:.0f} | {size['recall']:.3f} "
            f"| {size['shuffle_bytes'] / 1e9:.2f} | {size['jvm_bytes'] / 1e9:.2f} "
            f"| {size['python_bytes'] / 1e9:.2f} |"
            for size in case["sizes"]
        ),
    ]


def planned_table(case: dict[str, Any]) -> list[str]:
    """What ``plan_knn_join`` says of more rows than anybody joined."""
    return [
        "| blockBytes | recall | parts, a row's | TB of vectors shuffled | of neighbours "
        "| core hours |",
        "|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {plan['blockBytes']} | {plan['recall']} | {plan['parts']}, {plan['probes']:.3g} "
            f"| {plan['vector_bytes'] / 1e12:.2f} | {plan['neighbor_bytes'] / 1e12:.2f} "
            f"| {plan['seconds'] * plan['cores'] / 3600:,.0f} |"
            for plan in case["plans"]
        ),
    ]
