"""The scripts in examples/ run and find what was hidden for them. All: `make examples`."""

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "rows", "line", "at_least"),
    [
        ("near_duplicates", 1_000, r"hidden copies (\d+)% are in the group", 95),
        ("entity_resolution", 1_000, r"([\d.]+)% of those in both registers are found", 98),
        ("hard_negatives", 2_000, r"of the same topic as the question: ([\d.]+)%", 95),
    ],
)
def test_example(name, rows, line, at_least, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [name, str(rows)])
    runpy.run_path(str(EXAMPLES / f"{name}.py"))
    assert float(re.search(line, capsys.readouterr().out)[1]) >= at_least
