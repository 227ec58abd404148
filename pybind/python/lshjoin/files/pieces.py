"""Joins within groups of rows that memory does not hold together: a piece of groups at a time.

Rows are written to pieces of whole groups, each of which is then a job of its own: a join in
memory, or out of core where it is one group that is too large.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lshjoin.base.progress import OnProgress, Progress
from lshjoin.files.datasets import Dataset, ahead
from lshjoin.files.exclude import ITEM, QUERY, Known
from lshjoin.files.job import Job
from lshjoin.files.keys import NO_KEY, Codes, KeyColumns, column_codes
from lshjoin.files.pairs import Found, of_batches, pairs_schema, stored_tables
from lshjoin.files.plan import FilesPlan, pack_rows
from lshjoin.files.sides import Sides

#: The columns of a piece, beside those of keys.
VECTOR, ROW = "vector", "row"

#: What the name of a piece says: whether it is one group, whose rows may all be neighbours.
_ONE, _MANY = "group", "groups"

#: Files that are written at once.
_OPEN = 128


class Piece(NamedTuple):
    """A join of some groups."""

    queries: Path | None
    items: Path
    keys: KeyColumns  #: columns of these files
    exclude: Path | None  #: pairs of rows of these files
    out: Path  #: where the pairs of row numbers go
    progress: Progress


class PiecesJoin:
    """The join of groups, piece by piece.

    What is done is in the job's directory: the rows of the pieces, and the pairs of each.
    """

    def __init__(
        self,
        job: Job,
        sides: Sides,
        plan: FilesPlan,
        known: Known | None,
        begin: Callable[[str], OnProgress],
    ) -> None:
        self._job, self._sides, self._plan = job, sides, plan
        self._known = known  # pairs that are left out
        self._begin = begin  # a stage, by its name
        self.seconds: dict[str, float] = {}  #: by stage

    def pairs(self, join: Callable[[Piece], object]) -> Iterator[Found]:
        """The pairs of all pieces by row number; ``join`` is to have those of one written."""
        import pyarrow as pa

        start = time.perf_counter()
        told = self._begin("pieces")
        if not self._job.done("pieces"):
            self._job.write_folder("pieces", lambda folder: self._write(folder, told))
        written = time.perf_counter()
        parts = self._joined(join, self._begin("join"))
        self.seconds = {"pieces": written - start, "join": time.perf_counter() - written}
        schema = pairs_schema(pa.int64(), pa.int64(), self._sides.dtype())
        tables = stored_tables(parts, schema)
        return of_batches(batch for table in tables for batch in table.to_batches())

    def _joined(self, join: Callable[[Piece], object], told: OnProgress) -> list[Path]:
        files = sorted(self._job.path("pieces").glob("*-items.arrow"))
        ends = np.cumsum([0, *(file.stat().st_size for file in files)]).tolist()
        apart = None if self._sides.keys.apart is None else "apart"
        parts = []
        for items, first, last in zip(files, ends, ends[1:], strict=False):
            number, groups, _ = items.name.split("-")
            part = self._job.path(f"piece-{number}.parquet")
            of = partial(_beside, items)
            if not self._job.done(part.name):
                progress = _of_piece(told, first, last, ends[-1]) if told else False
                piece = Piece(
                    queries=None if self._sides.queries is None else of("queries"),
                    items=items,
                    exclude=None if self._known is None else of("exclude"),
                    keys=KeyColumns("within" if groups == _MANY else None, apart),
                    out=part,
                    progress=progress,
                )
                join(piece)
            parts.append(part)
        return parts

    def _write(self, folder: Path, told: OnProgress) -> None:
        """A file of each side of each piece."""
        sides, rows = self._sides.all(), self._sides.shape()
        pieces = pack_rows(self._plan.join, rows, self._plan.k, self._plan.memory_limit)
        names = [
            f"{number:06}-{_ONE if len(piece) == 1 else _MANY}"
            for number, piece in enumerate(pieces)
        ]
        # The last is for rows without a key, or with one that no group has.
        piece_of = np.full(rows.groups.keys + 1 if rows.groups else 1, -1)
        for number, piece in enumerate(pieces):
            piece_of[piece.codes] = number
        keys = {
            option: column_codes(column, [*sides.values()])
            for option, column in self._sides.keys._asdict().items()
            if column is not None
        }
        done, total = 0, sum(map(len, sides.values()))
        pieces_of_rows = [
            piece_of[np.minimum(codes, len(piece_of) - 1)] for codes in keys["within"]
        ]
        if self._known is not None:
            paths = [folder / f"{piece}-exclude.arrow" for piece in names]
            _write_known(paths, self._known, pieces_of_rows[0], pieces_of_rows[-1])
        for side, (name, dataset) in enumerate(sides.items()):
            of_rows = {option: codes[side] for option, codes in keys.items()}
            piece_of_row = pieces_of_rows[side]
            paths = [folder / f"{piece}-{name}.arrow" for piece in names]
            _write_side(paths, dataset, piece_of_row, of_rows)
            done += len(dataset)
            if told:
                told(done, total)


def _write_side(
    paths: Sequence[Path],
    dataset: Dataset,
    pieces: NDArray[np.int64],
    keys: Mapping[str, Codes],
) -> None:
    """The rows of each piece, with their numbers and keys, in its file."""
    import pyarrow as pa

    values = pa.from_numpy_dtype(dataset.dtype)
    vector = pa.list_(values, dataset.dim)
    fields = {VECTOR: vector, ROW: pa.int64()} | dict.fromkeys(keys, pa.uint32())
    schema = pa.schema(fields)
    for first in range(0, len(paths), _OPEN):
        with ExitStack() as files:
            writers = [
                files.enter_context(pa.ipc.new_file(files.enter_context(path.open("wb")), schema))
                for path in paths[first : first + _OPEN]
            ]
            for start, vectors in ahead(dataset.batches()):
                of_batch = pieces[start : start + len(vectors)] - first
                order = np.argsort(of_batch, kind="stable")
                ends = np.searchsorted(of_batch[order], np.arange(len(writers) + 1))
                for writer, *part in zip(writers, ends, ends[1:], strict=False):
                    chosen = order[slice(*part)]
                    if len(chosen) == 0:
                        continue
                    rows = start + chosen
                    columns = [
                        pa.FixedSizeListArray.from_arrays(
                            pa.array(vectors[chosen].ravel()), type=vector
                        ),
                        pa.array(rows),
                        *(
                            pa.array(codes[rows], mask=codes[rows] == NO_KEY)
                            for codes in keys.values()
                        ),
                    ]
                    writer.write_batch(pa.record_batch(columns, schema))


def _write_known(
    paths: Sequence[Path], known: Known, of_queries: NDArray[np.int64], of_items: NDArray[np.int64]
) -> None:
    """The pairs of rows of each piece in its file; those of two pieces are in none."""
    import pyarrow as pa
    import pyarrow.feather

    pieces = of_queries[known.queries]
    pieces = np.where(pieces == of_items[known.items], pieces, -1)
    for number, path in enumerate(paths):
        of_piece = pieces == number
        columns = {QUERY: known.queries[of_piece], ITEM: known.items[of_piece]}
        pa.feather.write_feather(pa.table(columns), path, compression="uncompressed")


def _beside(items: Path, name: str) -> Path:
    """Another file of the same piece."""
    return items.with_name(items.name.replace("-items.", f"-{name}."))


def _of_piece(
    told: Callable[[int, int], object], first: int, last: int, work: int
) -> Callable[[int, int], object]:
    """What is done of a piece, told as what is done of all."""

    def progress(done: int, total: int) -> Any:
        told(first + (last - first) * done // max(done, total, 1), work)

    return progress
