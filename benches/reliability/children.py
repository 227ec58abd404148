"""Cases run in child processes, whose memory and time are limited, and what becomes of each.

A child runs case after case and says which, so that the one during which it dies, or takes too
long, is known; the next child goes on after that.
"""

import json
import os
import re
import resource
import selectors
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benches import record

# What each call of a case may take: seconds of processors, and seconds in all where others need the
# processors too; and bytes beside what a child has when the case begins.
SECONDS = 10
WAITED = 60
BYTES = 400 << 20

# What becomes of a case.
REFUSED, ANSWERED = "refused", "answered"
DEFECTS = CRASH, HANG, MEMORY, WRONG, OTHER = (
    "crash",
    "hang",
    "out of memory",
    "wrong answer",
    "other exception",
)

# Clear without the name of a file: what a call says of its own arguments.
CLEAR = re.compile(
    r"id -?\d+ (is|comes)|row \d+ of (items|queries) holds -?\d|not a join plan: |\w+ must be "
    r"|No such struct field|'Failed to find a default value for"
)


class WrongAnswer(Exception):
    """An answer that is not what the files say."""


def outcome(case: Callable[[Path], None], directory: Path) -> tuple[str, str]:
    """What becomes of a case, and the message or traceback that tells."""
    try:
        case(directory)
    except WrongAnswer as error:
        return WRONG, str(error)
    except MemoryError:
        return MEMORY, traceback.format_exc(limit=-3)
    except (KeyError, ValueError, OSError) as error:
        text = str(error)
        if len(text) < 1000 and (str(directory) in text or CLEAR.match(text)):
            return REFUSED, text.replace(str(directory), "…")
        return OTHER, traceback.format_exc(limit=-3)
    except BaseException:  # a panic is none of Exception
        return OTHER, traceback.format_exc(limit=-3)
    return ANSWERED, ""


def tell(what: Any) -> None:
    """Says something to the parent; {} that a call came to its end, and the next begins."""
    print(json.dumps(what), flush=True)


def serve(case: Callable[[int, Path], None], numbers: Iterable[int], place: Path) -> None:
    """Runs cases in this process, each in a directory of its own, and tells of them on stdout."""
    for number in numbers:
        tell({"begin": number})
        with tempfile.TemporaryDirectory(dir=place) as directory:
            # What is written beside the case's own directory is written outside.
            inside = Path(directory) / "case"
            inside.mkdir()
            with open("/proc/self/statm") as file:
                size = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + BYTES, resource.RLIM_INFINITY))
            found, message = outcome(lambda inside: case(number, inside), inside)  # noqa: B023
            if os.listdir(directory) != ["case"]:
                found, message = WRONG, f"wrote {os.listdir(directory)}"
        tell([number, found, message])


def run(module: str, numbers: range, place: Path) -> dict[int, tuple[str, str]]:
    """What becomes of the cases of `python -m MODULE START STOP PLACE`, by number."""
    found: dict[int, tuple[str, str]] = {}
    start = numbers.start
    while start < numbers.stop:
        command = [sys.executable, "-m", module, str(start), str(numbers.stop), str(place)]
        # Address space that threads take for themselves is not memory that a case takes.
        environment = os.environ | {"MALLOC_ARENA_MAX": "2"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, env=environment, cwd=record.ROOT, **pipes) as child:
            under_way, hung = _listen(child, found)
            child.kill()
            errors = child.stderr.read().decode(errors="replace")
        if under_way is not None:
            what = HANG if hung else CRASH
            found[under_way] = (what, f"exit {child.returncode}: {errors[-2000:]}")
        elif child.returncode:
            raise RuntimeError(f"{command} ended before its first case: {errors}")
        start = max(found, default=start - 1) + 1
    return found


def _processor_seconds(pid: int) -> float:
    """What a process has computed so far, on all processors."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _listen(child: Any, found: dict[int, tuple[str, str]]) -> tuple[int | None, bool]:
    """Reads until the child ends or is silent too long: the case under way, and which it was."""
    under_way: int | None = None
    text = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            # Importing everything takes longer than a case may.
            began, used = time.monotonic(), _processor_seconds(child.pid)
            while not selector.select(1):
                waited = time.monotonic() - began
                computed = _processor_seconds(child.pid) - used
                if waited > WAITED or (under_way is not None and computed > SECONDS):
                    return under_way, True
            more = os.read(child.stdout.fileno(), 1 << 16)
            if not more:
                child.wait()
                return under_way, False
            *lines, text = (text + more).split(b"\n")
            for line in lines:
                said = json.loads(line)
                if isinstance(said, dict):
                    under_way = said.get("begin", under_way)
                else:
                    found[said[0]] = (said[1], said[2])
                    under_way = None
