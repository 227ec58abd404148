"""Options of a command from a TOML file: ``--from job.toml``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def use_file(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Has the options in a file where the command line has none: the callback of an option.

    Raises:
        ValueError: for a file that is no TOML.
        click.BadParameter: for names or values that are no options of the command.
    """
    if path is None:
        return
    try:
        job = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of encoding, or of TOML
        raise ValueError(f"{path} is not a readable TOML file: {error}") from None
    known = _names(context.command)
    for name, value in job.items():
        if name not in known:
            raise click.BadParameter(
                f"{path} has {name!r}, but {context.command_path} has no such option; it has "
                f"{', '.join(known)}"
            )
        flag = isinstance(known[name], click.Option) and getattr(known[name], "is_flag", False)
        if not isinstance(value, bool if flag else str | int | float) or (
            isinstance(value, bool) and not flag
        ):
            wanted = "true or false" if flag else "a text or a number"
            raise click.BadParameter(f"{name} of {path} must be {wanted}, not {value!r}")
    context.default_map = {known[name].name or "": value for name, value in job.items()}


def _names(command: click.Command) -> dict[str, Any]:
    """What the arguments and options of a command are called in a file."""
    names: dict[str, Any] = {}
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            names[parameter.human_readable_name.lower()] = parameter
        elif not parameter.is_eager:
            names[parameter.opts[-1].lstrip("-")] = parameter
    return names


FROM = click.option(
    "--from",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=use_file,
    metavar="FILE",
    help='TOML file of arguments and options not given here: `memory-limit = "4GiB"`.',
)
