"""UMAP with neighbours of `knn_join` and with its own, as a table."""

from typing import Any


def umap_table(result: dict[str, Any]) -> list[str]:
    return [
        "| neighbours by | seconds | recall | laid out in, seconds | neighbours' share |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {name} | {way['neighbor_seconds']:.1f} | {way['recall']:.3f} "
            f"| {way['layout_seconds']:.1f} | {way['share']:.1%} |"
            for name, way in result["ways"].items()
        ),
    ]
