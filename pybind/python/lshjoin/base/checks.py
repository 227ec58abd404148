"""What arguments may be: each check takes what somebody passed and gives what it means.

Numbers come as anybody's: booleans are none, and of hundreds of digits no more than some are shown.
"""

from __future__ import annotations

import numbers
import operator
import re
from contextlib import suppress
from pathlib import Path
from typing import SupportsIndex

#: What a container has of the machine's memory: cgroups of version 2 and 1.
_CGROUP_LIMITS = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"


def short(value: object) -> str:
    """A value for a message, however many digits it has."""
    try:
        text = str(value)
    except ValueError:  # thousands of digits, which Python refuses to write
        return "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:40]}... ({len(text)} characters)"


def to_int(value: object) -> int:
    """An int; a float is taken when it is whole. As in Spark, booleans are not numbers."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"Could not convert {short(value)} to int")
    if isinstance(value, numbers.Integral):
        return int(value)  # not by way of float: seeds have 64 bits
    number = to_float(value)
    if number.is_integer():
        return int(number)
    raise TypeError(f"Could not convert {short(value)} to int")


def to_float(value: object) -> float:
    """A float, of any real number. As in Spark, booleans are not numbers."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"Could not convert {short(value)} to float")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(
            f"Could not convert {short(value)} to float: it is larger than any float"
        ) from None


def _kind(value: object) -> str:
    return f"the {type(value).__name__} {short(value)}"


def to_natural(name: str, value: SupportsIndex) -> int:
    """A whole number of 64 bits, without sign."""
    number = operator.index(value)
    if not 0 <= number < 2**64:
        raise ValueError(f"{name} must be 0 to 2**64 - 1, not {short(number)}")
    return number


def at_least_one(k: SupportsIndex, name: str = "k") -> int:
    """A number of neighbours, however large."""
    try:
        number = operator.index(k)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {_kind(k)}") from None
    if number < 1:
        raise ValueError(
            f"The number of nearest neighbors cannot be less than 1 ({name} is {short(number)})"
        )
    return number


def to_k(k: SupportsIndex, name: str = "k") -> int:
    """A number of neighbours that a result can have columns for."""
    number = at_least_one(k, name)
    if number >= 2**63:
        raise ValueError(
            f"The number of nearest neighbors must be below 2**63 ({name} is {short(number)})"
        )
    return number


def to_radius(radius: float | None, name: str = "radius") -> float:
    """A radius, or another threshold, that a join can have."""
    if radius is None:
        raise TypeError(f"a {name} is missing; pass {name}=")
    radius = to_number(radius, name)
    if not radius >= 0:
        raise ValueError(f"{name} must not be negative or NaN, but is {radius}")
    return radius


def to_number(value: object, name: str) -> float:
    """:func:`to_float`, in words that name the argument."""
    try:
        return to_float(value)
    except TypeError:
        raise TypeError(f"{name} must be a number, not {_kind(value)}") from None


def to_recall(recall: float | None) -> float:
    """A recall that can be asked for; 0.95 if None."""
    recall = to_float(0.95 if recall is None else recall)
    if not 0 < recall <= 1:
        raise ValueError(f"recall must be above 0 and at most 1, not {recall}")
    return recall


def to_bytes(memory_limit: int | str | None) -> int:
    """Bytes from a text like "4GiB" or "500 MB"; half of what machine or container has for None.

    Examples:
        >>> from lshjoin.base.checks import to_bytes
        >>> to_bytes("4GiB"), to_bytes("1.5 kB"), to_bytes(1 << 20)
        (4294967296, 1500, 1048576)
    """
    if memory_limit is None:
        import psutil

        sizes: list[int] = [psutil.virtual_memory().total]
        for cgroup in _CGROUP_LIMITS:
            with suppress(OSError, ValueError):  # not this version, or no limit
                sizes.append(int(Path(cgroup).read_text()))
        return min(sizes) // 2
    size = re.fullmatch(
        r"\s*(\d+(?:\.\d+)?)\s*(?:([kMGT]?)(i?)B?)?\s*", str(memory_limit), re.IGNORECASE
    )
    if size is None:
        raise ValueError(
            f"memory_limit must be bytes or a text like '4GiB', not {short(memory_limit)!r}"
        )
    number, prefix, binary = size.groups()
    power = " kmgt".index(prefix.lower() if prefix else " ")
    count = float(number) * (1024 if binary else 1000) ** power
    if count >= 2**63:
        raise ValueError(f"memory_limit must be below 2**63 bytes, not {short(memory_limit)}")
    return int(count)
