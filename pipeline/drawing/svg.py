"""A diagram as an SVG picture, with nothing but text written. Pure.

All text is in a fixed-width font, so that its width is known without measuring: 0.6 of its size a character,
as in DejaVu Sans Mono, Menlo, Liberation Mono and Courier.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from itertools import pairwise

from pipeline.drawing.diagram import AFTER, MANY, ONE, WHEN, Arrow, Box, Diagram
from pipeline.drawing.layout import Frame, Layout, Route, Size, make_layout

__all__ = ["FONT", "text_at", "text_width", "to_svg"]

FONT = "'DejaVu Sans Mono', Menlo, 'Liberation Mono', Consolas, monospace"
_NAME, _SMALL = 14.0, 11.0
_CHARACTER = 0.602
_LINE = 1.4
_MARGIN = 16.0
_PADDING = 10.0

_STROKES = {
    ONE: 'stroke="#5b6470" stroke-width="1.3"',
    MANY: 'stroke="#1d5fa8" stroke-width="2.6"',
    WHEN: 'stroke="#a05a00" stroke-width="1.3" stroke-dasharray="5 4"',
    AFTER: 'stroke="#5b6470" stroke-width="1.3" stroke-dasharray="1.5 3.5"',
}
_COLOURS = {ONE: "#5b6470", MANY: "#1d5fa8", WHEN: "#a05a00", AFTER: "#5b6470"}


def to_svg(diagram: Diagram) -> str:
    """The picture, ending in a newline."""
    layout = make_layout(
        diagram,
        {box.key: _box_size(box) for box in diagram.boxes},
        [_label_size(arrow) for arrow in diagram.arrows],
    )
    width, height = layout.width + 2 * _MARGIN, layout.height + 2 * _MARGIN
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="{-_MARGIN:g} {-_MARGIN:g} {width:.0f} {height:.0f}" font-family="{FONT}">',
            *_markers(),
            f'<rect x="{-_MARGIN:g}" y="{-_MARGIN:g}" width="100%" height="100%" fill="#ffffff"/>',
            *_groups(layout),
            # Lines first, so that a label lies on the line that passes behind it.
            *(_line(route) for route in layout.routes),
            *(part for route in layout.routes for part in _label(route)),
            *(part for box in diagram.boxes for part in _box(box, layout.boxes[box.key])),
            "</svg>\n",
        )
    )


def text_width(text: str, size: float) -> float:
    """The width of a text in `FONT` of that size."""
    return len(text) * size * _CHARACTER


def _box_size(box: Box) -> Size:
    name, *rest = box.lines
    width = max(text_width(name, _NAME), *(text_width(line, _SMALL) for line in rest), 60.0)
    return width + 2 * _PADDING, (_NAME + _SMALL * len(rest)) * _LINE + 2 * _PADDING * 0.7


def _label_size(arrow: Arrow) -> Size:
    return max(text_width(line, _SMALL) for line in arrow.lines) + 8, _SMALL * _LINE * len(arrow.lines) + 4


def _markers() -> Iterator[str]:
    yield "<defs>"
    for kind, colour in _COLOURS.items():
        yield (
            f'<marker id="{kind}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="9" markerHeight="9" '
            f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.6 L8 4 L0 7.4 z" fill="{colour}"/></marker>'
        )
    yield "</defs>"


def _groups(layout: Layout) -> Iterator[str]:
    for frame in layout.groups.values():
        yield _rect(frame, 10, 'fill="#f4f7fb" stroke="#9db2cc" stroke-dasharray="6 4"')
        yield text_at(frame.x + 8, frame.y + _SMALL + 3, _SMALL, "#52698a", "one process", anchor="start")


def _line(route: Route) -> str:
    path = f"M{_point(route.points[0])}"
    for number, ((x0, y0), (x1, y1)) in enumerate(pairwise(route.points)):
        if number % 2 == 0:
            path += f" L{_point((x1, y1))}"
        else:
            middle = (y0 + y1) / 2
            path += f" C{_point((x0, middle))} {_point((x1, middle))} {_point((x1, y1))}"
    return f'<path d="{path}" fill="none" {_STROKES[route.arrow.kind]} marker-end="url(#{route.arrow.kind})"/>'


def _label(route: Route) -> Iterator[str]:
    frame = route.label
    yield _rect(frame, 3, 'fill="#ffffff" fill-opacity="0.92"')
    yield from _lines(frame, route.arrow.lines, _SMALL, _COLOURS[route.arrow.kind], frame.y + 2)


def _box(box: Box, frame: Frame) -> Iterator[str]:
    look = 'fill="#e8f0fa" stroke="#33547c"' if box.is_stage else 'fill="#eef4ec" stroke="#4a7340"'
    yield _rect(frame, 6 if box.is_stage else frame.height / 2, look)
    top = frame.y + _PADDING * 0.7
    yield from _lines(frame, box.lines[:1], _NAME, "#14202e", top, bold=True)
    yield from _lines(frame, box.lines[1:], _SMALL, "#3c4856", top + _NAME * _LINE)


def _lines(
    frame: Frame, lines: Iterable[str], size: float, colour: str, top: float, *, bold: bool = False
) -> Iterator[str]:
    middle = frame.x + frame.width / 2
    for number, line in enumerate(lines):
        yield text_at(middle, top + size * (_LINE * number + 1.05), size, colour, line, bold=bold)


def text_at(
    x: float, y: float, size: float, colour: str, text: str, *, anchor: str = "middle", bold: bool = False
) -> str:
    """A text; `anchor`: which part of it is at x."""
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{colour}" text-anchor="{anchor}"{weight}>'
        f"{escape(text, quote=False)}</text>"
    )


def _rect(frame: Frame, radius: float, look: str) -> str:
    return (
        f'<rect x="{frame.x:.1f}" y="{frame.y:.1f}" width="{frame.width:.1f}" height="{frame.height:.1f}" '
        f'rx="{radius:g}" {look}/>'
    )


def _point(point: tuple[float, float]) -> str:
    return f"{point[0]:.1f} {point[1]:.1f}"
