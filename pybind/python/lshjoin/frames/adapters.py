"""Data frames in, the same kind out: pandas, polars, pyarrow.

A library is looked at only when it is already imported: a frame of it cannot exist otherwise.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lshjoin.base import vectors
from lshjoin.base.columns import pieces
from lshjoin.base.sets import sparse_table
from lshjoin.errors import RowError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from typing_extensions import Self

    from lshjoin._lshjoin import Floats, Matrix

Dataset = TypeVar("Dataset")
Rows = NDArray[np.int64]


class Frame(ABC):
    """What the estimators ask of a data frame."""

    kind: str
    data: Any

    def __init__(self, data: Any) -> None:
        self.data = data

    @property
    def columns(self) -> list[str]:
        """Column names."""
        return list(self.data.columns)

    def features(self, name: str, dim: int | None = None, *, bits: bool = False) -> Matrix:
        """The vectors in a column, of ``dim`` elements if given, or packed ``bits``."""
        read = vectors.packed_series if bits else vectors.series_matrix
        return read(self.column(name), name, dim)

    def column(self, name: str) -> object:
        """The column of this name, as the library has it."""
        matches = self.columns.count(name)
        if matches != 1:
            fields = ", ".join(f"`{column}`" for column in self.columns)
            problem = "No such struct field" if matches == 0 else "More than one struct field"
            raise ValueError(f"{problem} `{name}` in {fields}.")
        return self._column(name)

    def check_absent(self, name: str) -> None:
        """Refuses to add a column over another."""
        if name in self.columns:
            raise ValueError(f"Column {name} already exists.")

    @abstractmethod
    def _column(self, name: str) -> object: ...

    @abstractmethod
    def take(self, rows: Rows) -> Self:
        """The rows at these positions, in this order."""

    @abstractmethod
    def take_or_null(self, rows: Rows) -> Self:
        """The rows at these positions, in this order, and a row of nulls for each -1."""

    @abstractmethod
    def arrow_column(self, name: str) -> pa.ChunkedArray:
        """A column as Arrow has it; NaN of pandas is null."""

    @abstractmethod
    def select(self, names: Mapping[str, str]) -> Self:
        """These columns, each under the name that it is mapped to."""

    @abstractmethod
    def with_hashes(self, name: str, hashes: NDArray[np.int32]) -> Self:
        """With a column list<list<double>>: per table, one vector of bucket ids."""

    @abstractmethod
    def with_distances(self, name: str, distances: Floats) -> Self:
        """With a column of distances, in the place of one of that name."""

    @abstractmethod
    def pair(self, other: Self, dist_col: str, distances: Floats) -> Self:
        """Row by row: this one as ``datasetA``, the other as ``datasetB``, and the distance."""

    @abstractmethod
    def beside(self, other: Self, dist_col: str, distances: Floats) -> Self:
        """Row by row: its columns, those of the other, and the distance, null where it is NaN."""


class ArrowFrame(Frame):
    """pyarrow, and whatever else hands its columns over through the Arrow C interface."""

    kind = "pyarrow"
    data: pa.Table

    @property
    def columns(self) -> list[str]:
        return list(self.data.column_names)

    def _column(self, name: str) -> object:
        return self.data.column(name)

    def take(self, rows: Rows) -> Self:
        import pyarrow as pa

        parts = pieces(self.data.columns, rows)
        return type(self)(pa.concat_tables([self.data.take(part) for part in parts]))

    def take_or_null(self, rows: Rows) -> Self:
        import pyarrow as pa

        parts = [pa.array(part, mask=part < 0) for part in pieces(self.data.columns, rows)]
        return type(self)(pa.concat_tables([self.data.take(part) for part in parts]))

    def arrow_column(self, name: str) -> pa.ChunkedArray:
        return self.data.column(name)

    def select(self, names: Mapping[str, str]) -> Self:
        return type(self)(self.data.select(list(names)).rename_columns(list(names.values())))

    def with_hashes(self, name: str, hashes: NDArray[np.int32]) -> Self:
        return type(self)(self.data.append_column(name, arrow_hashes(hashes)))

    def with_distances(self, name: str, distances: Floats) -> Self:
        if name in self.columns:
            table = self.data.set_column(self.columns.index(name), name, [distances])
        else:
            table = self.data.append_column(name, [distances])
        return type(self)(table)

    def pair(self, other: Self, dist_col: str, distances: Floats) -> Self:
        import pyarrow as pa

        def struct(table: pa.Table) -> pa.ChunkedArray:
            # Table.to_struct_array fails on empty tables before pyarrow 21.
            batches = [batch.to_struct_array() for batch in table.to_batches()]
            return pa.chunked_array(batches, pa.struct(list(table.schema)))

        columns = [struct(self.data), struct(other.data), distances]
        return type(self)(pa.table(columns, names=["datasetA", "datasetB", dist_col]))

    def beside(self, other: Self, dist_col: str, distances: Floats) -> Self:
        import pyarrow as pa

        columns = [*self.data.columns, *other.data.columns, pa.array(distances, from_pandas=True)]
        return type(self)(pa.table(columns, names=[*self.columns, *other.columns, dist_col]))


class PolarsFrame(Frame):
    """polars."""

    kind = "polars"
    data: pl.DataFrame

    def _column(self, name: str) -> object:
        return self.data.get_column(name)

    def take(self, rows: Rows) -> Self:
        if self.data.width == 0:  # then polars has no rows either
            return self
        # polars ends the process where memory does not suffice; NumPy raises.
        of_row = self.data.estimated_size() / max(len(self.data), 1)
        np.empty(int(of_row * len(rows)), np.uint8)
        return type(self)(self.data[rows])

    def take_or_null(self, rows: Rows) -> Self:
        import polars as pl

        found = rows >= 0
        if found.all():
            return self.take(rows)
        places = np.where(found, np.cumsum(found) - 1, -1)
        taken = self.take(rows[found]).data
        index = pl.Series(places).replace(-1, None)
        return type(self)(taken.select(pl.all().gather(index)))

    def arrow_column(self, name: str) -> pa.ChunkedArray:
        import pyarrow as pa

        return pa.chunked_array([self.data.get_column(name).to_arrow()])

    def select(self, names: Mapping[str, str]) -> Self:
        import polars as pl

        # By get_column, since select() takes some names for patterns.
        return type(self)(
            pl.DataFrame([self.data.get_column(old).alias(new) for old, new in names.items()])
        )

    def with_hashes(self, name: str, hashes: NDArray[np.int32]) -> Self:
        import polars as pl

        return type(self)(self.data.with_columns(pl.Series(name, arrow_hashes(hashes))))

    def with_distances(self, name: str, distances: Floats) -> Self:
        import polars as pl

        return type(self)(self.data.with_columns(pl.Series(name, distances)))

    def pair(self, other: Self, dist_col: str, distances: Floats) -> Self:
        import polars as pl

        return type(self)(
            pl.DataFrame(
                [
                    self.data.to_struct("datasetA"),
                    other.data.to_struct("datasetB"),
                    pl.Series(dist_col, distances),
                ]
            )
        )

    def beside(self, other: Self, dist_col: str, distances: Floats) -> Self:
        import polars as pl

        distance = pl.Series(dist_col, distances, nan_to_null=True)
        return type(self)(pl.DataFrame([*self.data, *other.data, distance]))


class PandasFrame(Frame):
    """pandas; structs become pairs of column names such as ``("datasetA", "id")``."""

    kind = "pandas"
    data: pd.DataFrame

    def _column(self, name: str) -> object:
        return self.data[name]

    def take(self, rows: Rows) -> Self:
        import pandas as pd

        parts = [self.data.take(part) for part in self._pieces(rows)]
        return type(self)(parts[0] if len(parts) == 1 else pd.concat(parts))

    def take_or_null(self, rows: Rows) -> Self:
        import pandas as pd

        numbered = self.data.reset_index(drop=True)  # in which there is no row -1
        parts = [numbered.reindex(part) for part in self._pieces(rows)]
        return type(self)(parts[0] if len(parts) == 1 else pd.concat(parts))

    def _pieces(self, rows: Rows) -> list[Rows]:
        import pandas as pd

        columns = [column for _, column in self.data.items()]
        of_arrow = [
            column.array.__arrow_array__()
            for column in columns
            if isinstance(column.dtype, pd.ArrowDtype)
        ]
        return pieces(of_arrow, rows)

    def arrow_column(self, name: str) -> pa.ChunkedArray:
        import pyarrow as pa

        values = pa.array(self.data[name], from_pandas=True)  # in chunks where pandas has them so
        return values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])

    def select(self, names: Mapping[str, str]) -> Self:
        return type(self)(self.data[list(names)].set_axis(list(names.values()), axis=1))

    def with_hashes(self, name: str, hashes: NDArray[np.int32]) -> Self:
        import pandas as pd

        # Arrow's lists rather than Python's: a Python list and float for every bucket id would
        # take some ten times the memory.
        array = pd.arrays.ArrowExtensionArray(arrow_hashes(hashes))
        return type(self)(self.data.assign(**{name: array}))

    def with_distances(self, name: str, distances: Floats) -> Self:
        return type(self)(self.data.assign(**{name: distances}))

    def pair(self, other: Self, dist_col: str, distances: Floats) -> Self:
        import pandas as pd

        parts = {
            "datasetA": self.data.reset_index(drop=True),
            "datasetB": other.data.reset_index(drop=True),
        }
        joined = pd.concat(parts, axis=1)
        joined[(dist_col, "")] = distances
        return type(self)(joined)

    def beside(self, other: Self, dist_col: str, distances: Floats) -> Self:
        import pandas as pd

        others = other.data.set_axis(self.data.index, axis=0)
        return type(self)(pd.concat([self.data, others], axis=1).assign(**{dist_col: distances}))


def open_frame(dataset: object, name: str = "dataset") -> Frame:
    """The adapter for a data frame. TypeError for anything else."""
    if (pandas := sys.modules.get("pandas")) and isinstance(dataset, pandas.DataFrame):
        return PandasFrame(dataset)
    if polars := sys.modules.get("polars"):
        if isinstance(dataset, polars.DataFrame):
            return PolarsFrame(dataset)
        if isinstance(dataset, polars.LazyFrame):
            raise TypeError(f"{name} is a polars LazyFrame; pass {name}.collect()")
    if (sparse := sys.modules.get("scipy.sparse")) and sparse.issparse(dataset):
        return ArrowFrame(sparse_table(dataset))
    if hasattr(dataset, "__arrow_c_stream__") or hasattr(dataset, "__arrow_c_array__"):
        import pyarrow as pa

        return ArrowFrame(dataset if isinstance(dataset, pa.Table) else pa.table(dataset))
    cls = type(dataset)
    raise TypeError(
        f"{name} must be a pandas or polars DataFrame, a pyarrow Table or another holder of Arrow "
        f"columns, but is a {cls.__module__}.{cls.__qualname__}; "
        "for NumPy arrays use lshjoin.knn_join and lshjoin.radius_join"
    )


def open_pair(
    a: object, b: object, names: tuple[str, str] = ("datasetA", "datasetB")
) -> tuple[Frame, Frame]:
    """The adapters for the two sides of a join; one and the same for a self-join."""
    frame_a = open_frame(a, names[0])
    frame_b = frame_a if b is a else open_frame(b, names[1])
    if frame_a.kind != frame_b.kind:
        raise TypeError(
            f"{names[0]} is a {frame_a.kind} frame but {names[1]} is a {frame_b.kind} one; "
            "convert one of them"
        )
    return frame_a, frame_b


def vectors_of(
    frames: tuple[Frame, Frame], on: str, names: tuple[str, str], *, bits: bool = False
) -> tuple[Matrix, Matrix]:
    """The vectors of both sides; those of one without rows are as long as the other's."""
    first, second = frames
    a = side_vectors(first, names[0], on, bits=bits)
    b = a if second is first else side_vectors(second, names[1], on, bits=bits)
    if len(a) == 0:
        a = first.features(on, b.shape[1], bits=bits)
    elif len(b) == 0:
        b = second.features(on, a.shape[1], bits=bits)
    return a, b


