"""Changes of JSON, of numbers and of files, of the kinds that people who mean harm would try."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Random = np.random.Generator

NUMBERS = [0, -1, 1, 2, 3, 7, 255, 1024, 16384, 16385, 2**31 - 1, 2**31, 2**32 - 2, 2**32, 2**53]
NUMBERS += [2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**400, 0.5, -0.5, 1.0, 1e-300, 1e300]
STRINGS = ["", " ", ".", "..", "../outside", "/dev/zero", "/etc/passwd", "a/b", "nul\0byte", "-"]
STRINGS += ["A" * 100_000, "exact", "cosine", "manhattan", "inner_product", "lsh", "F64", "I8"]
STRINGS += ["F4", "x\nline", "\x1b[2J", "0", "ff" * 8, "-" + "0" * 15, "\ud800"]
STRINGS += ["rows-1.safetensors/../../outside"]


def pick(random: Random, values: Any) -> Any:
    return values[int(random.integers(len(values)))]


def odd_value(random: Random, value: Any) -> Any:
    """Something else in the place of a value."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and random.random() < 0.5:
        return pick(random, [value + 1, value - 1, value * 2, value // 2, -value])
    kind = random.integers(8)
    if kind < 3:
        return pick(random, NUMBERS)
    if kind < 5:
        return pick(random, STRINGS)
    if kind == 5:
        return pick(random, [None, True, False, [], {}, [value], {"value": value}, [0] * 100_000])
    if kind == 6:
        nested: Any = value
        for _ in range(pick(random, [3, 100, 900])):
            nested = [nested]
        return nested
    return pick(random, [float("nan"), float("inf"), float("-inf")])


def places(tree: Any, depth: int = 9) -> list[tuple[Any, Any]]:
    """Each value in a tree of JSON that is not too deep in it, as what holds it and its key."""
    if isinstance(tree, dict):
        keys = list(tree)
    elif isinstance(tree, list):
        keys = list(range(len(tree)))[:50]
    else:
        keys = []
    here = [(tree, key) for key in keys]
    return here + [place for key in keys if depth for place in places(tree[key], depth - 1)]


def change_json(random: Random, tree: Any) -> None:
    """Changes, takes away, adds or exchanges a few values, in place."""
    for _ in range(pick(random, [1, 1, 1, 2, 4])):
        found = places(tree)
        if not found:
            return
        holder, key = pick(random, found)
        kind = random.integers(10)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[pick(random, [*STRINGS, "new"])] = odd_value(random, holder[key])
        elif kind == 2:
            other, at = pick(random, found)
            holder[key] = json.loads(json.dumps(other[at]))
        else:
            holder[key] = odd_value(random, holder[key])


def change_text(random: Random, text: bytes) -> bytes:
    """Changes bytes, cuts, repeats, or nests."""
    contents = bytearray(text)
    for _ in range(pick(random, [1, 2, 8])):
        at = int(random.integers(len(contents) + 1))
        kind = random.integers(6)
        if kind == 0:
            contents[at : at + 1] = random.bytes(1)
        elif kind == 1:
            del contents[at : at + int(random.integers(1, 20))]
        elif kind == 2:
            contents[at:at] = contents[at // 2 : at]
        elif kind == 3:
            contents[at:at] = pick(
                random, [b"[" * 100_000, b'{"a":' * 50_000, b"\0", b"\xff", b"-"]
            )
        elif kind == 4:
            contents[at:at] = pick(random, [b"9" * 1000, b"1e999", b'"', b"\\ud800", b"//", b"NaN"])
        elif contents:
            at = int(random.integers(len(contents)))
            contents[at] ^= 1 << int(random.integers(8))
    return bytes(contents)


def change_values(random: Random, array: np.ndarray) -> np.ndarray:
    """The array with some of its values others."""
    array = array.copy()
    values = array.reshape(-1)
    if values.size == 0:
        return array
    kind = random.integers(8)
    if kind == 0:
        random.shuffle(values)
    elif kind == 1:
        values[:] = pick(random, values)
    elif kind == 2:
        values[:] = values[::-1].copy()
    elif kind == 3:
        values[:] = np.sort(values)
    else:
        count = pick(random, [1, 1, 2, max(values.size // 10, 1), values.size])
        places = random.integers(values.size, size=count)
        if array.dtype.kind == "f":
            limits = np.finfo(array.dtype)
            odd = [np.nan, np.inf, -np.inf, 0, -0.0, 1, -1, limits.max, limits.min, limits.tiny]
            odd += [limits.smallest_subnormal, 1e18, -1e18]
            old = values[places]
            with np.errstate(over="ignore"):
                new = pick(random, [np.full(count, pick(random, odd)), old * 2, -old, old + 1])
        else:
            bounds = np.iinfo(array.dtype)
            size = len(array)
            odd = [0, 1, bounds.max, bounds.min, bounds.max // 2]
            odd += [size - 1, size, size + 1, size // 2]
            odd = [number for number in odd if bounds.min <= number <= bounds.max]
            new = np.array([pick(random, odd)] * count).astype(array.dtype)
            if kind == 4:
                new = values[places] ^ np.array(1 << int(random.integers(8))).astype(values.dtype)
            elif kind == 5:
                new = random.choice(values, count)
        values[places] = new
    return array


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


SPECIAL = {
    "pipe": os.mkfifo,
    "directory": Path.mkdir,
    "link to zeros": _link("/dev/zero"),
    "link to noise": _link("/dev/urandom"),
    "link to nothing": _link("nothing"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "nothing": lambda path: None,
    "empty": Path.touch,
    "terabyte of holes": _sparse,
}


def change_file(random: Random, path: Path) -> None:
    """Puts something that is no file, or none like it, in the place of one."""
    kind = pick(random, [*SPECIAL, "link to the same"])
    if kind == "link to the same":
        # Elsewhere, but just what it was.
        elsewhere = Path(os.environ["HOSTILE_ELSEWHERE"]) / path.name
        elsewhere.write_bytes(path.read_bytes())
        path.unlink()
        path.symlink_to(elsewhere)
        return
    path.unlink()
    SPECIAL[kind](path)
