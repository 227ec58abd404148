"""Where a measurement was made, and its record under bench-results/."""

import json
import os
import platform
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "bench-results"


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
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def read(name: str) -> dict[str, Any]:
    """What was written before, or nothing."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write(name: str, result: dict[str, Any], markdown: str) -> None:
    """bench-results/NAME.json for programs, bench-results/NAME.md for people."""
    RESULTS.mkdir(exist_ok=True)
    dated = {"date": datetime.now(timezone.utc).isoformat(timespec="seconds")} | result
    (RESULTS / f"{name}.json").write_text(json.dumps(dated, indent=2) + "\n")
    (RESULTS / f"{name}.md").write_text(markdown)
