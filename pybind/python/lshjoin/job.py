"""A job that may be killed at any moment and goes on where it was: its work directory.

The manifest says what the job is. Each step leaves a file of its own, which is there, whole and
on disk, or is not: it is written under another name, synced, then renamed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lshjoin import __version__

MANIFEST = "manifest.json"
_TEMPORARY = ".unfinished"


class OtherJobError(ValueError):
    """The work directory belongs to another job than the one that was asked for."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Another name to write to; the file goes to ``path`` when all is written and on disk.

    A crash leaves what was there before, or the new file, never half of one.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


class Job:
    """The work directory of one job, for one process at a time.

    Args:
        directory: made if it is not there.
        work: what the job is, as JSON: the command, its inputs' sizes and times of change. The same
            work goes on where it was.

    Raises:
        OtherJobError: when the directory belongs to other work; says what differs.
        BlockingIOError: when another process is at it.
    """

    def __init__(self, directory: Path, work: dict[str, Any]) -> None:
        self.directory = directory
        work = json.loads(json.dumps({"lshjoin": __version__, **work}))
        manifest = directory / MANIFEST
        ours = manifest.exists() or _temporary(manifest).exists()
        if directory.exists() and not ours and any(directory.iterdir()):
            raise OtherJobError(
                f"{directory} is not empty and no work directory; choose another one"
            )
        import fcntl  # not on Windows, where the rest of the package works

        directory.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(directory, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise BlockingIOError(
                f"another process is at work in {directory}; wait for it or end it"
            ) from None
        #: Whether an earlier run began it.
        self.resumed = manifest.exists()
        if self.resumed:
            differences = list(_differences(json.loads(manifest.read_text()), work))
            if differences:
                os.close(self._lock)
                raise OtherJobError(
                    f"{directory} belongs to another job: {'; '.join(differences)}. Run that one "
                    "again, or delete the directory, or choose another one"
                )
        else:
            self._clear()
            with replacing(manifest) as temporary:
                temporary.write_text(json.dumps(work, indent=2) + "\n")

    def path(self, name: str) -> Path:
        """Where the file of a step is."""
        return self.directory / name

    def done(self, name: str) -> bool:
        """Whether the file of a step is there."""
        return self.path(name).exists()

    def finish(self) -> None:
        """Deletes the directory: the job's result is elsewhere."""
        # At once no job to go on with: a crash from here on leaves files, but no step half deleted.
        (self.directory / MANIFEST).replace(_temporary(self.directory / MANIFEST))
        self._clear()
        self.directory.rmdir()

    def _clear(self) -> None:
        """Deletes what a job left that was just being begun or finished."""
        unfinished = _temporary(self.directory / MANIFEST)
        for entry in self.directory.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry != unfinished:
                entry.unlink()
        # Last: it says whose the directory is.
        unfinished.unlink(missing_ok=True)

    def close(self) -> None:
        """Lets another process have the directory."""
        os.close(self._lock)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}{_TEMPORARY}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _differences(known: Any, asked: Any, where: str = "") -> Iterator[str]:
    """In words, where two JSON values differ."""
    if isinstance(known, dict) and isinstance(asked, dict):
        for name in sorted(known.keys() | asked.keys()):
            path = f"{where} {name}".strip()
            yield from _differences(known.get(name), asked.get(name), path)
    elif isinstance(known, list) and isinstance(asked, list) and len(known) == len(asked):
        for number, (there, here) in enumerate(zip(known, asked, strict=True)):
            yield from _differences(there, here, f"{where} {number}")
    elif known != asked:
        yield f"{where} is {_short(known)} there but {_short(asked)} here"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
