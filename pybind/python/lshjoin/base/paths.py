"""Paths that users pass: here, or where results may go."""

from __future__ import annotations

from pathlib import Path

from lshjoin.base.places import Filesystem, Place, StoragePath, StoredFile, place, scheme_of

#: What is read there, but written in other ways: on the Hugging Face Hub each file is a commit.
_READ_ONLY = {"hf", "http", "https"}


def local_path(path: StoragePath) -> Path:
    """A path of this machine's. ValueError for a URL, which would be taken for a folder's name."""
    if scheme_of(path):
        raise ValueError(
            f"{path} is a URL, but indexes, models, pictures and work directories are on this "
            "machine; copy it, or mount what the URL is of"
        )
    return Path(path)


def result_place(path: StoragePath | StoredFile, filesystem: Filesystem | None = None) -> Place:
    """A place to write a result to: here, or where a URL says, in ``filesystem`` if that is given.

    ValueError for a URL of what is only read.
    """
    if isinstance(path, StoredFile):  # which is what this gave before
        return path
    scheme = scheme_of(path)
    if scheme in _READ_ONLY:
        raise ValueError(f"{path} can't be written by a join; write a file here, and upload that")
    return place(path, filesystem if scheme else None)
