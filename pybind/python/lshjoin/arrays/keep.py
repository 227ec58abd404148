"""Which row of a group is rather kept: an order of all rows, those first that are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Rows = NDArray[np.int64]

FIRST, LAST, LONGEST = "first", "last", "longest"


def by_place(keep: object, rows: int) -> Rows | None:
    """The order of "first" and of "last"; None for all else."""
    if not isinstance(keep, str) or keep not in (FIRST, LAST):
        return None
    return np.arange(rows) if keep == FIRST else np.arange(rows)[::-1]


def largest_first(values: pa.ChunkedArray) -> Rows:
    """Rows by their values, the largest first, then by number; NaN and nulls last."""
    import pyarrow as pa
    import pyarrow.compute as pc

    # By row, too, since nobody promises that Arrow's order of equal values stays.
    table = pa.table({"value": values, "row": np.arange(len(values))})
    try:
        order: Rows = pc.sort_indices(
            table, [("value", "descending"), ("row", "ascending")]
        ).to_numpy()
    except (NotImplementedError, TypeError) as error:
        raise TypeError(f"keep: values of type {values.type} have no order ({error})") from None
    return order.astype(np.int64)


def is_text(stored: pa.DataType) -> bool:
    """Whether a column holds strings, of which "longest" counts the characters."""
    import pyarrow as pa

    return stored in (pa.string(), pa.large_string(), pa.string_view())


def characters(columns: Iterable[pa.Array | pa.ChunkedArray]) -> pa.Array | pa.ChunkedArray | None:
    """Characters of each row, in all these columns of strings; None without any."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = None
    for column in columns:
        mine = pc.fill_null(pc.utf8_length(column.cast(pa.large_string())), 0)
        lengths = mine if lengths is None else pc.add(lengths, mine)
    return lengths
