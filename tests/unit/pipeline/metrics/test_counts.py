"""Answers are counted by their code, once."""

from __future__ import annotations

from pipeline.metrics.counts import ANSWERED, Counts, answered_and_failed


def test_an_answer_is_counted_under_its_name_and_by_its_code() -> None:
    counts = Counts()
    counts.finish("")
    counts.finish("BadInput")
    counts.refuse("Overloaded")
    assert counts == {"answered": 1, "failed_BadInput": 1, "refused_Overloaded": 1}
    assert counts.answers == {"OK": 1, "BadInput": 1, "Overloaded": 1}


def test_a_request_that_was_refused_and_one_that_failed_share_their_code() -> None:
    counts = Counts()
    counts.finish("Unavailable")
    counts.refuse("Unavailable")
    assert counts == {"failed_Unavailable": 1, "refused_Unavailable": 1}
    assert counts.answers == {"OK": 0, "Unavailable": 2}


def test_what_is_no_answer_is_counted_by_its_name_alone() -> None:
    counts = Counts()
    counts["refused_loans"] += 3
    assert counts["refused_loans"] == 3
    assert counts["retries"] == 0
    assert counts.answers == {"OK": 0}


def test_answers_are_those_without_an_error_and_all_others() -> None:
    assert answered_and_failed({ANSWERED: 5, "BadInput": 2, "Overloaded": 1}) == (5, 3)
    assert answered_and_failed({}) == (0, 0)
