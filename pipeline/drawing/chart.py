"""A chart as an SVG picture: panels of lines, one below the other. Pure.

    ┌ title ─────────────────────────┐
    │ panel: its title, its legend   │
    │ y │ ~~~~~~~~                   │
    │   └──────────── x              │
    │ panel ...                      │
    └────────────────────────────────┘

It is drawn for a width of 860 and can be shown at any: all lines and texts grow with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.drawing.svg import FONT, text_at, text_width

__all__ = ["Axis", "Line", "Panel", "axis_of", "log_axis_of", "to_chart"]

_WIDTH = 860.0
_LEFT, _RIGHT = 84.0, 34.0
_HEAD, _TITLE, _PLOT, _FOOT = 64.0, 46.0, 180.0, 58.0
_TEXT, _SMALL = 13.0, 12.0
_INK, _SOFT, _GRID = "#14202e", "#3c4856", "#e3e8ee"
_TICKS = 5


@dataclass(frozen=True)
class Axis:
    """An axis: what it measures, with its unit, and which values are written beside it."""

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value is, from 0 to 1."""
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return (value - low) / (high - low)


@dataclass(frozen=True)
class Line:
    """Points in the order of x, and how they are drawn."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    dashed: bool = False
    stepped: bool = False
    """Each value holds until the next point."""


@dataclass(frozen=True)
class Panel:
    """Lines over the same axes."""

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line]


def axis_of(label: str, high: float, *, exact: bool = False) -> Axis:
    """A linear axis from 0 to at least `high`, which is above 0, or exactly to it, with round ticks."""
    span = high if high > 0 else 1.0
    step = 10 ** math.floor(math.log10(span / _TICKS))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= _TICKS)
    count = math.floor(span / step + 1e-9) if exact else math.ceil(span / step - 1e-9)
    ticks = [(number * step, f"{number * step:g}") for number in range(count + 1)]
    return Axis(label, 0.0, span if exact else ticks[-1][0], ticks)


def log_axis_of(label: str, low: float, high: float) -> Axis:
    """A logarithmic axis of whole decades around `low` and `high`, which are above 0."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    last = max(last, first + 1)
    ticks = [(10.0**decade, f"{10.0**decade:g}") for decade in range(first, last + 1)]
    return Axis(label, 10.0**first, 10.0**last, ticks, log=True)


def to_chart(title: str, notes: Sequence[str], panels: Sequence[Panel]) -> str:
    """The picture, ending in a newline.

    Args:
        notes: lines below the title.
    """
    head = _HEAD + 18 * max(0, len(notes) - 1)
    each = _TITLE + _PLOT + _FOOT
    height = head + each * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {_WIDTH:.0f} {height:.0f}" font-family="{FONT}">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        text_at(20, 28, 16, _INK, _cut(title, 16), anchor="start", bold=True),
    ]
    for number, note in enumerate(notes):
        parts.append(text_at(20, 50 + 18 * number, _SMALL, _SOFT, _cut(note, _SMALL), anchor="start"))
    for number, panel in enumerate(panels):
        parts += _panel(panel, head + each * number)
    return "\n".join((*parts, "</svg>\n"))


def _cut(text: str, size: float) -> str:
    """As much of it as fits the width."""
    most = int((_WIDTH - 40) / text_width("x", size))
    return text if len(text) <= most else text[: most - 1] + "…"


def _panel(panel: Panel, top: float) -> Iterator[str]:
    left, right, above = _LEFT, _WIDTH - _RIGHT, top + _TITLE
    below = above + _PLOT
    yield text_at(20, top + 18, _TEXT, _INK, panel.title, anchor="start", bold=True)
    yield from _legend(panel.lines, right, top + 36)
    for value, text in panel.y.ticks:
        y = below - panel.y.place(value) * _PLOT
        yield f'<path d="M{left:.1f} {y:.1f} H{right:.1f}" stroke="{_GRID}"/>'
        yield text_at(left - 8, y + 4, _SMALL, _SOFT, text, anchor="end")
    for value, text in panel.x.ticks:
        x = left + panel.x.place(value) * (right - left)
        yield f'<path d="M{x:.1f} {above:.1f} V{below + 5:.1f}" stroke="{_GRID}"/>'
        yield text_at(x, below + 20, _SMALL, _SOFT, text)
    yield f'<path d="M{left:.1f} {above:.1f} V{below:.1f} H{right:.1f}" fill="none" stroke="{_SOFT}"/>'
    yield text_at((left + right) / 2, below + 40, _SMALL, _SOFT, panel.x.label)
    yield text_at(20, top + 36, _SMALL, _SOFT, panel.y.label, anchor="start")
    for line in panel.lines:
        if line.points:
            yield _path(line, panel, left, right, below)


def _legend(lines: Sequence[Line], right: float, y: float) -> Iterator[str]:
    x = right
    for line in reversed(lines):
        x -= text_width(line.name, _SMALL)
        yield text_at(x, y, _SMALL, line.colour, line.name, anchor="start")
        x -= 30
        yield f'<path d="M{x:.1f} {y - 4:.1f} h24" {_stroke(line)}/>'
        x -= 16


def _path(line: Line, panel: Panel, left: float, right: float, below: float) -> str:
    points = [
        (left + panel.x.place(x) * (right - left), below - panel.y.place(y) * _PLOT) for x, y in line.points
    ]
    x, y = points[0]
    path = f"M{x:.1f} {y:.1f}"
    for x, y in points[1:]:
        path += f" H{x:.1f} V{y:.1f}" if line.stepped else f" L{x:.1f} {y:.1f}"
    return f'<path d="{path}" fill="none" {_stroke(line)}/>'


def _stroke(line: Line) -> str:
    dashes = ' stroke-dasharray="6 4"' if line.dashed else ""
    return f'stroke="{line.colour}" stroke-width="2" stroke-linejoin="round"{dashes}'
