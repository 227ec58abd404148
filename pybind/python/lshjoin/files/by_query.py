"""Pairs in any order, given by query: an external merge sort, for more pairs than memory holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from lshjoin.files.pairs import Found, ranges


def by_query(found: Iterable[Found], queries: int, directory: Path) -> Iterator[Found]:
    """The same pairs with each of the queries once, also those without any; in their order.

    Args:
        found: pairs in which a query may come again.
        queries: how many there are.
        directory: which has room for the pairs, 24 bytes each.
    """
    counts = np.zeros(queries, np.int64)
    starts, dtype = [0], np.dtype(np.float32)
    # Runs, in each of which pairs are in order. All numbers have 8 bytes, float32 ones too, so that
    # the file is one array.
    with TemporaryFile(dir=directory) as file:
        for piece in found:
            rows = piece.left()
            order = np.argsort(rows, kind="stable")
            dtype = piece.distances.dtype
            for column in (rows, piece.items, piece.distances.astype(np.float64)):
                file.write(column[order].tobytes())
            counts += np.bincount(rows, minlength=queries)
            starts.append(starts[-1] + len(rows))
        file.flush()
        words = np.memmap(file, np.int64, "r") if starts[-1] else np.empty(0, np.int64)
        runs = [
            words[3 * first : 3 * last].reshape(3, last - first) for first, last in pairwise(starts)
        ]
        for first, last, *_ in ranges(counts):
            parts = [run[:, slice(*np.searchsorted(run[0], (first, last)))] for run in runs]
            rows, items, distances = np.concatenate([np.empty((3, 0), np.int64), *parts], axis=1)
            order = np.argsort(rows, kind="stable")
            yield Found(
                np.arange(first, last),
                counts[first:last],
                items[order],
                distances.view(np.float64)[order].astype(dtype),
            )
