from __future__ import annotations

from typing import Any

import pytest

from pipeline.client.reading import raise_error, read, read_batch
from pipeline.client.request import Request
from pipeline.errors import BadInput, ClientMisuse, Unavailable
from shm.errors import StaleHandle
from tests.unit.pipeline.client.talk import INTERFACE, Talk, ok, slot


@pytest.fixture
def talk() -> Talk:
    talk = Talk()
    talk.attach()
    talk.join()
    return talk


def answered(talk: Talk, number: int, part: int | None = None) -> Request:
    """A request whose answer has come, or a part of it, in a slot that is not there."""
    request = Request({}, INTERFACE.specs)
    request.pending = pending = talk.submit(slot(number))
    answer = ok(pending.tag)
    if part is not None:
        talk.answered(type(answer)(pending.tag, "", "", answer.outputs, (), "", part=part, last=False))
    talk.answered(type(answer)(pending.tag, "", "", (), (), "", part=1) if part is not None else answer)
    return request


def failed(error: Any) -> Request:
    request = Request({}, INTERFACE.specs)
    request.fail(error)
    return request


def test_why_a_request_failed_is_raised_anew_each_time(talk: Talk) -> None:
    request = failed(BadInput("no picture"))
    raised = []
    for _ in range(2):
        with pytest.raises(BadInput, match="no picture") as caught:
            read(talk.session, request)
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    raise_error(answered(talk, 0))


def test_the_first_row_that_has_failed_is_named(talk: Talk) -> None:
    rows = [answered(talk, 0), failed(BadInput("no picture")), failed(BadInput("another"))]
    with pytest.raises(BadInput, match="row 1 of 3: no picture"):
        read_batch(talk.session, rows)


def test_a_slot_that_is_not_what_the_answer_says_is_a_pipeline_that_has_changed(talk: Talk) -> None:
    request = answered(talk, 0)

    class Table:
        def view(self, handle: object) -> None:
            raise StaleHandle("generation 2")

    assert request.pending is not None
    request.pending.table = Table()  # type: ignore[assignment]
    with pytest.raises(Unavailable, match="generation 2; the pipeline's memory has changed under this client"):
        read(talk.session, request)


def test_several_parts_are_no_single_result(talk: Talk) -> None:
    with pytest.raises(ClientMisuse, match=r"has come in 1 parts.*runner\.stream"):
        read(talk.session, answered(talk, 0, part=0))
