"""Rows of files in the usual formats."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches.data.dataset import Data, K
from benches.data.rows import Rows


def read(path: Path, k: int = K) -> Data:
    """.npy, .fvecs, .bvecs, Parquet (its first column of lists), or ann-benchmarks' .hdf5.

    The last brings its queries and its metric; the others are joined with themselves.
    """
    readers = {
        ".npy": np.load,
        ".fvecs": lambda path: read_vecs(path, np.dtype("<f4")),
        ".bvecs": lambda path: read_vecs(path, np.dtype("u1")),
        ".parquet": _read_parquet,
    }
    if path.suffix in (".hdf5", ".h5"):
        return _read_hdf5(path, k)
    if path.suffix not in readers:
        raise ValueError(f"{path}: not one of {', '.join(readers)}, .hdf5")
    return Data(path.name, _float32(readers[path.suffix](path), path), k=k)


def read_vecs(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Vectors of the TEXMEX formats: each after its dimension, an int32."""
    raw = np.fromfile(path, np.uint8)
    if len(raw) < 4:
        raise ValueError(f"{path}: {len(raw)} bytes are too few for a vector")
    dimensions = int(raw[:4].view("<i4")[0])
    row_bytes = 4 + dimensions * dtype.itemsize
    if dimensions < 1 or len(raw) % row_bytes:
        raise ValueError(
            f"{path}: its {len(raw)} bytes are not a number of vectors of {dimensions} values"
        )
    rows = raw.reshape(-1, row_bytes)
    other = np.flatnonzero((rows[:, :4] != rows[0, :4]).any(axis=1))
    if len(other):
        raise ValueError(f"{path}: vector {other[0]} is not of {dimensions} values")
    return np.ascontiguousarray(rows[:, 4:]).view(dtype)


def _read_parquet(path: Path) -> NDArray[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from lshjoin.base.vectors import column_matrix

    schema = pq.read_schema(path)
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    for column in schema:
        if any(is_list(column.type) for is_list in lists):
            table = pq.read_table(path, columns=[column.name])
            return column_matrix(table.column(0), column.name)
    raise ValueError(f"{path}: no column of lists among {', '.join(schema.names)}")


def _read_hdf5(path: Path, k: int) -> Data:
    import h5py

    with h5py.File(path) as file:
        distance = file.attrs["distance"]
        if distance not in ("euclidean", "angular"):
            raise ValueError(f"{path}: distance {distance}, not euclidean or angular")
        items, queries = (_float32(file[side][:], path) for side in ("train", "test"))
    metric = "cosine" if distance == "angular" else "euclidean"
    return Data(path.name, items, queries, metric, k=k)


def _float32(rows: NDArray[Any], path: Path) -> Rows:
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise ValueError(f"{path}: {rows.dtype} {rows.shape} is not a matrix of numbers")
    return np.ascontiguousarray(rows, dtype=np.float32)
