"""A job that may be killed at any moment and goes on where it was: its work directory.

The manifest says what the job is. Each step leaves a file of its own, which is there, whole and
on disk, or is not: it is written under another name, synced, then renamed.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from lshjoin.base.atomic import UNFINISHED, naming, replacing, sync, temporary_name
from lshjoin.base.paths import local_path
from lshjoin.base.places import Place, StoragePath
from lshjoin.engine import __version__
from lshjoin.errors import OtherJobError
from lshjoin.files.upload import NewStoredFile, check_new

_MANIFEST = "manifest.json"
_LOCK = ".lock"

#: What steps are called: nothing else in a work directory is ever deleted.
_STEP = re.compile(
    r"index|result|plan\.json|(queries|items|against)-ids(-ends)?|(old-)?pairs\.parquet(\.work)?"
    r"|pairs-\d+-\d+\.parquet|pieces|piece-\d+\.parquet(\.work)?"
)


class NewFile:
    """A file or folder under a name that nothing is at, written by one process at a time.

    Args:
        path: where it is once it is published. Its directory is made if it is not there.

    Raises:
        FileExistsError: when there is something.
        BlockingIOError: when another process is about to write it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        #: Where to write it.
        self.temporary = temporary_name(path)
        self._lock = _Lock(_lock_beside(path), f"another process is about to write {path}")
        try:
            check_new(path)
            _remove(self.temporary)  # of a process that was killed
        except OSError:
            self.close()
            raise

    def publish(self) -> None:
        """Gives it its name, which nothing else may have got meanwhile: FileExistsError."""
        _sync_all(self.temporary)
        check_new(self.path)
        self.temporary.rename(self.path)
        self._lock.release()
        sync(self.path.parent)

    def close(self) -> None:
        """Deletes what was not published, and lets other processes have the name."""
        if self._lock.held:
            try:
                _remove(self.temporary)
            finally:
                self._lock.release()


@contextmanager
def creating(path: Place) -> Iterator[Path]:
    """As :func:`replacing` with a :class:`NewFile`."""
    with closing(_new(path, None)) as file, naming(file.path):
        yield file.temporary
        file.publish()


class Job:
    """The work directory of one job, for one process at a time.

    Args:
        directory: made if it is not there.
        work: what the job is, as JSON: the command, its inputs' sizes and times of change. The same
            work goes on where it was.
        out: the new file or folder that is to come of it; None where something else comes of it.

    Raises:
        ValueError: when ``out`` is inside the directory, with which it would be deleted.
        OtherJobError: when the directory belongs to other work; says what differs.
        BlockingIOError: when another process is at it, or is about to write ``out``.
        FileExistsError: when ``out`` is there, and not by this job.
    """

    def __init__(
        self,
        directory: Path,
        work: dict[str, Any],
        out: Place | None = None,
    ) -> None:
        self.directory = directory
        self._manifest = directory / _MANIFEST
        self._work = json.loads(json.dumps({"lshjoin": __version__, **work}))
        self._out: NewFile | NewStoredFile | None = None
        if isinstance(out, Path) and out.resolve().is_relative_to(directory.resolve()):
            raise ValueError(
                f"{out} would be deleted with the work directory {directory}; choose a file or a "
                "work directory elsewhere"
            )
        _remove_empty(directory)  # the last that a job leaves which is killed
        if out is not None and not directory.exists():
            check_new(out)
        self._lock = _Lock(directory / _LOCK, f"another process is at work in {directory}")
        try:
            known = self._known()
            #: Whether an earlier run began it.
            self.resumed = known is not None and self._manifest.exists()
            self._result = known["result"] if known else None
            #: Whether an earlier run wrote ``out``, so that all is done.
            self.finished = isinstance(out, Path) and self.made(out)
            if not self.resumed and not self.finished:
                self._clear()
            if isinstance(out, Path) and self.finished:
                _lock_beside(out).unlink(missing_ok=True)  # of a crash right after it got its name
            elif out is not None:
                self._out = _new(out, directory)
            if not self.resumed and not self.finished:
                self._write()
        except BaseException:
            self.close()
            _remove_empty(directory)
            raise

    def path(self, name: str) -> Path:
        """Where the file of a step is."""
        return self.directory / name

    def done(self, name: str) -> bool:
        """Whether the file of a step is there."""
        return self.path(name).exists()

    def write_folder(self, name: str, write: Callable[[Path], object]) -> None:
        """Has the folder of a step written under another name; it is there, whole, or is not."""
        path = self.path(name)
        temporary = temporary_name(path)
        if temporary.exists():  # since a run was killed
            shutil.rmtree(temporary)
        temporary.mkdir()
        with naming(path):
            write(temporary)
            _sync_all(temporary)
        temporary.rename(path)
        sync(path.parent)

    def write_result(self, write: Callable[[Path], dict[str, int]]) -> None:
        """Has ``out`` written under another name; it is there once all is written and on disk.

        Args:
            write: is given that name, and returns what is to be known of the result: ``counts``.
        """
        if self._out is None:
            raise ValueError("this job has no file to write")
        with naming(self._out.path):
            counts = write(self._out.temporary)
            self.ready(self._out.temporary, counts)
            self._out.publish()

    @property
    def counts(self) -> dict[str, int]:
        """What is known of the result that was written, by this run or an earlier one."""
        counts: dict[str, int] = self._result["counts"] if self._result else {}
        return counts

    def ready(self, path: Path, counts: dict[str, int] | None = None) -> None:
        """Notes that this is the job's result, before it is renamed to where that is to be."""
        _sync_all(path)
        self._result = {"file": _identity(path), "counts": counts or {}}
        self._write()

    def made(self, path: Path) -> bool:
        """Whether a file is what was noted as this job's result."""
        if self._result is None or not path.exists():
            return False
        file: dict[str, int] = self._result["file"]
        return _identity(path) == file

    def finish(self) -> None:
        """Deletes the directory: the job's result is elsewhere."""
        # At once no job to go on with: a crash from here on leaves files, but no step half deleted.
        if self._manifest.exists():
            self._manifest.replace(temporary_name(self._manifest))
        self._clear()
        self._lock.release()
        _remove_empty(self.directory)  # what others put there stays

    def close(self) -> None:
        """Lets another process have the directory and the file."""
        try:
            if self._out is not None:
                self._out.close()
        finally:
            self._lock.release()

    def _known(self) -> dict[str, Any] | None:
        """What is known of this job by its manifest; None when there is nothing to go on with."""
        unfinished = temporary_name(self._manifest)
        if self._manifest.exists():
            known = _read(self._manifest)
            if known is None:
                raise OtherJobError(
                    f"{self._manifest} is not the manifest of a work directory; delete the "
                    "directory if it is one, or choose another one"
                )
            differences = list(_differences(known["work"], self._work))
            if differences:
                raise OtherJobError(
                    f"{self.directory} belongs to another job: {'; '.join(differences)}. Run that "
                    "one again, or delete the directory, or choose another one"
                )
            return known
        if unfinished.exists():
            # A job just begun, of which this may be half written, or one that was being finished.
            known = _read(unfinished)
            return known if known is not None and known["work"] == self._work else None
        if any(entry.name != _LOCK for entry in self.directory.iterdir()):
            raise OtherJobError(
                f"{self.directory} is not empty and no work directory; choose another one"
            )
        return None

    def _write(self) -> None:
        with replacing(self._manifest) as temporary:
            known = {"work": self._work, "result": self._result}
            temporary.write_text(json.dumps(known, indent=2) + "\n")

    def _clear(self) -> None:
        """Deletes what a job left that was just being begun or finished."""
        for entry in self.directory.iterdir():
            name = entry.name
            for ending in (UNFINISHED, _LOCK):
                if name.startswith(".") and name.endswith(ending):
                    name = name[1 : -len(ending)]
            if _STEP.fullmatch(name):
                _remove(entry)
        # Last: it says whose the directory is.
        temporary_name(self._manifest).unlink(missing_ok=True)


