"""What people are shown of reloads."""

from __future__ import annotations

import pytest

from pipeline.logs.forms import time_of
from pipeline.watching.reloads import reload_lines, reload_note
from pipeline.wire.status import ReloadsStatus, ReloadStatus

GOING = ReloadStatus("detect", "/a.yaml", "pets-7", 100.0, "", "started", "detect/1 starts", 1, 2)
WHOLE = ReloadStatus("", "/a.yaml", "pets-7", 100.0, "", "begun", "/a.yaml")


def ended(outcome: str, reason: str = "", stage: str = "detect") -> ReloadsStatus:
    after = "" if stage else "pets-9"
    return ReloadsStatus(
        None, ReloadStatus(stage, "/a.yaml", "pets-7", 100.0, after, ended_s=103.0, outcome=outcome, reason=reason), {}
    )


def test_nothing_is_shown_of_none() -> None:
    for nothing in (None, ReloadsStatus(None, None, {})):
        assert reload_lines(nothing, 9.0) == []
        assert reload_note(nothing, 9.0) == ""


def test_one_of_a_stage_that_is_under_way_says_which_since_when_and_how_far() -> None:
    reloads = ReloadsStatus(GOING, None, {})
    far = "1 of 2 workers are new; detect/1 starts"
    assert reload_lines(reloads, 112.0) == [f"under way for 12 s: stage detect, as in /a.yaml: {far}"]
    assert reload_note(reloads, 112.0) == "a reload of detect is under way for 12 s, 1 of 2 workers are new"


def test_a_whole_one_that_is_under_way_names_the_run_that_is_replaced() -> None:
    reloads = ReloadsStatus(WHOLE, None, {})
    assert reload_lines(reloads, 175.0) == ["under way for 1 min 15 s: pets-7 by a new version, as in /a.yaml"]
    assert reload_note(reloads, 175.0) == "a reload is under way for 1 min 15 s"


@pytest.mark.parametrize(
    ("outcome", "words"),
    [("failed", "failed"), ("rolled_back", "was rolled back"), ("mixed", "left workers of both versions")],
)
def test_one_that_has_not_succeeded_says_how_when_and_why_and_is_noted(outcome: str, words: str) -> None:
    found = ended(outcome, "detect/0 could not start:\nno weights")
    when = f"5 s ago, at {time_of(103.0)}, after 3 s"
    assert reload_lines(found, 108.0) == [
        f"the last one {words} {when}: stage detect, as in /a.yaml", "detect/0 could not start:", "no weights",
    ]  # fmt: skip
    assert reload_note(found, 108.0) == f"the last reload of detect {words} 5 s ago"


def test_one_that_has_succeeded_is_told_with_both_runs_but_is_no_note() -> None:
    found = ended("succeeded", stage="")
    (line,) = reload_lines(found, 108.0)
    assert line.endswith(": pets-7 by pets-9, as in /a.yaml")
    assert line.startswith("the last one succeeded 5 s ago, at ")
    assert reload_note(found, 108.0) == ""
