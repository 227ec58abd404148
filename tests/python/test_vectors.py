"""Columns and arrays become the engine's matrices: without a copy, or exactly."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from frames import arrow_vectors
from lshjoin.base.vectors import array_matrix, key_and_rows, key_matrix
from lshjoin.frames.adapters import open_frame

READABLE = [np.int8, np.uint8, np.float16, np.float32, np.float64]
INTS = [np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


def features(frame, dim=None):
    return open_frame(frame).features("x", dim)


@pytest.fixture
def rows(rng):
    return rng.integers(0, 100, (6, 4))


def list_column(rows, list_type=pa.list_):
    values = pa.array(rows.ravel())
    lists = [values[i : i + rows.shape[1]] for i in range(0, len(values), rows.shape[1])]
    return pa.array([part.to_pylist() for part in lists], list_type(values.type))


@pytest.mark.parametrize("dtype", READABLE)
@pytest.mark.parametrize("sliced", [False, True])
def test_fixed_size_lists_are_views(rows, dtype, sliced):
    rows = rows.astype(dtype)
    table = pa.table({"x": arrow_vectors(rows)})
    if sliced:
        rows, table = rows[2:5], table.slice(2, 3)
    matrix = features(table)
    assert matrix.dtype == dtype
    np.testing.assert_array_equal(matrix, rows)
    values = table.column("x").chunk(0).values.to_numpy(zero_copy_only=True)
    assert np.shares_memory(matrix, values)


@pytest.mark.parametrize("dtype", READABLE)
@pytest.mark.parametrize("list_type", [pa.list_, pa.large_list])
@pytest.mark.parametrize("sliced", [False, True])
def test_even_lists_are_views(rows, dtype, list_type, sliced):
    rows = rows.astype(dtype)
    table = pa.table({"x": list_column(rows, list_type)})
    if sliced:
        rows, table = rows[1:], table.slice(1)
    matrix = features(table)
    assert matrix.dtype == dtype
    np.testing.assert_array_equal(matrix, rows)
    values = table.column("x").chunk(0).values.to_numpy(zero_copy_only=True)
    assert np.shares_memory(matrix, values)


def test_polars_arrays_are_views(rows):
    for dtype in (np.float32, np.float64):
        frame = pl.DataFrame({"x": rows.astype(dtype)})
        assert isinstance(frame["x"].dtype, pl.Array)
        matrix = features(frame)
        np.testing.assert_array_equal(matrix, rows)
        address = pa.chunked_array(frame["x"]).chunk(0).values.buffers()[1].address
        assert matrix.ctypes.data == address
        lists = frame.select(pl.col("x").arr.to_list())
        np.testing.assert_array_equal(features(lists), rows)


def test_pandas_arrow_columns_are_views(rows):
    array = arrow_vectors(rows.astype(np.float32))
    frame = pd.DataFrame({"x": pd.arrays.ArrowExtensionArray(array)})
    matrix = features(frame)
    np.testing.assert_array_equal(matrix, rows)
    assert np.shares_memory(matrix, array.values.to_numpy())


def test_chunks_are_joined(rows):
    rows = rows.astype(np.float32)
    parts = [arrow_vectors(rows[:1]), arrow_vectors(rows[1:1]), arrow_vectors(rows[1:])]
    empty = pa.array([], parts[0].type)
    table = pa.table({"x": pa.chunked_array([empty, *parts])})
    np.testing.assert_array_equal(features(table), rows)


@pytest.mark.parametrize("dtype", READABLE)
def test_pandas_cells(rows, dtype):
    arrays = pd.DataFrame({"x": pd.Series(list(rows.astype(dtype)), dtype=object)})
    assert features(arrays).dtype == dtype
    np.testing.assert_array_equal(features(arrays), rows)
    lists = pd.DataFrame({"x": [[float(value) for value in row] for row in rows]})
    assert features(lists).dtype == np.float64
    np.testing.assert_array_equal(features(lists), rows)


@pytest.mark.parametrize("dtype", INTS)
def test_integers_are_widened_exactly(dtype):
    info = np.iinfo(dtype)
    limits = [max(info.min, -(2**53)), min(info.max, 2**53)]
    rows = np.array([limits, [0, 1]], dtype)
    wide = np.float32 if info.bits <= 16 else np.float64
    for matrix in (
        array_matrix(rows, "items"),
        features(pa.table({"x": arrow_vectors(rows)})),
        features(pd.DataFrame({"x": pd.Series(list(rows), dtype=object)})),
    ):
        assert matrix.dtype == wide
        assert [int(value) for value in matrix[0]] == limits


def test_integers_that_no_float_holds():
    for value in (2**53 + 1, -(2**53) - 1):
        with pytest.raises(ValueError, match=rf"{value} is beyond 2\*\*53"):
            array_matrix(np.array([[value, 0]]), "items")


@pytest.mark.parametrize("dtype", READABLE)
def test_arrays_that_fit_are_not_copied(rows, dtype):
    rows = rows.astype(dtype)
    assert array_matrix(rows, "items") is rows
    rows.flags.writeable = False
    assert np.shares_memory(array_matrix(rows, "items"), rows)


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x[::-1][::-1],
        lambda x: x.astype(x.dtype.newbyteorder()),
        lambda x: np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
        lambda x: x.tolist(),
        lambda x: pd.DataFrame(x),
        lambda x: pl.DataFrame(x),
    ],
    ids=["fortran", "strided", "reversed", "byte-swapped", "unaligned", "list", "pandas", "polars"],
)
def test_any_layout(rows, layout):
    rows = rows.astype(np.float32)
    matrix = array_matrix(layout(rows), "items")
    assert matrix.flags.c_contiguous
    assert matrix.flags.aligned
    assert matrix.dtype.isnative
    np.testing.assert_array_equal(matrix, rows)


def test_key_takes_the_type_of_the_rows():
    rows = np.ones((3, 2), np.float32)
    key, same = key_and_rows(key_matrix([0.5, 2]), rows)
    assert key.dtype == np.float32
    assert same is rows
    key, wide = key_and_rows(key_matrix([0.1, 2]), rows)  # 0.1 is not a float32
    assert key.dtype == wide.dtype == np.float64
    assert key[0, 0] == 0.1
    key, wide = key_and_rows(key_matrix([1e300, 2]), rows)
    assert key[0, 0] == 1e300