def begin(work: dict[str, Any], out: Place, work_dir: StoragePath | None) -> Job:
    """A new job, or the one that was begun before, which may have written ``out`` already."""
    name = f"{out.name}.work"
    beside = out.with_name(name) if isinstance(out, Path) else Path(name)
    where = out.resolve() if isinstance(out, Path) else out
    return Job(local_path(work_dir or beside), work | {"out": str(where)}, out)


def _new(path: Place, directory: Path | None) -> NewFile | NewStoredFile:
    if isinstance(path, Path):
        return NewFile(path)
    return NewStoredFile(path, directory)


def _sync_all(path: Path) -> None:
    """Brings a file to disk, or a folder with the files in it."""
    if path.is_dir():
        for file in path.iterdir():
            sync(file)
    sync(path)


class _Lock:
    """A file, made with its directory, that is this process's until it is released.

    Raises:
        BlockingIOError: when it is another one's; ``busy`` says of what.
    """

    def __init__(self, path: Path, busy: str) -> None:
        from filelock import FileLock, Timeout

        self._path = path
        # Whatever thread closes the job; and the same file twice in a process is refused, too.
        self._lock = FileLock(path, timeout=0, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise BlockingIOError(f"{busy}; wait for it or end it") from None

    @property
    def held(self) -> bool:
        return bool(self._lock.is_locked)

    def release(self) -> None:
        if self.held:
            with suppress(OSError):  # Windows deletes no open file, but filelock does it there
                self._path.unlink()
            self._lock.release()


def _lock_beside(path: Path) -> Path:
    return path.with_name(f".{path.name}{_LOCK}")


def _remove(path: Path) -> None:
    """Deletes a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_empty(directory: Path) -> None:
    with suppress(OSError):  # that it is not there, or something is in it
        directory.rmdir()


def _identity(path: Path) -> dict[str, int]:
    """What tells a file from others at the same place; the same after it is renamed."""
    state = path.stat()
    return {"inode": state.st_ino, "size": state.st_size, "changed": state.st_mtime_ns}


def _read(manifest: Path) -> dict[str, Any] | None:
    """A manifest; None if it is none."""
    try:
        known = json.loads(manifest.read_bytes())
    except (ValueError, RecursionError):
        return None
    return known if isinstance(known, dict) and known.keys() == {"work", "result"} else None


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