def side_vectors(frame: Frame, name: str, on: str, *, bits: bool = False) -> Matrix:
    """The vectors of one side, or packed ``bits``; errors say which side it is."""
    _check_there(frame, name, on)
    try:
        return frame.features(on, bits=bits)
    except RowError as error:
        error.args, error.side = (f"{name}: {error}",), name
        raise


def side_column(frame: Frame, name: str, column: str) -> pa.ChunkedArray:
    """A column of one side; errors say which it is."""
    _check_there(frame, name, column)
    return frame.arrow_column(column)


def _check_there(frame: Frame, name: str, column: str) -> None:
    if (count := frame.columns.count(column)) != 1:
        there = ", ".join(map(repr, frame.columns))
        raise ValueError(f"{name} has {count or 'no'} columns {column!r}; there are {there}")


@contextmanager
def naming_sides(queries: str, items: str) -> Iterator[None]:
    """Has errors about a row of queries or items say the names that these have for the user."""
    try:
        yield
    except RowError as error:
        name = queries if error.side == "queries" else items
        error.args = (str(error).replace(f" of {error.side}", f" of {name}", 1),)
        error.side = name
        raise


@contextmanager
def memory_for(pairs: int) -> Iterator[None]:
    """Adds to a MemoryError what there was no memory for, and a way out."""
    try:
        yield
    except MemoryError as error:
        raise MemoryError(
            f"there is no memory for frames of {pairs} pairs ({error}): pass frames of the columns "
            "that are asked for, a key among them, or join them in parts"
        ) from error


def arrow_hashes(hashes: NDArray[np.int32]) -> pa.ListArray:
    """Bucket ids (rows, tables, functions) as list<list<double>>, the shape and type of Spark's."""
    import pyarrow as pa

    rows, tables, functions = hashes.shape
    values = pa.array(hashes.ravel().astype(np.float64))
    for count, length in ((rows * tables, functions), (rows, tables)):
        offsets = np.arange(count + 1, dtype=np.int64) * length
        if offsets[-1] > np.iinfo(np.int32).max:
            raise ValueError(
                f"{hashes.size} bucket ids do not fit one Arrow list column; "
                "transform the frame in parts"
            )
        values = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)
    return values
