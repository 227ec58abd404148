"""Groups of rows of equal keys, and how they are packed into pieces that memory holds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lshjoin.files.keys import NO_KEY, Codes

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Groups:
    """The groups that can have pairs, of rows on both sides or two of one; the largest first."""

    codes: Counts  #: (groups,), the code of the key of each
    queries: Counts | None  #: (groups,), rows of each; None where items are joined with themselves
    items: Counts  #: (groups,), rows of each
    keys: int  #: how many codes there are in all

    @classmethod
    def of(cls, queries: Codes | None, items: Codes) -> Groups:
        """By the code of each row."""
        sides = [side[side != NO_KEY] for side in (queries, items) if side is not None]
        keys = max((int(side.max()) + 1 for side in sides if len(side)), default=0)
        counts = [np.bincount(side, minlength=keys) for side in sides]
        of_queries, of_items = counts[0], counts[-1]
        with_pairs = of_items > 1 if queries is None else (of_queries > 0) & (of_items > 0)
        codes = np.flatnonzero(with_pairs)
        codes = codes[np.argsort(-(of_queries + of_items)[codes], kind="stable")]
        return cls(codes, None if queries is None else of_queries[codes], of_items[codes], keys)

    def __len__(self) -> int:
        return len(self.codes)

    def part(self, first: int, last: int) -> Groups:
        """Some of them."""
        queries = None if self.queries is None else self.queries[first:last]
        return Groups(self.codes[first:last], queries, self.items[first:last], self.keys)

    def rows(self) -> tuple[int | None, int]:
        """Queries, if there are any, and items in all of them."""
        return None if self.queries is None else int(self.queries.sum()), int(self.items.sum())

    def asked(self) -> Counts:
        """How many queries each has."""
        return self.items if self.queries is None else self.queries


def pack(groups: Groups, fits: Callable[[Groups], bool]) -> list[Groups]:
    """Pieces of groups that follow each other, as many in each as fit in memory together.

    A group that does not fit is a piece alone.
    """
    pieces, first = [], 0
    while first < len(groups):
        more = range(first + 2, len(groups) + 1)
        fitting = bisect_right(more, False, key=lambda last: not fits(groups.part(first, last)))
        last = first + 1 + fitting
        pieces.append(groups.part(first, last))
        first = last
    return pieces
