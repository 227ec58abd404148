"""The lines of a run, grouped: a point for each system and setting."""

import re
from dataclasses import dataclass
from statistics import median
from typing import Any

from benches import record

PUBLISHED = "bench"  # the run that README and docs/ show
AGAIN = "lshjoin again"  # measured a second time, after all others
ENOUGH = 0.9  # the recall at which systems are compared in one row each
Line = dict[str, Any]
# By the first of these patterns that its index's factory string has.
FAISS_KINDS = {
    "LSH.*RFlat": "FAISS LSH, reranked",
    "LSH": "FAISS LSH",
    "HNSW": "FAISS HNSW",
    "PQ": "FAISS IVF-PQ fast-scan, refined",
    "RaBitQ": "FAISS IVF-RaBitQ fast-scan, refined",
    "Panorama": "FAISS IVF-Flat Panorama",
    "IVF": "FAISS IVF-Flat",
    "Flat": "FAISS Flat",
}


@dataclass(frozen=True)
class Point:
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
            if about["task"] in ("knn", "within") and name in measured
        ]

    def points(self, workload: str) -> list[Point]:
        grouped: dict[tuple[str, str], list[Line]] = {}
        for line in self.lines:
            if line["workload"] == workload:
                grouped.setdefault((label(line), settings(line)), []).append(line)
        return [point(*of, lines) for of, lines in grouped.items()]

    def noise(self, workload: str) -> float | None:
        """How much longer than itself lshjoin took at most, measured twice (A/A)."""
        labels = self.of_label(workload)
        times = [
            {one.settings: one.seconds for one in labels.get(name, []) if one.seconds is not None}
            for name in ("lshjoin", AGAIN)
        ]
        ratios = [times[1][of] / times[0][of] for of in times[0] if of in times[1]]
        return max((max(ratio, 1 / ratio) for ratio in ratios), default=1) - 1 if ratios else None

    def of_label(self, workload: str) -> dict[str, list[Point]]:
        found: dict[str, list[Point]] = {}
        for one in self.points(workload):
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


def point(label: str, settings: str, lines: list[Line]) -> Point:
    done = [line for line in lines if "seconds" in line]
    if not done:
        return Point(label, settings, lines[0])
    recalls = [line["recall"] for line in done if "recall" in line]
    return Point(
        label,
        settings,
        done[0],
        *(median(line[f"{of}seconds"] for line in done) for of in ("", "build_", "search_")),
        median(recalls) if recalls else None,
        max(line["peak_bytes"] for line in done),
    )


def chosen(points: list[Point], recall: float = ENOUGH) -> Point:
    """The fastest that reaches the recall; else the one that comes nearest, else what failed."""
    done = [one for one in points if one.seconds is not None]
    if not done:
        return points[0]
    enough = [one for one in done if one.recall >= recall]
    return min(enough, key=lambda one: one.seconds) if enough else max(done, key=lambda x: x.recall)


def compared(results: Results, workload: str) -> list[Point]:
    """A point a system: those with enough recall by time, the rest, and those without an answer."""
    labels = results.of_label(workload)
    labels.pop(AGAIN, None)
    found = [chosen(points) for points in labels.values()]
    return sorted(
        found,
        key=lambda one: (one.seconds is None, (one.recall or 0) < ENOUGH, one.seconds or 0),
    )


def spark_join(run: str) -> dict[str, Any]:
    """What spark_join.py measured beside a run."""
    found = record.read("spark_join" if run == PUBLISHED else f"{run}_spark_join")
    return found if "sizes" in found else {}
