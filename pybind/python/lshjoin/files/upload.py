"""A result that goes elsewhere: written here, then brought there whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from lshjoin.base.atomic import UNFINISHED
from lshjoin.base.places import Place, StoredFile, exists

#: Kinds of pyarrow's filesystems where a file is there once all of it is, and not before; or, as on
#: Azure, is empty until then, but may not be renamed.
_WHOLE = {"s3", "gcs", "abfs"}

#: Bytes that are sent at a time.
_PIECE = 8 << 20


class NewStoredFile:
    """A file elsewhere, under a name that nothing is at; with the methods of a ``NewFile``.

    Processes do not see each other there: of two that write it at once the last one's stays.

    Args:
        place: where it is once it is published.
        directory: where it is written before; a temporary one if None.

    Raises:
        FileExistsError: when there is something.
    """

    def __init__(self, place: StoredFile, directory: Path | None = None) -> None:
        self.path = place
        check_new(place)
        self._own = None if directory else TemporaryDirectory(prefix="lshjoin-")
        #: Where to write it.
        self.temporary = Path(self._own.name if self._own else directory or "", "result")

    def publish(self) -> None:
        """Brings it there, if nothing else has got the name meanwhile: FileExistsError."""
        check_new(self.path)
        _upload(self.temporary, self.path)

    def close(self) -> None:
        """Deletes what is here."""
        self.temporary.unlink(missing_ok=True)
        if self._own:
            self._own.cleanup()


def check_new(place: Place) -> None:
    """FileExistsError when there is something."""
    if exists(place):
        raise FileExistsError(f"{place} exists already; delete it or choose another file to write")


def _upload(file: Path, place: StoredFile) -> None:
    """There under its name when it is whole: of an upload that fails no file stays."""
    filesystem, target = place.filesystem, PurePosixPath(place.path)
    if filesystem.type_name not in _WHOLE:
        filesystem.create_dir(str(target.parent), recursive=True)
        target = target.with_name(f".{target.name}{UNFINISHED}")

    def write() -> None:
        with file.open("rb") as source, filesystem.open_output_stream(str(target)) as stream:
            while piece := source.read(_PIECE):
                stream.write(piece)

    try:
        # On a thread, where Ctrl-C does not close the stream at half a file.
        with ThreadPoolExecutor(1) as writer:
            writer.submit(write).result()
        if str(target) != place.path:
            filesystem.move(str(target), place.path)
    except BaseException as error:
        with suppress(OSError):  # that it is not there
            filesystem.delete_file(str(target))
        if isinstance(error, OSError):
            raise OSError(f"{place} could not be written: {error}") from None
        raise
