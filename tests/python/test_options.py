"""The table of docs/keys.md: the options that functions and commands have."""

import ast
import inspect
import re
from pathlib import Path

import click
import lshjoin
import pytest
from lshjoin import command_line

ROOT = Path(__file__).resolve().parents[2]
#: What an option may be called, by column.
NAMES = {
    "`within`": {"within"},
    "`apart`": {"apart"},
    "`exclude`": {"exclude"},
    "ids": {"ids", "id_column", "idCol"},
    "`max_neighbors`": {"max_neighbors"},
    "a radius a row": {"radius"},
}


def table():
    text = (ROOT / "docs/keys.md").read_text().partition("## Which option works where")[2]
    lines = [line.strip()[1:-1] for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    head, _, *body = rows
    return {row[0].strip("`"): dict(zip(head[1:], row[1:], strict=True)) for row in body}


TABLE = table()


def parameters(name):
    """The options of a function or command, and what each may be."""
    if name.startswith("lshjoin "):
        command = command_line.lshjoin
        for word in name.split()[1:]:
            command = command.commands[word]
        return {option.opts[0]: "" for option in command.params if isinstance(option, click.Option)}
    if name.startswith("spark."):  # which may not be installed
        for path in (ROOT / "pybind/python/lshjoin/spark").glob("*.py"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.FunctionDef) and node.name == name.split(".")[1]:
                    found = [*node.args.args, *node.args.kwonlyargs]
                    return {one.arg: ast.unparse(one.annotation) for one in found}
    function = lshjoin
    for part in name.split("."):
        function = getattr(function, part)
    found = inspect.signature(function).parameters
    return {one: str(parameter.annotation) for one, parameter in found.items()}


@pytest.mark.parametrize("name", TABLE)
def test_options_are_those_of_the_table(name):
    there = parameters(name)
    for column, cell in TABLE[name].items():
        named = {one for one in there if one.lstrip("-").replace("-", "_") in NAMES[column]}
        if column == "a radius a row":
            named = {one for one in named if "Radius" in there[one]}
        assert cell.strip("`") == "".join(named), column


def test_all_joins_are_in_the_table():
    joins = {name for name in lshjoin.__all__ if re.search(r"join|dedup", name)}
    assert joins <= TABLE.keys()
    commands = command_line.lshjoin.commands
    asked = {name for name, command in commands.items() if "-k" in str(vars(command))}
    assert {f"lshjoin {name}" for name in asked | {"radius", "dedup"}} <= TABLE.keys()
    assert set(NAMES) == {column for cells in TABLE.values() for column in cells}
