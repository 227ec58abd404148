"""README's examples print what README says, and its commands are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL)


def test_every_example_is_found():
    assert len(EXAMPLES) == README.count("```python") >= 2


@pytest.mark.parametrize(("code", "printed"), EXAMPLES)
def test_example(code, printed, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write files
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("command", sorted(set(re.findall(r"(?:`|    )make ([a-z-]+)", README))))
def test_command(command):
    assert re.search(f"^{command}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_extras_that_are_named_are_there():
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("pybind/**/*.py")]
    named = re.findall(r"lshjoin\[([\w,]+)\]", "".join(page.read_text() for page in pages))
    assert len(named) > 10
    project = (ROOT / "pyproject.toml").read_text()
    extras = re.search(r"^\[project.optional-dependencies\]\n(.*?)^\[", project, re.M | re.S)[1]
    assert set(",".join(named).split(",")) <= set(re.findall(r"^(\w+) = ", extras, re.M))
