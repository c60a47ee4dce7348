"""Charts as SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from pipeline.drawing.chart import Axis, Line, Panel, axis_of, log_axis_of, to_chart


@pytest.mark.parametrize(
    ("high", "ticks"),
    [(10, "0 2 4 6 8 10"), (7, "0 2 4 6 8"), (0.3, "0 0.1 0.2 0.3"), (1234, "0 500 1000 1500"), (0, "0 0.2 0.4 0.6 0.8 1")],
)
def test_the_ticks_of_a_linear_axis_are_round_and_reach_its_end(high: float, ticks: str) -> None:
    axis = axis_of("ms", high)
    assert " ".join(text for _, text in axis.ticks) == ticks
    assert axis.high >= high


def test_an_exact_axis_ends_where_it_is_told() -> None:
    axis = axis_of("s", 7, exact=True)
    assert (axis.high, axis.ticks[-1][0]) == (7, 6)
    assert axis.place(7) == 1


def test_a_logarithmic_axis_has_whole_decades() -> None:
    axis = log_axis_of("ms", 0.3, 250)
    assert [text for _, text in axis.ticks] == ["0.1", "1", "10", "100", "1000"]
    assert [axis.place(value) for value in (0.1, 10, 1000)] == pytest.approx([0, 0.5, 1])
    assert [text for _, text in log_axis_of("ms", 10, 10).ticks] == ["10", "100"]


def test_what_is_beyond_an_axis_is_at_its_end() -> None:
    assert (axis_of("ms", 10).place(99), log_axis_of("ms", 1, 10).place(0)) == (1, 0)


def test_a_line_goes_through_its_points_and_one_of_steps_holds_each_value() -> None:
    axis = Axis("x", 0, 1, [(0, "0")])

    def path(stepped: bool) -> str:
        line = Line("a", [(0, 0), (1, 1)], "#123456", stepped=stepped)
        picture = to_chart("t", ["n"], [Panel("p", axis, axis, [line])])
        return next(found for found in re.findall(r'd="([^"]+)" fill="none" stroke="#123456"', picture))

    assert re.fullmatch(r"M84\.0 [\d.]+ L826\.0 [\d.]+", path(False))
    assert re.fullmatch(r"M84\.0 [\d.]+ H826\.0 V[\d.]+", path(True))
    start, end = re.findall(r"[\d.]+", path(False))[1::2]
    assert float(start) - float(end) == 180  # upwards, over the whole height


def test_texts_are_escaped_and_cut_to_the_width() -> None:
    axis = axis_of("x", 1)
    picture = to_chart("<&" + "long " * 100, ["n"], [Panel("p", axis, axis, [])])
    title = next(ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text"))
    assert title.text is not None
    assert title.text.startswith("<&long")
    assert title.text.endswith("…")
    assert len(title.text) * 16 * 0.602 < 860


def test_a_line_without_points_is_only_in_the_legend() -> None:
    axis = axis_of("x", 1)
    assert to_chart("t", [], [Panel("p", axis, axis, [Line("none", [], "#123456")])]).count("#123456") == 2
