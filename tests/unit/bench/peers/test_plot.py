"""The plot of peers: valid SVG, a bar for each value, on a logarithmic scale."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bench.peers.catalogue import chosen
from bench.peers.plot import draw
from tests.unit.bench.peers.cells import CELLS, cell

SVG = "{http://www.w3.org/2000/svg}"


def bars(text: str) -> list[tuple[float, str]]:
    """Length and colour of each bar, from the top."""
    root = ElementTree.fromstring(text)
    return [(float(bar.attrib["width"]), bar.attrib["fill"]) for bar in root.iter(f"{SVG}rect") if "x" in bar.attrib]


def test_there_is_a_bar_for_each_value_and_none_for_what_was_not_measured() -> None:
    text = draw(CELLS, chosen("pipeline,mosec,dora"), "a note & more")
    # p50 of two; the rate at 16 and the CPU at 16 of one.
    assert len(bars(text)) == 4
    assert "a note &amp; more" in text


def test_a_bar_is_as_long_as_the_logarithm_and_ours_has_a_colour_of_its_own() -> None:
    values = [cell("pipeline", 1, (100, 1, 1, 0)), cell("mosec", 1, (1000, 1, 1, 0)),
              cell("dora", 1, (10_000, 1, 1, 0))]  # fmt: skip
    (ours, first), (other, second), (third, _) = bars(draw(values, chosen("pipeline,mosec,dora"), ""))[:3]
    assert first != second
    assert ours == 2.0
    assert third == pytest.approx(2 * other)


def test_without_any_value_there_is_a_picture_without_bars() -> None:
    assert bars(draw([], chosen("pipeline"), "")) == []
