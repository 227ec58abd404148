"""A command whose memory is limited from outside, and watched."""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

TOLD_EVERY = 30  # seconds
RESERVED = 1 << 29  # bytes of stacks and of allocators, which count as allocated but are not in use

Limiter = tuple[str, list[str], Callable[[], None] | None, int]


def limiter(memory: int, cgroup: Path | None) -> Limiter:
    """How memory is limited, the words before the command, what its process does first, and what
    of the memory is for use.
    """
    if cgroup is not None:
        procs = cgroup / "cgroup.procs"

        def enter() -> None:
            procs.write_text(str(os.getpid()))

        return f"cgroup {cgroup}", [], enter, memory
    limits = ["-p", f"MemoryMax={memory}", "-p", "MemorySwapMax=0"]
    scope = ["systemd-run", "--scope", "--quiet", *limits]
    if shutil.which(scope[0]):
        tried = subprocess.run([*scope, "true"], check=False, capture_output=True)
        if tried.returncode == 0:
            return "systemd-run with MemoryMax", scope, None, memory
    limit = partial(resource.setrlimit, resource.RLIMIT_DATA, (memory, memory))
    how = "RLIMIT_DATA (ulimit -d), of which 512 MiB are for what is reserved but not in use"
    return how, [], limit, memory - RESERVED


def watched(
    command: list[str], start: Callable[[], None] | None, far: Callable[[], str]
) -> tuple[dict[str, Any], dict[str, int]]:
    """What the command prints, and the most memory and the input and output of its process."""
    peak = {"VmData": 0, "RssAnon": 0, "RssFile": 0}
    moved: dict[str, int] = {}
    # Its errors go to ours.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=start)
    proc = Path(f"/proc/{process.pid}")
    begun = told = time.monotonic()
    while process.poll() is None:
        try:
            status = (proc / "status").read_text().splitlines()
            counts = (proc / "io").read_text().splitlines()
        except OSError:
            continue
        for name, _, value in (line.partition(":") for line in status):
            if name in peak:
                peak[name] = max(peak[name], int(value.split()[0]) << 10)
        moved = {name: int(value) for name, value in (line.split(": ") for line in counts)}
        if time.monotonic() - told > TOLD_EVERY:
            told = time.monotonic()
            print(
                f"{told - begun:6.0f} s: {far()}; {peak['RssAnon'] / 1e9:.2f} GB in use at most, "
                f"{moved['rchar'] / 1e9:.1f} GB read, {moved['wchar'] / 1e9:.1f} GB written",
                file=sys.stderr,
                flush=True,
            )
        time.sleep(0.1)
    output, _ = process.communicate()
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}, having had {peak}")
    return json.loads(output), peak | moved
