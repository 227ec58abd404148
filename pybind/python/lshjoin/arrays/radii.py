"""The radius of a join: one number, or one for each query."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lshjoin.base.checks import to_number, to_radius
from lshjoin.base.vectors import refuse_masked

#: A number, or an array or column of one for each query.
Radius = float | ArrayLike


class Radii:
    """The radius within which the neighbours of each query are.

    Examples:
        >>> import numpy as np
        >>> from lshjoin.arrays.radii import Radii
        >>> radii = Radii([0.5, 2.0], 2)
        >>> radii.largest
        2.0
        >>> radii.have(np.array([0, 1, 1]), np.array([1.0, 1.0, 2.0]))
        array([False,  True, False])
    """

    def __init__(self, radius: Radius | None, queries: int) -> None:
        """Of so many queries. TypeError, ValueError for what is no radius, and other lengths."""
        self.of_query: NDArray[np.float64] | None = None  #: None where all have the largest
        values = np.asarray(radius)
        if values.ndim == 0:
            self.largest = to_radius(cast(float, radius))
            return
        refuse_masked(radius, "radius")
        self.of_query = _floats(values)
        if len(self.of_query) != queries:
            raise ValueError(
                f"radius must be a number, or one for each query, but has {len(self.of_query)} "
                f"for {queries} queries"
            )
        wrong = ~(self.of_query >= 0)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"radius must not be negative, null or NaN, but is {self.of_query[row]} for "
                f"query {row}"
            )
        self.largest = float(self.of_query.max(initial=0))

    def have(self, queries: NDArray[np.int64], distances: NDArray[Any]) -> NDArray[np.bool_]:
        """Which pairs of these queries are nearer than that, as the engine compares."""
        radii = np.float64(self.largest) if self.of_query is None else self.of_query[queries]
        near: NDArray[np.bool_] = distances < radii
        return near


def _floats(values: NDArray[Any]) -> NDArray[np.float64]:
    if values.dtype.kind == "O":
        given = enumerate(values.ravel().tolist())
        values = np.array([to_number(value, f"radius of query {row}") for row, value in given])
    if values.ndim != 1 or (values.dtype.kind not in "iuf" and values.size):
        raise TypeError(
            f"radius must be a number, or one for each query, not an array of {values.dtype} with "
            f"{values.ndim} dimensions"
        )
    return values.astype(np.float64)
