"""What keys do to what `pipeline top` shows."""

from __future__ import annotations

import pytest

from pipeline.watching.rates import Sample, Sort
from pipeline.watching.view import KEYS, View


def sample(at: float) -> Sample:
    return Sample(at, "detect-7", None, "no answer", (), None)


def test_q_quits_and_a_key_without_a_meaning_does_nothing() -> None:
    assert View().press("q").over
    assert View().press("Q").over
    assert View().press("x") == View()


@pytest.mark.parametrize(("key", "sort"), [("c", Sort.CPU), ("m", Sort.MEMORY), ("r", Sort.RATE), ("w", Sort.WAITING)])
def test_a_key_orders_and_once_more_it_does_not(key: str, sort: Sort) -> None:
    assert View().press(key).sort is sort
    assert View().press(key).press(key).sort is Sort.GRAPH
    assert View().press(key).press("g").sort is Sort.GRAPH


def test_each_key_that_means_something_is_named() -> None:
    assert [word for word in KEYS.split() if len(word) == 1] == ["q", "p", "c", "m", "r", "w", "g"]


def test_a_paused_view_stays_until_it_goes_on() -> None:
    view = View().take(sample(1.0)).take(sample(2.0)).press("p")
    assert view.take(sample(3.0)) == view
    view = view.press(" ").take(sample(4.0))
    frame = view.frame()
    assert frame is not None
    assert frame.seconds == 2.0


def test_the_first_sample_is_shown_at_once() -> None:
    assert View().frame() is None
    frame = View().take(sample(1.0)).frame()
    assert frame is not None
    assert (frame.seconds, frame.reasons) == (0.0, {"": "no answer"})
