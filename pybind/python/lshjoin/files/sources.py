"""What users name as a source of vectors, as a list of files.

Folders, patterns, URLs, datasets of pyarrow and Delta tables are files already; what is not in
files is written to one (``spool.py``).
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING

from lshjoin.base.places import Filesystem, Place, StoragePath, StoredFile, place
from lshjoin.files.formats import FORMATS
from lshjoin.files.spool import Table, spooled

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as pads
    import pyarrow.fs as pafs

#: A file, a folder, a glob pattern, a table, or several of them.
Source = StoragePath | Table | Sequence[StoragePath | Table]

_DELTA = "_delta_log"


@dataclass(frozen=True)
class SourceFile:
    """A file of a source."""

    place: Place
    #: What names of folders say of all its rows, by column: ``day=1``, as Hive has it.
    said: Mapping[str, pa.Scalar]


def source_files(
    source: Source,
    filesystem: Filesystem | None,
    column: str | None,
    id_column: str | None,
    keys: Sequence[str],
    bits: bool,
) -> list[SourceFile]:
    """The files of a source, those of a folder or pattern in the order of their names.

    Beside the vectors, or packed ``bits``, ids and keys are to be read, which names of folders may
    say.

    Raises:
        FileNotFoundError: when there are none.
        ImportError: for what needs a package that is not there.
        TypeError: for what is no source.
        ValueError: for a URL of an unknown kind, and a Delta table that can't be read.
    """
    if isinstance(source, Sequence) and not isinstance(source, str):
        parts = [source_files(part, filesystem, column, id_column, keys, bits) for part in source]
        if not parts:
            raise FileNotFoundError("no files are given; pass a file, a folder or a glob pattern")
        return [file for files in parts for file in files]
    names = dict.fromkeys([*keys] if id_column is None else [id_column, *keys])
    if not isinstance(source, (str, os.PathLike)):
        if filesystem is not None:
            raise TypeError(
                f"filesystem= is for paths, but a source is a {type(source).__name__}; leave it out"
            )
        files = _of_pyarrow(source, names)
        if files is not None:
            return files
        return [SourceFile(spooled(source, column, id_column, keys, bits), {})]
    at = place(source, filesystem)
    info = _info(at)
    if _is_folder(info) and _is_folder(_info(_below(at, _DELTA))):
        return _of_delta(at, names)
    found = _places(at, info)
    said = {name: _hive(found, name) for name in names}
    return [
        SourceFile(
            file,
            {name: of_file for name, of in said.items() if (of_file := of[number]) is not None},
        )
        for number, file in enumerate(found)
    ]


def _places(at: Place, info: pafs.FileInfo) -> list[Place]:
    if _is_folder(info):
        if found := _files_in(at):
            return found
        raise FileNotFoundError(f"{at} holds no file that ends with {', '.join(FORMATS)}")
    if info.type != info.type.NotFound:
        return [at]
    if found := _matches(at):
        return [file for match in found for file in _places(match, _info(match))]
    raise FileNotFoundError(f"there is no file, folder or match of the pattern {at}")


def _matches(pattern: Place) -> list[Place]:
    if isinstance(pattern, Path):
        return [Path(file) for file in sorted(glob.glob(str(pattern), recursive=True))]
    if not glob.has_magic(pattern.path):
        return []
    try:
        from fsspec.implementations.arrow import ArrowFSWrapper
    except ImportError:
        raise ImportError(
            f"the pattern {pattern} needs fsspec: pip install 'lshjoin[remote]', or name a folder"
        ) from None
    matches = ArrowFSWrapper(pattern.filesystem).glob(pattern.path)
    return [pattern.at(match) for match in sorted(matches)]


def _files_in(folder: Place) -> list[Place]:
    """All files to any depth of a kind that is read, but hidden ones."""
    found = []
    for inside in _names_in(folder):
        if _DELTA in inside.parts:
            table = _below(folder, inside.as_posix().partition(f"/{_DELTA}")[0])
            raise ValueError(
                f"{folder} holds a Delta table, not all of whose files are current; name the table "
                f"itself, {table}"
            )
        hidden = any(part.startswith((".", "_")) for part in inside.parts)
        if inside.suffix.lower() in FORMATS and not hidden:
            found.append(inside)
    return [_below(folder, str(inside)) for inside in sorted(found)]


def _names_in(folder: Place) -> Iterator[PurePath]:
    """All that is in a folder, at any depth."""
    if isinstance(folder, Path):  # whose links to folders pyarrow would follow, into circles too
        return (path.relative_to(folder) for path in folder.rglob("*"))
    import pyarrow.fs as pafs

    selected = folder.filesystem.get_file_info(pafs.FileSelector(folder.path, recursive=True))
    names = (PurePosixPath(info.path) for info in selected if info.is_file)
    return (name.relative_to(folder.path) for name in names)


def _hive(files: list[Place], name: str) -> list[pa.Scalar | None]:
    """What the folders of each file say of a column; integers where all of them are."""
    import pyarrow as pa
    import pyarrow.dataset as pads

    hive = pads.partitioning(pa.schema([(name, pa.string())]), flavor="hive")
    paths = (file.as_posix() if isinstance(file, Path) else file.path for file in files)
    keys = [pads.get_partition_keys(hive.parse(path)) for path in paths]
    values = pa.array([of_file.get(name) for of_file in keys], pa.string())
    with suppress(pa.ArrowInvalid):
        values = values.cast(pa.int64())
    return [value if name in said else None for value, said in zip(values, keys, strict=True)]


def _of_pyarrow(table: Table, names: Iterable[str], before: str = "") -> list[SourceFile] | None:
    """The files of a dataset of pyarrow; None for what is not in files as it is."""
    import pyarrow as pa
    import pyarrow.dataset as pads

    if not isinstance(table, pads.FileSystemDataset):
        return None
    kinds = {pads.ParquetFileFormat: ".parquet", pads.IpcFileFormat: ".arrow"}
    kind = kinds.get(type(table.format))
    try:
        fragments = list(table.get_fragments())
    except ValueError:  # it is filtered
        return None
    if kind is None or not fragments or any(_is_cut(fragment) for fragment in fragments):
        return None
    files = []
    for fragment in fragments:
        file = StoredFile(fragment.filesystem, fragment.path, before, kind)
        keys = pads.get_partition_keys(fragment.partition_expression)
        said = {
            name: pa.scalar(keys[name], table.schema.field(name).type)
            for name in names
            if name in keys
        }
        files.append(SourceFile(file, said))
    return files


def _is_cut(fragment: pads.Fragment) -> bool:
    """Whether it is of some row groups of a file only."""
    import pyarrow.dataset as pads

    if not isinstance(fragment, pads.ParquetFileFragment):
        return False
    return bool(fragment.num_row_groups != fragment.metadata.num_row_groups)


def _of_delta(folder: Place, names: Iterable[str]) -> list[SourceFile]:
    """The current files of a Delta table, in the order of their names."""
    if isinstance(folder, StoredFile):
        raise ValueError(
            f"{folder} is a Delta table, not all of whose files are current; pass its dataset: "
            "deltalake.DeltaTable(URL).to_pyarrow_dataset()"
        )
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError:
        raise ImportError(
            f"{folder} is a Delta table, not all of whose files are current: "
            "pip install 'lshjoin[delta]' for reading those"
        ) from None
    try:
        table = DeltaTable(folder).to_pyarrow_dataset()
    except DeltaError as error:
        raise ValueError(f"{folder} is a Delta table that can't be read: {error}") from None
    files = _of_pyarrow(table, names, f"{folder}/")
    if files is None:
        raise FileNotFoundError(f"{folder} is a Delta table without files")
    return sorted(files, key=lambda file: str(file.place))


def _filesystem(at: Place) -> tuple[pafs.FileSystem, str]:
    import pyarrow.fs as pafs

    if isinstance(at, Path):
        return pafs.LocalFileSystem(), at.as_posix()
    return at.filesystem, at.path


def _info(at: Place) -> pafs.FileInfo:
    filesystem, path = _filesystem(at)
    try:
        return filesystem.get_file_info(path)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # whatever the library of a store raises, which names no file
        raise OSError(f"{at} could not be reached: {error}") from error


def _is_folder(info: pafs.FileInfo) -> bool:
    return bool(info.type == info.type.Directory)


def _below(folder: Place, inside: str) -> Place:
    return folder / inside if isinstance(folder, Path) else folder.at(f"{folder.path}/{inside}")
