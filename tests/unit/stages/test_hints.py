"""What is said of a name that is not known."""

from __future__ import annotations

from stages.hints import did_you_mean, nearest


def test_a_name_that_is_like_a_known_one_is_answered_with_it() -> None:
    assert nearest("max_sise", ["gather", "max_size"]) == "max_size"
    assert did_you_mean("max_sise", ["gather", "max_size"]) == " (did you mean max_size?)"


def test_a_name_that_is_like_none_is_answered_with_all_sorted_or_in_their_order() -> None:
    assert nearest("zzz", ["b", "a"]) is None
    assert did_you_mean("zzz", ["b", "a"]) == "; there is a, b"
    assert did_you_mean("zzz", ["b", "a"], "known:", in_order=True) == "; known: b, a"


def test_no_more_names_are_listed_than_asked_for() -> None:
    assert did_you_mean("zzz", ["c", "b", "a"], most=2) == "; there is a, b"
    assert did_you_mean("zzz", ["c", "b", "a"]) == "; there is a, b, c"


def test_nothing_is_said_if_there_are_no_names() -> None:
    assert did_you_mean("zzz", []) == ""
