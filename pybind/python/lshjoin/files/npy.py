"""Rows of .npy files: mapped, or read from where a filesystem has them."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lshjoin.base.places import Place, StoredFile

if TYPE_CHECKING:
    import pyarrow as pa


def npy_header(file: Place) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and dtype of its array. ValueError for what is no .npy file."""
    if isinstance(file, Path):
        array = _mapped(file)
        return array.shape, array.dtype
    shape, dtype, _ = _stored_header(file)
    return shape, dtype


def npy_rows(file: Place, start: int, stop: int) -> NDArray[Any]:
    """Some rows of a 2-D array, fewer where it has become shorter."""
    if isinstance(file, Path):
        # Mapped anew each time, so that what was read does not stay resident.
        return np.array(_mapped(file)[start:stop])
    shape, dtype, begin = _stored_header(file)
    stop = min(stop, shape[0])
    of_row = shape[1] * dtype.itemsize
    with _opened(file) as opened:
        opened.seek(begin + start * of_row)
        read = opened.read(max(stop - start, 0) * of_row)
    if len(read) != max(stop - start, 0) * of_row:
        raise ValueError(f"{file} is not a readable .npy file: it ends before its last row")
    return np.frombuffer(read, dtype).reshape(-1, shape[1])


def _mapped(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except MemoryError:
        raise
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError(f"there is no memory to map {path}") from None
        raise
    except Exception as error:  # of all kinds, of NumPy's reading of a header that is damaged
        raise ValueError(f"{path} is not a readable .npy file: {error}") from None
    return array


def _stored_header(file: StoredFile) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype, and where the values begin."""
    with _opened(file) as opened:
        try:
            version = np.lib.format.read_magic(opened)
            read = np.lib.format.read_array_header_2_0
            if version == (1, 0):
                read = np.lib.format.read_array_header_1_0
            shape, is_fortran, dtype = read(opened)
            if dtype.hasobject:
                raise ValueError("it holds Python objects")
            if is_fortran:
                raise ValueError("its columns lie together; write np.ascontiguousarray of it")
            if opened.size() < opened.tell() + math.prod(shape) * dtype.itemsize:
                raise ValueError("it ends before its last row")
        except OSError:
            raise
        except Exception as error:  # as above
            raise ValueError(f"{file} is not a readable .npy file: {error}") from None
        return shape, dtype, opened.tell()


@contextmanager
def _opened(file: StoredFile) -> Iterator[pa.NativeFile]:
    try:
        with file.open() as opened:
            yield opened
    except OSError as error:
        raise OSError(f"{file} could not be read: {error}") from None
