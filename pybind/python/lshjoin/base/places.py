"""Where files are: paths on this machine, and files of other filesystems, opened by pyarrow.

pyarrow knows S3, Google's and Azure's storage and HDFS itself; all else that has a URL is fsspec's.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.fs as pafs

StoragePath = str | os.PathLike[str]

#: Of pyarrow or of fsspec.
Filesystem = Any

# A scheme and what follows it: pathlib makes one slash of two. Drives of Windows have one letter.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}")
# Options of pyarrow's URLs, at their end: a pattern of files may have a question mark, too.
_OPTIONS = re.compile(r"\?\w+=[^/]*$")
_OF_GOOGLE = {"gs", "gcs"}
_OF_PYARROW = _OF_GOOGLE | {"s3", "abfs", "abfss", "hdfs"}

# How long Google's library tries without an answer, or credentials; by itself a quarter of an hour.
_RETRY_SECONDS = 30


@dataclass(frozen=True)
class StoredFile:
    """A file or folder that is not on this machine, with what of a ``Path`` readers ask for."""

    filesystem: pafs.FileSystem
    path: str  #: in the filesystem
    before: str  #: what makes a name of ``path`` that tells where it is, such as ``s3://``
    kind: str = ""  #: of the file, as a suffix, where that is not its own

    def __str__(self) -> str:
        return self.before + self.path  # without a URL's options and passwords

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def suffix(self) -> str:
        return self.kind or PurePosixPath(self.path).suffix

    def at(self, path: str) -> StoredFile:
        """Another one in the same filesystem."""
        return replace(self, path=path)

    def open(self) -> pa.NativeFile:
        return self.filesystem.open_input_file(self.path)

    def info(self) -> pafs.FileInfo:
        return self.filesystem.get_file_info(self.path)

    def state(self) -> dict[str, Any]:
        """What tells whether it is still the same."""
        import pyarrow.fs as pafs

        info, filesystem = self.info(), self.filesystem
        changed = info.mtime_ns
        if isinstance(filesystem, pafs.PyFileSystem) and isinstance(
            filesystem.handler, pafs.FSSpecHandler
        ):
            changed = filesystem.handler.fs.ukey(self.path)  # which knows more than a time
        return {"path": str(self), "size": info.size, "changed": changed}


Place = Path | StoredFile


def scheme_of(path: StoragePath) -> str | None:
    """What a URL begins with, such as ``s3``; None for a path."""
    url = _URL.match(os.fspath(path))
    return url[1].lower() if url else None


def place(path: StoragePath | StoredFile, filesystem: Filesystem | None = None) -> Place:
    """Where a path or URL leads: in ``filesystem``, else where the URL says, else here.

    Raises:
        ImportError: for a URL of what needs a package that is not there.
        ValueError: for a URL of a kind that nobody knows.
        TypeError: for a filesystem that is none.
    """
    if isinstance(path, StoredFile):
        return path
    text = os.fspath(path)
    url = _URL.match(text)
    scheme, rest = (f"{url[1].lower()}://", text[url.end() :]) if url else ("", text)
    if filesystem is not None:
        filesystem, inside = _filesystem(filesystem), rest
    elif url:
        filesystem, inside = _of_url(url[1].lower(), rest)
    else:
        return Path(text)
    import pyarrow.fs as pafs

    if isinstance(filesystem, pafs.LocalFileSystem):
        return Path(inside)
    # fsspec has paths that are URLs themselves.
    return StoredFile(filesystem, inside.rstrip("/") or inside, "" if "://" in inside else scheme)


def readable(place: Place) -> Path | pa.NativeFile:
    """What pyarrow reads a file from."""
    return place if isinstance(place, Path) else place.open()


def state(place: Place) -> dict[str, Any]:
    """What tells whether a file is still the same."""
    if isinstance(place, StoredFile):
        return place.state()
    known = place.stat()
    return {"path": str(place.resolve()), "size": known.st_size, "changed": known.st_mtime_ns}


def shown(place: Place) -> Path | str:
    """A place in results."""
    return place if isinstance(place, Path) else str(place)


def exists(place: Place) -> bool:
    """Whether there is anything."""
    if isinstance(place, Path):
        return os.path.lexists(place)
    import pyarrow.fs as pafs

    return bool(place.info().type != pafs.FileType.NotFound)


def _filesystem(filesystem: Filesystem) -> pafs.FileSystem:
    import pyarrow.fs as pafs

    if isinstance(filesystem, pafs.FileSystem):
        return filesystem
    fsspec = sys.modules.get("fsspec")
    if fsspec and isinstance(filesystem, fsspec.AbstractFileSystem):
        return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem))
    raise TypeError(
        f"filesystem is a {type(filesystem).__name__}; pass one of pyarrow.fs or of fsspec"
    )


def _of_url(scheme: str, rest: str) -> tuple[pafs.FileSystem, str]:
    import pyarrow.fs as pafs

    if scheme == "file":
        return pafs.LocalFileSystem(), f"/{rest.lstrip('/')}"
    if scheme in _OF_PYARROW:
        found = _OPTIONS.search(rest)
        root, _, path = rest[: found.start() if found else None].partition("/")
        options = found[0] if found else "?"
        if scheme in _OF_GOOGLE and "retry_limit_seconds=" not in options:
            options += f"&retry_limit_seconds={_RETRY_SECONDS}"
        # Quoted, since a path may have what no URL has, such as spaces.
        filesystem, path = pafs.FileSystem.from_uri(f"{scheme}://{root}/{quote(path)}{options}")
        return filesystem, path
    url = f"{scheme}://{rest}"
    try:
        import fsspec
    except ImportError:
        raise ImportError(f"{url} needs fsspec: pip install 'lshjoin[remote]'") from None
    try:
        store, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ImportError(f"{url}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{url} can't be read: {error}") from None
    return pafs.PyFileSystem(pafs.FSSpecHandler(store)), path
