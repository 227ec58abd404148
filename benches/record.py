"""Where a measurement was made, and its record under bench-results/."""

import json
import os
import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench-results"


def machine() -> dict[str, Any]:
    """The processor, its cores that this process may use, and the system."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.exists() else [])
        if line.startswith("model name")
    ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": cores,
        "system": platform.platform(),
    }


def versions(*packages: str) -> dict[str, str]:
    """Of Python and of those packages that are installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def circumstances(result: dict[str, Any]) -> str:
    """The machine, threads, instruction set and versions of a result, for its page."""
    machine = result["machine"]
    parts = [machine["cpu"], f"{machine['cores']} cores"]
    if "threads" in result:
        parts.append(f"{result['threads']} threads")
    if "isa" in result:
        parts.append(f"instruction set {result['isa']}")
    parts.append(machine["system"])
    versions = (f"{name} {number}" for name, number in result["versions"].items())
    return f"{', '.join(parts)}; {', '.join(versions)}."


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def read(name: str) -> dict[str, Any]:
    """What was written before, or nothing."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write(name: str, result: dict[str, Any], markdown: str) -> None:
    """bench-results/NAME.json for programs, bench-results/NAME.md for people."""
    RESULTS.mkdir(exist_ok=True)
    dated = {"date": now()} | result
    (RESULTS / f"{name}.json").write_text(json.dumps(dated, indent=2) + "\n")
    (RESULTS / f"{name}.md").write_text(markdown)


def read_lines(name: str) -> list[dict[str, Any]]:
    """The lines of bench-results/NAME.jsonl, or none."""
    path = RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append_line(name: str, line: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
