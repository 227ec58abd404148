"""Estimators and models on disk, in the layout of Spark ML.

What Spark can express is written under Spark's class name and can be loaded by Spark, and the other
way round: Euclidean and Jaccard distance with one hash function a table. All else carries a class
name of ours, which Spark refuses, and functions for vectors their offsets.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from lshjoin.base.atomic import naming, sync
from lshjoin.base.paths import local_path
from lshjoin.base.places import StoragePath
from lshjoin.frames.params import ParamMap, Params

if TYPE_CHECKING:
    import pyarrow as pa
    from typing_extensions import Self

# The release whose layout is written.
_SPARK_VERSION = "4.0.5"

# Releases before this one wrote the rows of a matrix one after the other but declared them columns.
_DECLARES_LAYOUT = (3, 2)

# Of a model of unknown origin: metadata are names and a few numbers, and directions are random, so
# that no compression makes much less of them than there are, except where there are few.
_MOST_METADATA = 1 << 20
_FEW_VALUES = 1 << 20

Stored = TypeVar("Stored", bound="Storable")


class Storable(Params):
    """What can be saved and loaded."""

    #: The class of Spark's that reads and writes the same, if there is one.
    spark_class: ClassVar[str | None] = None

    def write(self) -> Writer:
        """A writer: ``write().overwrite().save(path)``."""
        return Writer(self)

    def save(self, path: StoragePath) -> None:
        """Saves to a directory that does not exist yet. FileExistsError when it does."""
        self.write().save(path)

    @classmethod
    def read(cls: type[Stored]) -> Reader[Stored]:
        """A reader: ``read().load(path)``."""
        return Reader(cls)

    @classmethod
    def load(cls: type[Stored], path: StoragePath) -> Stored:
        """Loads what ``save``, or Spark, wrote. FileNotFoundError when there is nothing."""
        return cls.read().load(path)

    @classmethod
    def _own_class(cls) -> str:
        return f"lshjoin.{cls.__name__}"

    @classmethod
    def _class_names(cls) -> list[str]:
        """What may be loaded: lshjoin.spark has a name of its own for what Spark has not."""
        sparks = [cls.spark_class] if cls.spark_class else []
        return [*sparks, cls._own_class(), f"lshjoin.spark.{cls.__name__}"]

    def _is_sparks(self) -> bool:
        """Whether Spark can express it."""
        raise NotImplementedError

    def _save_data(self, directory: Path) -> None:
        """Writes what is not a parameter."""

    @classmethod
    def _blank(cls, uid: str) -> Self:
        """An instance with the parameters that its class gives it."""
        raise NotImplementedError

    def _load_data(self, directory: Path, spark_version: str) -> None:
        """Reads what ``_save_data`` wrote, or a release of Spark, once parameters are set."""


class Writer:
    """Saves an estimator or a model."""

    def __init__(self, instance: Storable) -> None:
        self._instance = instance
        self._overwrite = False

    def overwrite(self) -> Writer:
        """Lets ``save`` replace what is there."""
        self._overwrite = True
        return self

    def save(self, path: StoragePath) -> None:
        """Writes to a new directory, then moves it into place: no half-written model is left.

        FileExistsError for what is there, which ``overwrite`` replaces only if it is a model or an
        estimator.
        """
        target = local_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        _settle(target)
        self._check_replaceable(target)
        scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            with naming(target):
                scratch.mkdir()
                _write_metadata(self._instance, scratch / "metadata")
                self._instance._save_data(scratch / "data")
                for file in scratch.rglob("*"):
                    sync(file)
            self._check_replaceable(target)
            if target.exists():
                target.rename(_replaced(target))
            scratch.rename(target)
            sync(target.parent)
        finally:
            _settle(target)
            shutil.rmtree(scratch, ignore_errors=True)

    def _check_replaceable(self, target: Path) -> None:
        if not os.path.lexists(target):
            return
        if not self._overwrite:
            raise FileExistsError(
                f"Path {target} already exists. To overwrite it, please use "
                f"write().overwrite().save({str(target)!r})"
            )
        if not _is_saved(target):
            raise FileExistsError(
                f"{target} is no saved model or estimator, or holds more than that; delete it, or "
                "choose another path"
            )


def _replaced(target: Path) -> Path:
    """Where a model is while another takes its place."""
    return target.with_name(f".{target.name}.replaced")


def _is_saved(target: Path) -> bool:
    """Whether it is what a save writes, or an empty directory."""
    try:
        names = {entry.name for entry in target.iterdir()}
        if names:
            _read_metadata(target / "metadata")
        return names <= {"metadata", "data"}
    except (OSError, ValueError):
        return False


def _settle(target: Path) -> None:
    """Ends what a kill left of a replacement: the old model goes back, or away."""
    replaced = _replaced(target)
    if replaced.is_dir():
        if target.exists():
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            replaced.rename(target)


class Reader(Generic[Stored]):
    """Loads an estimator or a model."""

    def __init__(self, cls: type[Stored]) -> None:
        self._cls = cls

    def load(self, path: StoragePath) -> Stored:
        """Reads a directory, whoever it comes from.

        Raises:
            FileNotFoundError: when there is nothing.
            ValueError: for another class, and for what nobody saved; names the file.
        """
        directory = local_path(path)
        if not directory.exists() and _replaced(directory).is_dir():
            directory = _replaced(directory)  # a save was killed that was about to replace it
        file, metadata = _read_metadata(directory / "metadata")
        names = self._cls._class_names()
        if metadata["class"] not in names:
            raise ValueError(
                f"{file}: Error loading metadata: Expected class name {names[0]} "
                f"but found class name {metadata['class']:.100}"
            )
        with _named(file):
            instance = self._cls._blank(metadata["uid"])
            # Spark before 2.4 kept defaults and values in one map.
            instance._setDefault(**metadata.get("defaultParamMap", {}))
            instance._set(**metadata["paramMap"])
        with _named(directory / "data"):
            instance._load_data(directory / "data", metadata["sparkVersion"])
        return instance


def write_functions(
    directory: Path, directions: NDArray[np.float64], offsets: NDArray[np.float64] | None
) -> None:
    """Writes hash functions, a row each, as Spark's matrix ``randUnitVectors``."""
    import pyarrow as pa

    rows, columns = directions.shape
    matrix = {
        "type": 1,  # dense
        "numRows": rows,
        "numCols": columns,
        "values": directions.ravel(),
        "isTransposed": True,  # row after row
    }
    int_list = pa.list_(pa.field("element", pa.int32(), nullable=False))
    double_list = pa.list_(pa.field("element", pa.float64(), nullable=False))
    struct = pa.struct(
        [
            pa.field("type", pa.int8(), nullable=False),
            pa.field("numRows", pa.int32(), nullable=False),
            pa.field("numCols", pa.int32(), nullable=False),
            pa.field("colPtrs", int_list),
            pa.field("rowIndices", int_list),
            pa.field("values", double_list),
            pa.field("isTransposed", pa.bool_(), nullable=False),
        ]
    )
    table = pa.table({"randUnitVectors": pa.array([matrix], struct)})
    types: list[object] = [_SPARK_MATRIX]
    if offsets is not None:
        table = table.append_column("offsets", pa.array([offsets], double_list))
        types.append(_spark_array("double"))
    _write_row(directory, table, types)


