"""The files of an index, read and written without the engine, every checksum right."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from xxhash import xxh3_64_hexdigest

CHUNK = 1 << 20
DTYPES = {
    "F32": "<f4",
    "F64": "<f8",
    "I8": "i1",
    "U8": "u1",
    "U32": "<u4",
    "U64": "<u8",
    "I64": "<i8",
}
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
KNOWN = np.dtype([("scale", "<f4"), ("residual", "<f4"), ("square", "<i4"), ("sum", "<i4")])


def header(name: str, dtype: str, shape: tuple[int, ...], size: int) -> bytes:
    info = {name: {"dtype": dtype, "shape": list(shape), "data_offsets": [0, size]}}
    text = json.dumps(info, separators=(",", ":")).encode()
    length = -(-(len(text) + 8) // 64) * 64 - 8
    return length.to_bytes(8, "little") + text.ljust(length)


def read_array(path: Path, name: str) -> np.ndarray:
    contents = path.read_bytes()
    length = int.from_bytes(contents[:8], "little")
    about = json.loads(contents[8 : 8 + length])[name]
    data = np.frombuffer(contents, DTYPES[about["dtype"]], offset=8 + length)
    return data.reshape(about["shape"])


def read_arrays(directory: Path) -> dict[str, np.ndarray]:
    stored = json.loads((directory / "manifest.json").read_text())["arrays"]
    return {name: read_array(directory / about["file"], name) for name, about in stored.items()}


def sums(data: bytes) -> list[str]:
    return [xxh3_64_hexdigest(data[at : at + CHUNK]) for at in range(0, len(data), CHUNK)]


def write_array(directory: Path, manifest: Any, name: str, array: np.ndarray) -> None:
    """Puts an array in the place of one, and into the manifest."""
    about, dtype, data = manifest["arrays"][name], NAMES[array.dtype], array.tobytes()
    contents = header(name, dtype, array.shape, len(data)) + data
    (directory / about["file"]).write_bytes(contents)
    about |= {"dtype": dtype, "shape": list(array.shape), "xxh3": sums(data)}


def write_manifest(directory: Path, manifest: Any) -> None:
    """Writes a manifest whose checksum is right."""
    if isinstance(manifest, dict):
        manifest["checksum"] = ""
        text = json.dumps(manifest, separators=(",", ":"), ensure_ascii=False)
        manifest["checksum"] = xxh3_64_hexdigest(text.encode(errors="replace"))
    (directory / "manifest.json").write_text(json.dumps(manifest))


def make_holes(file: Path, name: str, about: Any, count: int) -> None:
    """Gives a file that was begun so many rows, more than memory has room for."""
    about["shape"][0] = count
    size = math.prod(about["shape"]) * np.dtype(DTYPES[about["dtype"]]).itemsize
    start = header(name, about["dtype"], tuple(about["shape"]), size)
    file.write_bytes(start)
    os.truncate(file, len(start) + size)
