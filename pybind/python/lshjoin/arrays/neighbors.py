"""What joins of arrays give: the nearest of each query, or all within a radius."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lshjoin.base.plan import JoinPlan
from lshjoin.base.report import Report

if TYPE_CHECKING:
    from typing_extensions import Self

    from lshjoin._lshjoin import Floats


Metric = Literal["euclidean", "manhattan", "cosine"]

NearestMetric = Metric | Literal["inner_product"]


class _Neighbors(NamedTuple):
    distances: NDArray[Any]  #: (queries, k), float32 or float64; inf where there is no neighbour
    indices: NDArray[np.int64]  #: (queries, k), rows of items; -1 where there is no neighbour


class Neighbors(_Neighbors):
    """The k nearest of each query, nearest first: ``distances`` and ``indices``.

    ``plan`` and ``report`` are not among the two that the tuple unpacks to.
    """

    plan: JoinPlan  #: what was to be done
    report: Report  #: the recall that was reached, the pairs compared, the time of each stage

    def __new__(
        cls, distances: NDArray[Any], indices: NDArray[np.int64], plan: JoinPlan, report: Report
    ) -> Self:
        """Of the two arrays, and how they came about."""
        self = super().__new__(cls, distances, indices)
        self.plan, self.report = plan, report
        return self

    @classmethod
    def _of(
        cls, distances: Floats, indices: NDArray[np.int64], report: str, k: int, plan: JoinPlan
    ) -> Self:
        """What the engine found, which writes no more columns than there are items."""
        padded: tuple[NDArray[Any], NDArray[np.int64]] = distances, indices
        if distances.shape[1] < k:
            padding = ((0, 0), (0, k - distances.shape[1]))
            try:
                padded = (
                    np.pad(distances, padding, constant_values=math.inf),
                    np.pad(indices, padding, constant_values=-1),
                )
            except (MemoryError, ValueError) as error:  # ValueError: more than can be addressed
                size = len(distances) * k * (distances.itemsize + indices.itemsize)
                raise MemoryError(
                    f"there is no memory for {size} bytes of neighbours: ask for fewer, since no "
                    f"query has more than {distances.shape[1]}"
                ) from error
        return cls(*padded, plan, Report._parse(report))

    def __getnewargs__(self) -> tuple[Any, ...]:
        """For pickle and copy."""
        return (*self, self.plan, self.report)

    def _replace(self, **changes: Any) -> Self:
        """As of all named tuples, with the plan and the report."""
        named = {**self._asdict(), "plan": self.plan, "report": self.report}
        return type(self)(**named | changes)

    __replace__ = _replace


class RadiusNeighbors(NamedTuple):
    """The neighbours of each query in CSR form: those of query i at ``lims[i]:lims[i + 1]``."""

    lims: NDArray[np.int64]  #: (queries + 1,)
    distances: NDArray[Any]  #: (pairs,), float32 or float64
    indices: NDArray[np.int64]  #: (pairs,), rows of items