def write_coefficients(directory: Path, coefficients: NDArray[np.int32]) -> None:
    """Writes the pairs (a, b) of MinHash functions as Spark's list ``randCoefficients``."""
    import pyarrow as pa

    int_list = pa.list_(pa.field("element", pa.int32(), nullable=False))
    table = pa.table({"randCoefficients": pa.array([coefficients.ravel()], int_list)})
    _write_row(directory, table, [_spark_array("integer")])


def _write_row(directory: Path, table: pa.Table, types: list[object]) -> None:
    """Writes the one row of a model's data, of columns of these types of Spark's."""
    import pyarrow.parquet as pq

    # Spark looks here for columns and their types: a plain struct is no matrix to it.
    fields = [
        _spark_field(name, spark_type, True)
        for name, spark_type in zip(table.column_names, types, strict=True)
    ]
    table = table.replace_schema_metadata(
        {
            "org.apache.spark.version": _SPARK_VERSION,
            "org.apache.spark.sql.parquet.row.metadata": json.dumps(
                {"type": "struct", "fields": fields}
            ),
        }
    )
    directory.mkdir()
    pq.write_table(table, directory / "part-00000.snappy.parquet")
    (directory / "_SUCCESS").touch()


def read_functions(
    directory: Path, spark_version: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hash functions, a row each, and their offsets, which are 0 in what Spark wrote."""
    row = _read_row(directory, ["randUnitVectors", "offsets"])
    matrix = row["randUnitVectors"]
    if matrix["type"] != 1:
        raise ValueError(f"{directory} holds a sparse matrix; hash functions are dense")
    shape = (matrix["numRows"], matrix["numCols"])
    directions = dense_rows(matrix["values"], shape, matrix["isTransposed"], spark_version)
    offsets = np.array(row.get("offsets", np.zeros(shape[0])), np.float64)
    return directions, offsets


def read_coefficients(directory: Path) -> NDArray[np.int32]:
    """The pairs (a, b) of MinHash functions, which Spark wrote or :func:`write_coefficients`."""
    row = _read_row(directory, ["randCoefficients"])
    return pairs_of_coefficients(row["randCoefficients"])


def pairs_of_coefficients(values: Sequence[int]) -> NDArray[np.int32]:
    """The list of a's and b's as pairs."""
    if len(values) % 2:
        raise ValueError(f"{len(values)} coefficients are no pairs")
    return np.array(values, np.int32).reshape(-1, 2)


def dense_rows(
    values: Sequence[float] | NDArray[np.float64],
    shape: tuple[int, int],
    is_transposed: bool,
    spark_version: str,
) -> NDArray[np.float64]:
    """The rows of a dense matrix that a release of Spark wrote; transposed is row after row."""
    rows, columns = shape
    if min(rows, columns) < 1 or len(values) != rows * columns:
        raise ValueError(f"{len(values)} values are no matrix of {rows} x {columns}")
    version = tuple(int(part) for part in spark_version.split(".")[:2])
    by_rows = is_transposed or version < _DECLARES_LAYOUT
    matrix = np.array(values, np.float64).reshape(shape, order="C" if by_rows else "F")
    return np.ascontiguousarray(matrix)


def _write_metadata(instance: Storable, directory: Path) -> None:
    sparks = instance._is_sparks()

    def by_name(values: ParamMap) -> dict[str, Any]:
        names = {param.name: value for param, value in values.items()}
        if sparks:  # Spark refuses parameters that it has not
            names.pop("numHashFunctions", None)
        return names

    metadata = {
        "class": instance.spark_class if sparks else instance._own_class(),
        "timestamp": int(time.time() * 1000),
        "sparkVersion": _SPARK_VERSION,
        "uid": instance.uid,
        "paramMap": by_name(instance._paramMap),
        "defaultParamMap": by_name(instance._defaultParamMap),
    }
    directory.mkdir()
    (directory / "part-00000").write_text(json.dumps(metadata) + "\n", encoding="utf-8")
    (directory / "_SUCCESS").touch()


def _read_metadata(directory: Path) -> tuple[Path, dict[str, Any]]:
    """The file of the metadata, and what Spark writes there."""
    for part in _files(directory, "part-*"):
        with _named(part), part.open("rb") as file:
            line = file.readline(_MOST_METADATA + 1)
            if line:
                return part, _metadata(line)
    raise FileNotFoundError(f"Path does not exist: {directory}")


def _metadata(line: bytes) -> dict[str, Any]:
    if len(line) > _MOST_METADATA:
        raise ValueError(f"metadata of more than {_MOST_METADATA} bytes")
    metadata = json.loads(line)
    json.dumps(metadata, ensure_ascii=False).encode()  # half a surrogate is no text
    if not isinstance(metadata, dict):
        raise ValueError("metadata are not a JSON object")
    metadata.setdefault("defaultParamMap", {})
    for name, kind in (
        ("class", str),
        ("uid", str),
        ("sparkVersion", str),
        ("paramMap", dict),
        ("defaultParamMap", dict),
    ):
        if not isinstance(metadata.get(name), kind):
            raise ValueError(f"{name} is {metadata.get(name)!r:.100}, not a {kind.__name__}")
    return metadata


def _read_row(directory: Path, columns: list[str]) -> dict[str, Any]:
    """The one row of a model's data."""
    parts = _files(directory, "part-*.parquet")
    if not parts:
        raise FileNotFoundError(f"Path does not exist: {directory}/part-*.parquet")
    # Spark's one row may come with part files that hold none.
    rows = [row for part in parts for row in _read_rows(part, columns)]
    if len(rows) != 1:
        raise ValueError(f"{directory} must hold one row but holds {len(rows)}")
    return rows[0]


def _read_rows(part: Path, names: list[str]) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    with _named(part), pq.ParquetFile(part) as file:
        metadata = file.metadata
        groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
        values = sum(
            group.column(column).num_values
            for group in groups
            for column in range(group.num_columns)
        )
        # A few bytes can stand for any number of equal values.
        if metadata.num_rows > 1 or values > max(part.stat().st_size, _FEW_VALUES):
            raise ValueError(f"{metadata.num_rows} rows of {values} values are no model")
        rows: list[dict[str, Any]] = file.read(names).to_pylist()
        return rows


def _files(directory: Path, pattern: str) -> list[Path]:
    """The files of these names. ValueError where there is something else.

    In a directory of unknown origin a pipe could block, a device never end, a link lead elsewhere.
    """
    if directory.is_symlink():
        raise ValueError(f"{directory} is a link; what was saved lies in its directory itself")
    files = sorted(directory.glob(pattern))
    for file in files:
        if file.is_symlink() or not file.is_file():
            raise ValueError(f"{file} is not a regular file")
    return files


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Makes of what goes wrong with the contents of a file a ValueError that names it."""
    import pyarrow as pa

    try:
        yield
    except MemoryError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(f"{file}: {error!s:.300}") from error
    except ValueError as error:
        if str(file) in str(error):
            raise
        raise ValueError(f"{file}: {error!s:.300}") from error
    except (pa.ArrowException, ArithmeticError, LookupError, RecursionError, TypeError) as error:
        raise ValueError(f"{file}: it is not what was saved: {error!s:.300}") from error


def _spark_field(name: str, spark_type: object, nullable: bool) -> dict[str, object]:
    return {"name": name, "type": spark_type, "nullable": nullable, "metadata": {}}


def _spark_array(element: str) -> dict[str, object]:
    return {"type": "array", "elementType": element, "containsNull": False}


_SPARK_MATRIX = {
    "type": "udt",
    "class": "org.apache.spark.ml.linalg.MatrixUDT",
    "pyClass": "pyspark.ml.linalg.MatrixUDT",
    "sqlType": {
        "type": "struct",
        "fields": [
            _spark_field("type", "byte", False),
            _spark_field("numRows", "integer", False),
            _spark_field("numCols", "integer", False),
            _spark_field("colPtrs", _spark_array("integer"), True),
            _spark_field("rowIndices", _spark_array("integer"), True),
            _spark_field("values", _spark_array("double"), True),
            _spark_field("isTransposed", "boolean", False),
        ],
    },
}
