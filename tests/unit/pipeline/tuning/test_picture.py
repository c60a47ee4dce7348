"""The picture of a tuning."""

from __future__ import annotations

from xml.etree import ElementTree

from pipeline.tuning.picture import picture_of
from tests.unit.pipeline.tuning.test_report import report

SVG = "{http://www.w3.org/2000/svg}"


def test_it_has_a_bar_for_each_candidate_that_was_measured_as_long_as_its_ratio() -> None:
    root = ElementTree.fromstring(picture_of(report(*[1.25] * 6)))
    texts = [element.text or "" for element in root.iter(f"{SVG}text")]
    for text in ("arrangements", "batches", "duel", "untuned", "2 x all stages in one process", "no room"):
        assert text in texts
    assert "1.15   120/s, p50 10 ms" in texts
    bars = [float(bar.get("width", "")) for bar in root.iter(f"{SVG}rect") if bar.get("width") != "100%"]
    # Two of the first step, three of the second, two of the last; the one without room has none.
    assert len(bars) == 7
    assert abs(bars[0] / bars[1] - 1.15) < 0.01


def test_nothing_is_drawn_outside_of_it() -> None:
    root = ElementTree.fromstring(picture_of(report(*[9.0] * 6)))
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    for element in (*root.iter(f"{SVG}rect"), *root.iter(f"{SVG}text")):
        if element.get("width") != "100%":
            assert 0 <= float(element.get("x", "")) + float(element.get("width", 0)) <= width
            assert 0 <= float(element.get("y", "")) <= height
