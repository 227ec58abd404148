"""What became of all that was tried: bench-results/reliability.json, and pages that tell of it."""

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from benches import record
from benches.report.blocks import fill_pages
from benches.report.reliability import reliability_table

RESULT = "reliability"


def keep(part: str, outcomes: dict[str, Any]) -> None:
    """Puts what was found of a part in the place of what was known of it."""
    known = record.read(RESULT)
    known.pop("date", None)
    known[part] = {"date": record.now(), "machine": record.machine()} | outcomes
    record.write(RESULT, known, "\n".join([*reliability_table(known), ""]))
    fill_pages()


def of_tests(*chosen: str, **environment: str) -> tuple[int, ET.ElementTree]:
    """pytest's exit code and its report of the tests that these arguments choose."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={path}", *chosen]
        code = subprocess.run(
            command, cwd=record.ROOT, env=os.environ | environment, check=False
        ).returncode
        return code, ET.parse(path)
