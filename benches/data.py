"""Rows to join: from files of the usual formats, with their exact neighbours and statistics."""

import tempfile
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers import unit
from recall import Truth

K = 10
CACHE = Path(tempfile.gettempdir()) / "lshjoin-bench"
Rows = NDArray[np.float32]


class Data:
    """Rows in files for the processes that are measured, and their exact neighbours."""

    def __init__(
        self, name: str, items: Rows, queries: Rows | None = None, metric: str = "euclidean"
    ):
        self.name, self.items, self.queries, self.metric = name, items, queries, metric
        self.items_file = _saved(items)
        self.queries_file = None if queries is None else _saved(queries)

    def __str__(self) -> str:
        asked = "self-join" if self.queries is None else f"{len(self.queries):,} queries"
        rows, dimensions = self.items.shape
        metric = "" if self.metric == "euclidean" else f", {self.metric}"
        return f"{self.name}, {rows:,} x {dimensions} float32, {asked}{metric}"

    @cached_property
    def truth(self) -> Truth:
        sides = [path.stem for path in (self.items_file, self.queries_file) if path]
        kept = CACHE / f"{'-'.join(sides)}.{self.metric}{K}.npz"
        if not kept.exists():
            np.savez(kept, **vars(Truth.of(*self._measured, K, seed=0)))
        return Truth(**np.load(kept))

    def recall(self, found: NDArray[Any]) -> float:
        return self.truth.recall(*self._measured, found)

    @cached_property
    def _measured(self) -> tuple[Rows, Rows | None]:
        """Rows whose Euclidean distances are in the order of the metric's."""
        if self.metric == "euclidean":
            return self.items, self.queries
        return unit(self.items), None if self.queries is None else unit(self.queries)

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """How hard the rows are: the spectrum, the contrast and the intrinsic dimension."""
        items, queries = self._measured
        rng = np.random.default_rng(0)
        some = items[rng.choice(len(items), min(len(items), 20_000), replace=False)]
        variances = np.linalg.eigvalsh(np.cov(some, rowvar=False))[::-1]
        shares = np.cumsum(variances) / variances.sum()
        near = self.truth.distances
        asked = (items if queries is None else queries)[self.truth.sample]
        others = items[rng.integers(len(items), size=len(asked))]
        random_pair = np.linalg.norm(asked.astype(float) - others, axis=1).mean()
        return {
            "variance_of_leading_axes": {
                axes: float(shares[axes - 1]) for axes in (16, 64, 128) if axes < len(shares)
            },
            "contrast": float(random_pair / near[:, -1].mean()),
            "intrinsic_dimension": intrinsic_dimension(near),
        }


def intrinsic_dimension(distances: NDArray[np.float64]) -> float:
    """The maximum-likelihood estimate of Levina and Bickel (2004), averaged as MacKay and
    Ghahramani have it, from the sorted distances to the nearest neighbours of each row."""
    last = distances[:, -1:]
    with np.errstate(divide="ignore"):
        logs = np.log(last / distances[:, :-1])
    return float(1 / logs[np.isfinite(logs)].mean())


def read(path: Path) -> Data:
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
        return _read_hdf5(path)
    if path.suffix not in readers:
        raise ValueError(f"{path}: not one of {', '.join(readers)}, .hdf5")
    return Data(path.name, _float32(readers[path.suffix](path), path))


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


def _read_hdf5(path: Path) -> Data:
    import h5py

    with h5py.File(path) as file:
        distance = file.attrs["distance"]
        if distance not in ("euclidean", "angular"):
            raise ValueError(f"{path}: distance {distance}, not euclidean or angular")
        items, queries = (_float32(file[side][:], path) for side in ("train", "test"))
    metric = "cosine" if distance == "angular" else "euclidean"
    return Data(path.name, items, queries, metric)


def _float32(rows: NDArray[Any], path: Path) -> Rows:
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise ValueError(f"{path}: {rows.dtype} {rows.shape} is not a matrix of numbers")
    return np.ascontiguousarray(rows, dtype=np.float32)


def _saved(rows: Rows) -> Path:
    CACHE.mkdir(exist_ok=True)
    path = CACHE / f"{blake2b(rows, digest_size=16).hexdigest()}.npy"
    if not path.exists():
        np.save(path, rows)
    return path
