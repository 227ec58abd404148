"""Paths that users pass: on this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

StoragePath = str | os.PathLike[str]

# A scheme and what follows it: pathlib makes one slash of two. Drives of Windows have one letter.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def local_path(path: StoragePath) -> Path:
    """A path of this machine's. ValueError for a URL, which would be taken for a folder's name."""
    if _URL.match(os.fspath(path)):
        raise ValueError(
            f"{path} is a URL, but files are read and written on this machine; copy them, or mount "
            "what the URL is of"
        )
    return Path(path)
