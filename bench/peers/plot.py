"""Plot: what was measured as an SVG picture: a bar for each peer, in panels of p50, requests/s and CPU. Pure.

    ┌ title, machine ──────────────────────────┐
    │ p50, us     this pipeline  ▆▆▆▆ 633      │
    │             zmq-2          ▆ 174         │
    │ requests/s ...                           │
    └──────────────────────────────────────────┘

The scale is logarithmic: between the least and the most lie three powers of ten.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bench.measure import Cell
from bench.peers.catalogue import Peer
from bench.peers.table import value_of
from pipeline.drawing.svg import FONT, text_at

__all__ = ["draw"]

_WIDTH, _LABEL, _RIGHT = 860.0, 330.0, 90.0
_HEAD, _TITLE, _BAR, _GAP = 62.0, 48.0, 18.0, 22.0
_OURS, _OTHERS, _INK, _SOFT, _GRID = "#1d5fa8", "#9aa5b1", "#14202e", "#3c4856", "#e3e8ee"


class _Panel(NamedTuple):
    title: str
    window: int
    field: str


def draw(cells: Sequence[Cell], peers: Sequence[Peer], note: str) -> str:
    """The picture, ending in a newline.

    Args:
        note: below the title: the machine, and how quiet it was.
    """
    windows = sorted({cell.window for cell in cells})
    panels = [_Panel("p50 with one in flight, us: shorter is better", 1, "p50_us")]
    panels += [
        _Panel(f"requests/s with {window} in flight: longer is better", window, "rate")
        for window in windows if window > 1
    ]  # fmt: skip
    if windows:
        most = windows[-1]
        panels.append(_Panel(f"CPU us a request with {most} in flight: shorter is better", most, "cpu_us"))
    parts: list[str] = []
    y = _HEAD
    for panel in panels:
        values = [
            (peer, found.median) for peer in peers
            if (found := value_of(cells, peer.name, panel.window, panel.field)) is not None and found.median > 0
        ]  # fmt: skip
        if values:
            parts += _panel(panel.title, values, y)
            y += _TITLE + _BAR * len(values) + _GAP
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH:.0f}" height="{y:.0f}" '
            f'viewBox="0 0 {_WIDTH:.0f} {y:.0f}" font-family="{FONT}">',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            text_at(16, 26, 15, _INK, "A tensor of 602,112 B through three stages that touch nothing", anchor="start"),
            text_at(16, 46, 11, _SOFT, f"{note}; logarithmic scales", anchor="start"),
            *parts,
            "</svg>\n",
        )
    )


def _panel(title: str, values: Sequence[tuple[Peer, float]], top: float) -> Iterator[str]:
    least = 10 ** math.floor(math.log10(min(value for _, value in values)))
    decades = max(1, math.ceil(math.log10(max(value for _, value in values) / least)))
    wide = _WIDTH - _LABEL - _RIGHT
    bottom = top + _TITLE + _BAR * len(values)
    yield text_at(16, top + 16, 13, _INK, title, anchor="start", bold=True)
    for power in range(decades + 1):
        x = _LABEL + wide * power / decades
        yield f'<path d="M{x:.1f} {top + _TITLE - 8:.1f}V{bottom:.1f}" stroke="{_GRID}"/>'
        yield text_at(x, top + _TITLE - 11, 9, _SOFT, f"{least * 10**power:,.0f}")
    for number, (peer, value) in enumerate(values):
        y = top + _TITLE + _BAR * number
        # A least length, so that the smallest can be seen.
        length = max(2.0, wide * math.log10(value / least) / decades)
        colour = _OURS if peer.package == "trtlab" else _OTHERS
        yield text_at(_LABEL - 8, y + 12, 11, _INK, peer.title, anchor="end")
        yield f'<rect x="{_LABEL:.1f}" y="{y + 2:.1f}" width="{length:.1f}" height="{_BAR - 5:.1f}" fill="{colour}"/>'
        yield text_at(_LABEL + length + 6, y + 12, 11, _INK, f"{value:,.0f}", anchor="start")
