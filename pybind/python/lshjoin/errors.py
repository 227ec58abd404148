"""The errors of the package's own: what is wrong with a row, or with a work directory."""

from __future__ import annotations


class RowError(ValueError):
    """A row of vectors that can't be used: a value too large, a null, another length than others.

    Attributes:
        row: which one, from 0, of the array, column or file that the message names.
        side: which side of a join it is of, such as "queries" or "items"; None where there is one.
    """

    def __init__(self, message: str, row: int, side: str | None = None) -> None:
        super().__init__(message)
        self.row = row
        self.side = side

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (*self.args, self.row, self.side)


class NotFiniteError(RowError):
    """A row that holds NaN or infinity.

    Attributes:
        row: which one, from 0, of the array, column or file that the message names.
        dimension: where in the row, from 0.
        side: which side of a join it is of, such as "queries" or "items"; None where there is one.

    Examples:
        >>> import numpy as np
        >>> from lshjoin import NotFiniteError, knn_join
        >>> x = np.ones((100, 8))
        >>> x[17, 3] = np.nan
        >>> try:
        ...     knn_join(x, k=5)
        ... except NotFiniteError as error:
        ...     print(error.row, error.dimension)
        17 3
    """

    def __init__(self, message: str, row: int, dimension: int, side: str | None = None) -> None:
        super().__init__(message, row, side)
        self.dimension = dimension

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (*self.args, self.row, self.dimension, self.side)


class OtherJobError(ValueError):
    """The work directory belongs to another job than the one that was asked for."""
