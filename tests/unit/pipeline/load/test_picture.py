"""The picture of a siege."""

from __future__ import annotations

from xml.etree import ElementTree

from pipeline.load.loops import OpenLoop
from pipeline.load.picture import picture_of
from pipeline.load.report import Report
from pipeline.load.tally import Failure
from pipeline.load.timeline import MOST

SVG = "{http://www.w3.org/2000/svg}"


def siege(count: int, *, answer_s: float = 0.01, failing: int = 0) -> Report:
    loop = OpenLoop((number / 10 for number in range(count)), count + 1, count)
    for number in range(count):
        loop.take(number / 10)
    for number in range(count):
        failure = Failure("Overloaded", "") if number < failing else None
        loop.came(number, number / 10 + answer_s * (1 + number % 7), failure)
    return Report("a<b", "siege, constant 10/s", "x", 1, 9, count / 10, loop.tally, wanted_rate=10)


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def test_it_has_rates_and_percentiles_with_their_units() -> None:
    found = texts(picture_of(siege(50)))
    assert found[0] == "siege, constant 10/s: a<b, at most 9 outstanding"
    for text in ("ms", "requests/s", "s from the beginning", "percentile of the answered requests", "wanted", "sent", "90"):
        assert text in found
    assert "failed" not in found


def test_failures_have_a_line_if_there_are_any() -> None:
    assert "failed" in texts(picture_of(siege(50, failing=3)))


def test_latencies_that_differ_much_are_on_a_logarithmic_axis() -> None:
    report = siege(200)
    report.tally.came(0, 0, 900.0, None)
    found = texts(picture_of(report))
    assert {"10", "100", "1000", "1e+06"} <= set(found)


def test_a_siege_without_any_answer_has_a_picture_too() -> None:
    empty = OpenLoop(iter(()), 1, 1)
    for report in (siege(5, failing=5), Report("m", "siege", "x", 1, 9, 0.0, empty.tally, wanted_rate=0.0)):
        assert texts(picture_of(report))


def test_a_long_siege_is_no_larger_picture() -> None:
    report = siege(20)
    report.tally.timeline.row(100_000.0).sent += 1
    assert len(report.tally.timeline.rows) <= MOST
    assert len(picture_of(report)) < 120_000
