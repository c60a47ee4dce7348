"""A caller that wants a slot."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.client.ask import Ask
from pipeline.errors import Unavailable


class Kept:
    """A grant that notes for whom it is kept."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Ask]] = []

    def keep_for(self, ask: Ask) -> None:
        self.said.append(("kept", ask))

    def let_go(self, ask: Ask) -> None:
        self.said.append(("let go", ask))


def asked() -> tuple[Ask, Any]:
    return Ask(1, 5, waits=True), Kept()


def test_a_grant_is_kept_for_the_caller_until_it_takes_it() -> None:
    ask, grant = asked()
    assert (ask.done, ask.grant) == (False, None)
    ask.answer(grant)
    assert (ask.done, grant.said) == (True, [("kept", ask)])
    assert ask.take() is grant


def test_what_came_in_place_of_a_slot_is_raised_once() -> None:
    ask, _ = asked()
    ask.answer(None, Unavailable("gone"))
    with pytest.raises(Unavailable, match="gone"):
        ask.take()
    assert ask.take() is None


def test_one_that_is_dropped_keeps_no_grant() -> None:
    ask, grant = asked()
    ask.answer(grant)
    ask.abandon()
    assert grant.said == [("kept", ask), ("let go", ask)]
    assert (ask.done, ask.take()) == (True, None)
    waiting, _ = asked()
    waiting.abandon()
    assert waiting.done
