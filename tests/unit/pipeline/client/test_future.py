"""Futures: what they raise, and what they keep."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from msgspec.structs import replace

from pipeline.client.future import Future
from pipeline.errors import RequestError
from pipeline.wire.messages import Answer, SlotRef
from tests.unit.pipeline.client.talk import OUT_SLOT, Talk, ok, slot


class Owner:
    """A client that has nothing to wait for."""

    def make_result(self, future: Future, part: Answer | None = None) -> Any:
        return part


def submitted(talk: Talk) -> Future:
    owner: Any = Owner()
    session = talk.session
    made = Future(session.tag(), owner, talk.leases, session.table, session.interface, talk.now)
    session.submit(made, talk.draft(slot(0)), 0, 0, "")
    session.flush()
    return made


@pytest.fixture
def talk() -> Talk:
    """A client that is let in."""
    talk = Talk()
    talk.attach()
    talk.join()
    return talk


def released(talk: Talk) -> list[SlotRef]:
    return [ref for message in talk.said() for ref in getattr(message, "releases", ())]


@pytest.mark.parametrize("way", ["answer", "death"])
def test_a_future_whose_error_was_raised_gives_its_slots_back_when_it_is_dropped(talk: Talk, way: str) -> None:
    future = submitted(talk)
    talk.said()
    talk.answered(replace(ok(1), last=False))
    if way == "answer":
        talk.answered(Answer(1, "BadInput", "no", (), b"", "", part=1))
    else:
        talk.session.close(talk.now)
    parts: list[Any] = []
    gc.disable()
    try:
        assert error_of(future, parts) == ("BadInput: no" if way == "answer" else "Unavailable: closed")
        # The part that had come, before the error.
        assert [part.part for part in parts] == [0]
        gone = weakref.ref(future)
        assert released(talk) == []
        del future
        assert gone() is None
        assert released(talk) == ([OUT_SLOT] if way == "answer" else [])
    finally:
        gc.enable()


def error_of(future: Future, parts: list[Any]) -> str:
    # The traceback of the error refers to this frame, and this frame to the future.
    try:
        parts.extend(future.results())
    except RequestError as error:
        return f"{error.code}: {'closed' if 'closed' in str(error) else error}"
    return ""
