"""What notebooks show of plans, reports and results: a table, and a small picture beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

#: Pixels: of a bar at its longest, of a line, of a picture of columns, of the text beside bars.
_WIDTH, _LINE, _HEIGHT, _TEXT = 160, 18, 60, 130


def of_text(text: str) -> list[tuple[str, str]]:
    """The lines of a ``str`` of names, some spaces, and what they name."""
    lines = (line.split(None, 1) for line in text.splitlines())
    return [(name, rest[0] if rest else "") for name, *rest in lines]


def table(title: str, rows: Iterable[tuple[str, object]], picture: str = "") -> str:
    """A table of names and values, with a picture on the right."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(str(value))}</td></tr>"
        for name, value in rows
    )
    return (
        f"<div><strong>{escape(title)}</strong>"
        f"<div style='display:flex;flex-wrap:wrap;gap:2em;align-items:center'>"
        f"<table>{cells}</table>{picture}</div></div>"
    )


def bars(title: str, values: Mapping[str, float], most: float | None = None) -> str:
    """A bar for each value, the longest for ``most``, or else for the largest of them."""
    most = most or max(values.values(), default=0) or 1
    lines = "".join(
        f"<text x='0' y='{_LINE * line + 13}'>{escape(name)}</text>"
        f"<rect x='{_TEXT}' y='{_LINE * line + 3}' height='12' "
        f"width='{_WIDTH * min(max(value / most, 0), 1):.1f}'/>"
        for line, (name, value) in enumerate(values.items())
    )
    return _svg(title, _TEXT + _WIDTH, max(_LINE * len(values), 1), lines)


def columns(title: str, counts: Sequence[int], low: str, high: str) -> str:
    """A histogram, with what its ends are."""
    most, width = max([*counts, 1]), (_TEXT + _WIDTH) / max(len(counts), 1)
    shapes = "".join(
        f"<rect x='{width * at:.1f}' y='{_HEIGHT * (1 - count / most):.1f}' "
        f"width='{width - 1:.1f}' height='{_HEIGHT * count / most:.1f}'/>"
        for at, count in enumerate(counts)
    )
    ends = (
        f"<text x='0' y='{_HEIGHT + 13}'>{escape(low)}</text>"
        f"<text x='{_TEXT + _WIDTH}' y='{_HEIGHT + 13}' text-anchor='end'>{escape(high)}</text>"
    )
    return _svg(title, _TEXT + _WIDTH, _HEIGHT + _LINE, shapes + ends)


def _svg(title: str, width: int, height: int, shapes: str) -> str:
    # In the colour of the text, so that it is seen on dark pages, too.
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' role='img' width='{width}' height='{height}' "
        f"viewBox='0 0 {width} {height}' fill='currentColor' font-size='12'>"
        f"<title>{escape(title)}</title>{shapes}</svg>"
    )
