"""Picture: a tuning as an SVG, one bar for each candidate, by step. Pure.

    step
      candidate  ├───────●────┤   1.12      its median ratio to the untuned config, a line between its quartiles
      untuned           ┃         1.00
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from pipeline.drawing.svg import FONT, text_at, text_width
from pipeline.tuning.candidate import UNTUNED
from pipeline.tuning.halving import Standing, quartiles
from pipeline.tuning.report import Report, Step

__all__ = ["picture_of"]

_WIDTH, _ROW, _TITLE, _HEAD, _FOOT = 980.0, 24.0, 40.0, 72.0, 24.0
_SMALL = 12.0
_RIGHT = 210.0
_MOST_LABEL = 58
_INK, _SOFT, _GRID, _GREY, _BLUE, _GREEN = "#14202e", "#3c4856", "#c9d1da", "#9aa5b1", "#1d5fa8", "#2f7d3b"


def picture_of(report: Report) -> str:
    """The picture, ending in a newline."""
    steps = [step for step in report.steps if any(one.ratios for one in step.standings)]
    rows = sum(len(step.standings) for step in steps)
    height = _HEAD + len(steps) * _TITLE + rows * _ROW + _FOOT
    labels = [_cut(one.candidate.label) for step in steps for one in step.standings]
    left = 30 + max([text_width(label, _SMALL) for label in labels], default=100.0)
    values = [value for step in steps for one in step.standings for value in (*quartiles(one.ratios), one.ratio)]
    most = max([1.1, *values]) * 1.02
    title, *notes = report.head()
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {_WIDTH:.0f} {height:.0f}" font-family="{FONT}">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        text_at(20, 26, 14, _INK, title, anchor="start", bold=True),
        *[text_at(20, 44 + 17 * number, _SMALL, _SOFT, note, anchor="start") for number, note in enumerate(notes)],
    ]
    top = _HEAD
    for step in steps:
        parts += _step(step, top, left, most)
        top += _TITLE + _ROW * len(step.standings)
    return "\n".join((*parts, "</svg>\n"))


def _step(step: Step, top: float, left: float, most: float) -> Iterator[str]:
    yield text_at(20, top + 24, 13, _INK, step.title, anchor="start", bold=True)
    one = _place(1.0, left, most)
    bottom = top + _TITLE + _ROW * len(step.standings)
    yield f'<path d="M{one:.1f} {top + 30:.1f} V{bottom:.1f}" stroke="{_GRID}" stroke-dasharray="4 3"/>'
    for number, standing in enumerate(step.standings):
        colour = _GREEN if standing.candidate == step.best else _GREY if standing.candidate == UNTUNED else _BLUE
        yield from _row(standing, top + _TITLE + _ROW * number, left, most, colour)


def _row(standing: Standing, top: float, left: float, most: float, colour: str) -> Iterator[str]:
    middle = top + _ROW / 2
    yield text_at(left - 10, middle + 4, _SMALL, _INK, _cut(standing.candidate.label), anchor="end")
    if not standing.ratios:
        yield text_at(left, middle + 4, _SMALL, _SOFT, _cut(standing.why_not or "not measured"), anchor="start")
        return
    low, high = (_place(value, left, most) for value in quartiles(standing.ratios))
    at = _place(standing.ratio, left, most)
    yield f'<rect x="{left:.1f}" y="{top + 5:.1f}" width="{at - left:.1f}" height="{_ROW - 10:.1f}" fill="{colour}"/>'
    yield f'<path d="M{low:.1f} {middle:.1f} H{high:.1f}" stroke="{_INK}" stroke-width="2"/>'
    text = f"{standing.ratio:.2f}   {standing.rate:.0f}/s, p50 {standing.p50_s * 1e3:.3g} ms"
    yield text_at(max(at, high) + 8, middle + 4, _SMALL, _INK, text, anchor="start")


def _place(ratio: float, left: float, most: float) -> float:
    return left + (_WIDTH - _RIGHT - left) * min(max(ratio, 0.0), most) / most


def _cut(text: str) -> str:
    most = min(_MOST_LABEL, math.floor(_WIDTH / _SMALL))
    return text if len(text) <= most else text[: most - 1] + "…"
