"""Ids of rows: what joins of arrays are given, and give, in the place of row numbers."""

from __future__ import annotations

import math
import numbers
import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lshjoin.base.checks import short
from lshjoin.base.vectors import refuse_masked

Rows = NDArray[np.int64]

#: By kind of dtype, what stands where there is no row; of unsigned integers the largest does.
_NOTHING = {"i": -1, "f": math.nan, "M": "NaT", "m": "NaT", "U": "", "S": b"", "O": None}


class Ids:
    """The ids of the rows of an array, each once.

    Examples:
        >>> import numpy as np
        >>> from lshjoin.arrays.ids import Ids
        >>> ids = Ids(["b", "a"], "ids", 2)
        >>> ids.of(np.array([[1, 0], [0, -1]]))
        array([['a', 'b'],
               ['b', None]], dtype=object)
        >>> ids.rows(["a", "b"], "exclude")
        array([1, 0])
    """

    def __init__(self, ids: ArrayLike, name: str, rows: int) -> None:
        """Of as many rows; ``name`` is for error messages."""
        self.values = _values(ids, name)
        if len(self.values) != rows:
            raise ValueError(
                f"{name} has {len(self.values)} ids for {rows} rows: pass one for each"
            )
        self._check_distinct(name)

    def of(self, rows: Rows) -> NDArray[Any]:
        """The ids of these rows, of any shape; for -1 what stands for nothing."""
        kind, dtype = self.values.dtype.kind, self.values.dtype
        nothing = np.empty(1, dtype)
        nothing[0] = np.iinfo(dtype).max if kind == "u" else _NOTHING[kind]
        named: NDArray[Any] = np.concatenate([self.values, nothing])[rows]
        return named

    def rows(self, ids: ArrayLike, name: str) -> Rows:
        """The rows of these ids; ValueError for one that no row has."""
        asked = _values(ids, name)
        found = self._found(asked, name)
        if (found < 0).any():
            unknown = asked[np.argmax(found < 0) :].tolist()[0]
            raise ValueError(f"{name}: no row has the id {short(repr(unknown))}")
        return found

    def _found(self, asked: NDArray[Any], name: str) -> Rows:
        """The rows of these ids, -1 for those that no row has."""
        if len(self.values) == 0 or len(asked) == 0:
            return np.full(len(asked), -1)
        if self.values.dtype.kind == "O" or asked.dtype.kind == "O":
            row_of = {id_: row for row, id_ in enumerate(self.values.tolist())}
            return np.array([row_of.get(id_, -1) for id_ in asked.tolist()])
        if _family(self.values.dtype) != _family(asked.dtype):
            raise TypeError(f"{name} has {asked.dtype} where ids are {self.values.dtype}")
        # What does not fit the type is not among the ids, which the comparison tells.
        with np.errstate(invalid="ignore", over="ignore"):
            cast = asked.astype(self.values.dtype)
        order = np.argsort(self.values, kind="stable")
        places = np.searchsorted(self.values, cast, sorter=order)
        found: Rows = order[np.minimum(places, len(order) - 1)]
        return np.where(self.values[found] == asked, found, -1)

    def _check_distinct(self, name: str) -> None:
        if self.values.dtype.kind == "O":
            first: dict[Any, int] = {}
            for row, id_ in enumerate(self.values.tolist()):
                if (before := first.setdefault(id_, row)) != row:
                    raise _twice(name, id_, before, row)
            return
        order = np.argsort(self.values, kind="stable")
        in_order = self.values[order]
        equal = np.flatnonzero(in_order[1:] == in_order[:-1])
        if len(equal):
            rows = order[equal[0] : equal[0] + 2].tolist()
            raise _twice(name, in_order[equal[0]], *rows)


def side_ids(
    query_ids: ArrayLike | None, ids: ArrayLike | None, queries: int | None, items: int
) -> tuple[Ids | None, Ids | None]:
    """Those of queries and of items; of one array joined with itself both are the same."""
    of_items = None if ids is None else Ids(ids, "ids", items)
    if queries is None:
        if query_ids is not None:
            raise TypeError("one array is joined with itself: pass ids=, which is for both sides")
        return of_items, of_items
    return None if query_ids is None else Ids(query_ids, "query_ids", queries), of_items


def _twice(name: str, id_: object, first: int, second: int) -> ValueError:
    return ValueError(
        f"{name}: {short(id_)} is the id of rows {first} and {second}; every row needs one of "
        "its own"
    )


def _family(dtype: np.dtype[Any]) -> str:
    """What ids of one kind have in common: integers are integers, with a sign or without."""
    return "i" if dtype.kind == "u" else dtype.kind


def _values(ids: ArrayLike, name: str) -> NDArray[Any]:
    """Ids as an array of one kind, without nulls."""
    refuse_masked(ids, name)
    # As objects first: of a list of integers and strings NumPy would make strings.
    values = np.asarray(ids, object) if isinstance(ids, (list, tuple)) else np.asarray(ids)
    if values.ndim != 1:
        raise ValueError(f"{name} must be 1-D, one id a row, but has {values.ndim} dimensions")
    # Strings of any length, and those of columns, of which NumPy makes arrays of either kind.
    if values.dtype.kind == "T" or (values.dtype.kind == "U" and not isinstance(ids, np.ndarray)):
        values = values.astype(object)
    if values.dtype.kind not in {"u", *_NOTHING}:
        raise TypeError(f"{name} must be integers, strings or the like, not {values.dtype}")
    if values.dtype.kind == "O":
        return _of_objects(values, name)
    if values.dtype.kind in "fmM" and (missing := np.isnan(values)).any():
        raise _no_id(name, int(np.argmax(missing)))
    return values


def _of_objects(values: NDArray[Any], name: str) -> NDArray[Any]:
    missing = getattr(sys.modules.get("pandas"), "NA", None)
    kinds: dict[str, int] = {}
    for row, id_ in enumerate(values.tolist()):
        if id_ is None or id_ is missing or (isinstance(id_, float) and math.isnan(id_)):
            raise _no_id(name, row)
        try:
            hash(id_)
        except TypeError:
            raise TypeError(
                f"{name}: row {row} has a {type(id_).__name__} for an id; pass integers, strings "
                "or the like"
            ) from None
        kinds.setdefault(_kind(id_), row)
    if len(kinds) > 1:
        (one, first), (other, second) = list(kinds.items())[:2]
        raise TypeError(
            f"{name} must be of one kind, but row {first} has one of {one} and row {second} one "
            f"of {other}"
        )
    return np.array(values.tolist()) if "int" in kinds else values


def _kind(id_: object) -> str:
    if isinstance(id_, numbers.Integral) and not isinstance(id_, (bool, np.bool_)):
        return "int"
    return "str" if isinstance(id_, str) else type(id_).__name__


def _no_id(name: str, row: int) -> ValueError:
    return ValueError(f"{name}: row {row} has none (it is null or NaN); every row needs an id")
