"""What a join did, and how sure that is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from lshjoin.base import html


class Estimate(NamedTuple):
    """A share measured on sampled rows, with its 95 % confidence interval."""

    value: float  #: the mean over the rows
    low: float  #: lower end of the interval
    high: float  #: upper end of the interval
    rows: int  #: how many were sampled; 0 where all pairs are compared, which needs no measuring

    def __str__(self) -> str:
        """Value, interval and rows."""
        if self.rows == 0:
            return f"{self.value}, as all pairs are compared"
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f} by {self.rows} rows)"


@dataclass(frozen=True)
class Report:
    """What :func:`lshjoin.knn_join` did; ``str`` of it is a small table.

    Examples:
        >>> import numpy as np
        >>> from lshjoin import knn_join
        >>> report = knn_join(np.eye(100), k=3).report
        >>> report.recall.value, report.pairs
        (1.0, 4950)
        >>> list(report.seconds)
        ['duplicates', 'codes', 'plan', 'all pairs']
    """

    #: Share of the true neighbours found, measured on held-out rows that no choice was made by;
    #: None where the plan holds out no rows.
    recall: Estimate | None
    #: Pairs that were compared, those of held-out rows among them.
    pairs: int
    #: Time of each stage, in the order in which they began.
    seconds: Mapping[str, float]

    @classmethod
    def _parse(cls, text: str) -> Report:
        report = json.loads(text)
        recall = report["recall"]
        return cls(
            recall=None if recall is None else Estimate(**recall),
            pairs=report["pairs"],
            seconds=dict(report["seconds"]),
        )

    def _rows(self) -> list[tuple[str, str]]:
        recall = "not measured" if self.recall is None else str(self.recall)
        seconds = {**self.seconds, "total": sum(self.seconds.values())}
        stages = [(stage, f"{time:.3f} s") for stage, time in seconds.items()]
        return [("recall", recall), ("pairs", f"{self.pairs:,}"), *stages]

    def __str__(self) -> str:
        """A line for the recall, the pairs and each stage."""
        return "\n".join(f"{name:14} {value}" for name, value in self._rows())

    def _repr_html_(self) -> str:
        """What notebooks show: the same, and a bar for each stage's time."""
        return html.table("Report", self._rows(), html.bars("Seconds of each stage", self.seconds))
