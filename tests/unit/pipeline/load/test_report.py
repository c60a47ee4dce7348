"""What is told at the end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.load.histogram import Histogram
from pipeline.load.report import Report, percentiles_of
from pipeline.load.tally import Failure, Tally


def report(tally: Tally, **fields: Any) -> Report:
    given: dict[str, Any] = {"seconds": 2.0, "wanted_rate": 5.0, **fields}
    return Report("mnist", "siege, constant 5/s", "x random", 4, 950, tally=tally, **given)


def tally_of(count: int = 10, *, late_s: float = 0.0, answer_s: float = 0.010) -> Tally:
    tally = Tally()
    for number in range(count):
        due = number / 5
        tally.went(due, due, due + late_s)
        tally.came(due, due + late_s, due + late_s + answer_s, None)
    return tally


def test_percentiles_are_in_milliseconds() -> None:
    durations = Histogram()
    durations.add(0.010)
    durations.add(0.030)
    assert percentiles_of(durations) == {
        "p50": pytest.approx(10, rel=0.004), "p90": 30.0, "p99": 30.0, "p99.9": 30.0, "max": 30.0, "mean": 20.0
    }  # fmt: skip


def test_the_document_has_the_numbers_with_their_units_and_is_json() -> None:
    document = json.loads(json.dumps(report(tally_of()).to_dict()))
    assert (document["sent"], document["answered"], document["failed"], document["unsent"]) == (10, 10, 0, 0)
    assert document["rate_per_s"] == {"wanted": 5.0, "sent": 5.0, "answered": 5.0}
    assert document["rows_per_s"] == 20.0
    assert document["latency_ms"]["p99"] == pytest.approx(10, rel=0.004)
    assert document["precision_percent"] == 0.4
    assert [row["wanted"] for row in document["timeline"]["rows"]] == [5, 5]
    assert document["timeline"]["rows"][0]["p99_ms"] == pytest.approx(10, rel=0.004)
    assert document["warnings"] == []


def test_a_short_siege_that_holds_its_rate_is_not_told_as_a_faster_one() -> None:
    # The last of three at 5/s is due after 0.4 s, and its answer ends the siege.
    short = report(tally_of(3), seconds=0.41)
    assert short.rates() == pytest.approx({"wanted": 5.0, "sent": 5.0, "answered": 5.0})
    assert report(tally_of(3), seconds=0.41, wanted_rate=None).rates()["answered"] == pytest.approx(3 / 0.41)
    assert report(tally_of(3), seconds=1.5).rates()["answered"] == 2.0


def test_a_closed_loop_has_neither_a_wanted_rate_nor_a_lateness() -> None:
    closed = report(tally_of(), wanted_rate=None)
    assert "wanted" not in closed.rates()
    assert {"held_ms", "lateness_ms"} & closed.to_dict().keys() == set()
    assert [what for what, _, _ in closed.table()] == ["latency"]
    assert [what.strip() for what, _, _ in report(tally_of()).table()] == ["latency", "from sending", "held", "late"]


def test_a_generator_that_is_late_says_so_and_one_that_is_late_by_little_does_not() -> None:
    (warning,) = report(tally_of(late_s=0.005)).warnings()
    assert warning.startswith("the generator itself was late: p99 of sending lateness 5 ms")
    assert list(report(tally_of(late_s=0.0009, answer_s=0.001)).warnings()) == []  # less than a millisecond
    assert list(report(tally_of(late_s=0.005, answer_s=0.1)).warnings()) == []  # less than a tenth of the latency
    assert list(report(tally_of(late_s=0.005), wanted_rate=None).warnings()) == []  # a closed loop has no schedule


def test_requests_without_an_end_are_told_and_are_no_success() -> None:
    left = report(tally_of(), unanswered=2, oldest_s=3.5, unsent=7)
    assert [warning.split(",")[0] for warning in left.warnings()] == [
        "2 requests had no answer at the end", "7 requests were due and never sent"
    ]  # fmt: skip
    assert "10 answered, 0 failed, 2 unanswered, 7 never sent in 2.00 s" in "\n".join(left.head())
    assert not left.ok
    assert not report(tally_of(), unsent=1).ok
    assert not report(tally_of(), unanswered=1).ok


def test_what_was_interrupted_is_no_failure_unless_something_has_failed() -> None:
    assert report(tally_of(), unanswered=2, unsent=7, interrupted=True).ok
    tally = tally_of()
    tally.came(0, 0, 1, Failure("StageFailed", "a\nb"))
    failed = report(tally, interrupted=True)
    assert not failed.ok
    assert list(failed.failures()) == ["1 x StageFailed; the first: a b"]
    assert failed.to_dict()["failures"] == {"StageFailed": {"count": 1, "first": "a b"}}
    assert "interrupted" in "\n".join(failed.head())


def test_all_answered_is_a_success() -> None:
    assert report(tally_of()).ok


def test_of_a_siege_that_nothing_has_answered_there_is_no_latency_and_none_that_lateness_could_be_part_of() -> None:
    tally = Tally()
    tally.went(0.0, 0.0, 0.5)
    tally.came(0.0, 0.5, 0.6, Failure("BadInput", "no picture"))
    unanswered = report(tally)
    document = json.loads(json.dumps(unanswered.to_dict()))
    assert set(document["latency_ms"].values()) == set(document["from_sending_ms"].values()) == {None}
    assert document["lateness_ms"]["max"] == 500
    assert list(unanswered.warnings()) == []
