"""The queue of a client: slots that are reserved before they are written, against the real scheduler."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.wire.messages import Submit
from tests.unit.pipeline.client.direct import Direct, until, x_of

SECOND = 1_000_000_000


def test_a_submission_goes_with_the_next_messages(direct: Direct) -> None:
    until(direct, [direct.infer(1)])
    direct.infer(2)
    (message,) = direct.session.to_send()
    assert isinstance(message, Submit)
    assert np.frombuffer(x_of(2), np.uint8).tobytes() == x_of(2)


def test_nothing_is_reserved_while_a_request_waits_for_such_a_slot(direct: Direct) -> None:
    until(direct, [direct.infer(1)])
    waits = direct.request(2)
    direct.queue.put(waits, direct.now)
    # There is a slot in hand: it is that of the one that waits.
    assert direct.session.grant(waits.segment) is not None
    assert not direct.queue.reserve(direct.request(3))


def test_nothing_is_reserved_while_requests_of_before_the_connection_wait(direct: Direct) -> None:
    direct.die()
    first = direct.infer(1)
    direct.start()
    direct.connect()
    assert direct.session.lost is None
    # There is a slot in hand: the one that waits is placed first.
    segment = direct.session.slots.segment_for(16)
    direct.session.ask(segment, direct.now)
    direct.send()
    direct.decide()
    direct.receive()
    assert direct.session.grant(segment) is not None
    assert not direct.queue.reserve(direct.request(2))
    until(direct, [first])


@pytest.mark.parametrize("how", ["closed", "given back"])
def test_a_slot_that_is_not_the_clients_any_more_is_not_submitted(direct: Direct, how: str) -> None:
    until(direct, [direct.infer(1)])
    request = direct.request(2)
    assert direct.queue.reserve(request)
    draft = request.draft
    assert draft is not None
    if how == "closed":
        # As `Session.close` does.
        draft.close()
    else:
        direct.session.give_back([draft.slot])
    assert not direct.queue.submit(request, direct.now)
    assert request.waits


def test_a_reserved_slot_is_given_back_once_and_its_arrays_are_read_only(direct: Direct) -> None:
    until(direct, [direct.infer(1)])
    request = direct.request(2)
    assert direct.queue.reserve(request)
    draft = request.draft
    assert draft is not None
    direct.queue.give_back(request)
    direct.queue.give_back(request)
    assert [*direct.session.slots.returned] == [draft.slot]
    assert not any(array.flags.writeable for array in draft.inputs.values())
    # One that has gone back by another way is not given back again.
    request.draft = draft
    draft.open = True
    direct.queue.give_back(request)
    assert [*direct.session.slots.returned] == [draft.slot]


def test_requests_that_are_sent_at_once_have_their_place_among_the_others(direct: Direct) -> None:
    until(direct, [direct.infer(1)])
    requests = [direct.infer(2)]
    requests.append(direct.request(3))
    direct.queue.put(requests[1], direct.now)
    assert requests[0].pending is not None
    assert 0 < requests[0].number < requests[1].number
    until(direct, requests)
