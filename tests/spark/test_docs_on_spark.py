"""The examples of Spark in docs/ print what docs/ says; those without are in tests/python."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = [
    (path.name, code, printed)
    for path in sorted(DOCS.glob("*.md"))
    for code, printed in re.findall(
        r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE
    )
    if "lshjoin.spark" in code
]


@pytest.mark.parametrize(("name", "code", "printed"), EXAMPLES, ids=[name for name, *_ in EXAMPLES])
def test_example(name, code, printed, spark, capsys):
    exec(compile(code, name, "exec"), {"spark": spark})
    assert capsys.readouterr().out == printed
