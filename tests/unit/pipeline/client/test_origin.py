"""What a client says of a request beside its inputs: its stream, when it began, its trace; and what it tells besides."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pipeline.wire.messages import AskStatus, Submit
from pipeline.wire.records import Origin
from tests.unit.pipeline.client.talk import ME, Talk, slot, submission


@pytest.fixture
def talk() -> Talk:
    """A client that is let in."""
    talk = Talk()
    talk.attach()
    talk.join()
    return talk


def test_the_submission_says_of_which_stream_a_request_is_and_when_it_began(talk: Talk) -> None:
    pending = talk.pending()
    talk.session.submit(pending, talk.draft(slot(0)), 0, 0, "", Origin(7, 3, 99, "00-trace"))
    talk.session.flush()
    expected = replace(submission(1, slot(0)), stream=7, sequence=3, started=99, traceparent="00-trace")
    assert talk.said() == [Submit(ME, 1, (expected,), ())]
    assert not pending.done()


def test_a_submit_that_was_told_is_sent_once_and_behind_the_requests_that_were_there(talk: Talk) -> None:
    pending = talk.submit(slot(0))
    ended = Submit(ME, 1, (), (), (7,))
    talk.session.tell(ended)
    talk.session.tell(AskStatus(ME))
    first, *rest = talk.session.to_send()
    assert rest == [ended, AskStatus(ME)]
    # One message of a kind that is made anew each time must not be taken for the other.
    talk.session.sent(first)
    assert talk.session.to_send() == rest
    assert talk.said() == rest
    assert not talk.session.has_to_send
    assert not pending.done()
