"""The examples in docs/ print what docs/ says, a page after the other from its top.

Blocks that have a title are files, which later ones use.
"""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from lshjoin import command_line
from threadpoolctl import threadpool_limits

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(
    r'^```(\w+)(?: title="(.*?)")?\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?',
    re.DOTALL | re.MULTILINE,
)
#: Those of Spark need a session: tests/spark runs them.
PAGES = {
    path.relative_to(DOCS).as_posix(): [
        block for block in BLOCK.findall(path.read_text()) if "lshjoin.spark" not in block[2]
    ]
    for path in sorted(DOCS.rglob("*.md"))
}
#: What else the examples use and the tests do not install.
LARGE = ("datasets", "duckdb", "hdbscan", "igraph", "leidenalg", "openTSNE", "scanpy", "umap")


def run(line):
    """A line for a shell: the commands of the package, in this process."""
    command, *words = shlex.split(line)
    assert command in ("cargo", "lshjoin", "make", "pip")
    if command == "lshjoin":
        assert command_line.run(words) == 0
    elif command == "make":
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        subprocess.run([command, *words], env=environment, check=True)


@pytest.mark.parametrize("name", [name for name, blocks in PAGES.items() if blocks])
def test_examples(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write files
    names = {}
    for language, file, code, printed in PAGES[name]:
        used = [lib for lib in LARGE if re.search(rf"^(import|from) {lib}\b", code, re.M)]
        if any(importlib.util.find_spec(library) is None for library in used):
            continue
        if file:
            Path(file).write_text(code)
        elif language == "python":
            with threadpool_limits(1):  # t-SNE's threads wait for one another in loops
                exec(compile(code, name, "exec"), names)
        elif language == "sh":
            for line in code.replace("\\\n", " ").splitlines():
                run(line)
        if printed or (language == "python" and not file):
            assert capsys.readouterr().out == printed
        capsys.readouterr()


def test_all_examples_are_found():
    for path in DOCS.rglob("*.md"):
        text = path.read_text()
        fences = len(re.findall(r"^ *```\w", text, re.MULTILINE))
        found = BLOCK.findall(text)
        assert fences == len(found) + sum(bool(printed) for *_, printed in found)
