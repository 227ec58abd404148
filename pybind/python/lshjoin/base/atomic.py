"""Files that are there whole, or not at all: written under another name, synced, then renamed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: What the other name ends with.
UNFINISHED = ".unfinished"

#: What a write may end with that no read does.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def naming(path: object) -> Iterator[None]:
    """Errors of a full disk as errors of the file that was to be written: they name none."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Another name to write to; the file goes to ``path`` when all is written and on disk.

    A crash leaves what was there before, or the new file, never half of one. For files that no
    other process writes, as in the directory of a job.
    """
    temporary = temporary_name(path)
    try:
        with naming(path):
            yield temporary
            sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """The other name."""
    return path.with_name(f".{path.name}{UNFINISHED}")


def sync(path: Path) -> None:
    """Brings a file, or the names in a directory, to disk."""
    if os.name == "nt":  # which syncs what was opened to be written
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
