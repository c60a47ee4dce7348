"""The protocol between a client and a scheduler: given these messages, exactly those come out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from pipeline.errors import OtherProtocol, RequestRefused, Unavailable
from pipeline.wire.messages import (
    HELLO,
    OK,
    PROTOCOL,
    Again,
    Answer,
    Answers,
    AskStatus,
    Bye,
    Cancel,
    Gone,
    Hello,
    Loan,
    Refused,
    Status,
    Submit,
)
from pipeline.wire.status import PipelineStatus
from pipeline.wire.versions import OldHello, reason_of
from shm.view import SegmentTable
from tests.unit.pipeline.client.talk import (
    DATA,
    EPOCH,
    INTERFACE,
    LARGE,
    ME,
    OUT,
    OUT_SLOT,
    POOLS,
    SECOND,
    SMALL,
    WELCOME,
    Talk,
    ok,
    slot,
    submission,
)


@pytest.fixture
def talk() -> Talk:
    """A client that is let in."""
    talk = Talk()
    talk.attach()
    talk.join()
    return talk


# -- coming in ----------------------------------------------------------------------------------


def test_hello_is_said_when_there_is_a_place_and_again_every_half_second() -> None:
    (talk := Talk()).after(1)
    assert talk.said() == []
    talk.session.attached(talk.leases)
    hello = Hello(ME, "a client")
    # A scheduler that says nothing may be an old one, which understands only a hello of its own version.
    old = [OldHello(protocol, ME, "a client") for protocol in (4, 5)]
    for wait, expected in ((0.0, [hello]), (0.4, []), (0.1, [hello, *old])):
        talk.after(wait)
        assert talk.said() == expected
    assert talk.session.next_at == talk.now + SECOND // 2
    assert str(talk.session.lost) == "not connected yet"


def test_a_welcome_is_for_the_shell_to_attach_and_lets_the_client_in() -> None:
    talk = Talk()
    talk.session.attached(talk.leases)
    talk.session.wake(talk.now)
    talk.session.receive(Answers(1, (), (slot(0),), 0), talk.now)
    talk.session.receive(WELCOME, talk.now)
    assert talk.session.welcome is WELCOME
    assert talk.session.lost is not None
    talk.session.join(INTERFACE, SegmentTable(), POOLS)
    assert (talk.session.welcome, talk.session.lost) == (None, None)
    assert talk.session.specs == {"data": DATA.spec}
    # Neither the answers that came before nor a hello that was not sent is left.
    assert talk.session.grant(SMALL) is None
    assert talk.said() == []
    talk.session.receive(WELCOME, talk.now)
    assert talk.session.welcome is None


def test_hello_is_said_at_once_when_what_the_welcome_names_is_gone() -> None:
    talk = Talk()
    talk.attach()
    talk.session.receive(WELCOME, talk.now)
    talk.session.refuse()
    talk.session.wake(talk.now)
    assert talk.said() == [Hello(ME, "a client")]


def test_a_refusal_says_why_the_client_is_not_let_in_and_that_no_old_scheduler_is_there() -> None:
    talk = Talk()
    talk.session.attached(talk.leases)
    talk.after(0)
    talk.session.receive(Refused(PROTOCOL, "too many clients", 0), talk.now)
    assert (talk.session.refusal, talk.session.other_version) == ("too many clients", "")
    talk.said()
    talk.after(0.5)
    assert talk.said() == [Hello(ME, "a client")]


@pytest.mark.parametrize(
    "message",
    [Refused(PROTOCOL + 1, "their words", 0), OtherProtocol("a welcome of another version")],
    ids=["refused", "old welcome"],
)
def test_a_scheduler_of_another_version_is_known_by_its_answer(message: Any) -> None:
    talk = Talk()
    talk.session.attached(talk.leases)
    talk.after(0)
    if isinstance(message, OtherProtocol):
        message.protocol = PROTOCOL + 1
    talk.session.receive(message, talk.now)
    assert talk.session.other_version == reason_of(PROTOCOL, PROTOCOL + 1)
    # In another run there may be another scheduler.
    talk.session.attached(talk.leases)
    assert talk.session.other_version == ""


def test_a_slot_that_is_refused_is_not_waited_for_any_more(talk: Talk) -> None:
    ask = talk.session.ask(SMALL, talk.now)
    talk.session.receive(Refused(PROTOCOL, "no client fills it", 1), talk.now)
    assert ask.done
    with pytest.raises(Unavailable, match="no client fills it"):
        ask.take()


def test_a_scheduler_that_has_answered_is_of_this_version_whatever_else_comes() -> None:
    talk = Talk()
    talk.attach()
    talk.session.receive(WELCOME, talk.now)
    # What the welcome names is gone: hello is said again, and twice.
    talk.session.refuse()
    stray = OtherProtocol("a welcome of another version")
    stray.protocol = PROTOCOL - 1
    talk.session.receive(stray, talk.now)
    assert talk.session.other_version == ""
    for _ in range(2):
        talk.after(0.5)
        assert talk.said() == [Hello(ME, "a client")]


def test_the_refusal_of_a_hello_that_comes_after_the_welcome_ends_no_call(talk: Talk) -> None:
    ask = talk.session.ask(SMALL, talk.now)
    talk.session.receive(Refused(PROTOCOL, "no worker is ready yet of: detect", HELLO), talk.now)
    assert not ask.done
    talk.answered(grants=(slot(0),))
    assert ask.done


# -- requests and answers -----------------------------------------------------------------------


def test_a_request_goes_with_what_was_seen_and_its_answer_finishes_it(talk: Talk) -> None:
    pending = talk.submit(slot(0))
    assert talk.said() == [Submit(ME, 1, (submission(1, slot(0)),), ())]
    assert talk.session.grant(SMALL) is None
    assert not pending.done()
    assert talk.answered(ok(1)) == [pending]
    assert pending.done()
    assert pending.answer == ok(1)
    assert list(pending.leases) == [OUT_SLOT]
    assert talk.session.came == 1
    assert talk.session.futures == {}
    assert talk.said() == []


def test_a_draft_that_was_submitted_is_closed_and_has_no_slot(talk: Talk) -> None:
    draft = talk.draft(slot(0))
    talk.session.submit(talk.pending(), draft, 0, 0, "")
    assert not draft.open
    assert not talk.session.slots.holds(slot(0))


def test_an_error_finishes_a_request_too(talk: Talk) -> None:
    pending = talk.submit(slot(0))
    talk.answered(Answer(1, "BadInput", "no", (), b"", ""))
    assert isinstance(pending.error(), RequestRefused)


def test_a_request_is_cancelled_behind_what_was_kept_back_and_only_while_it_is_under_way(talk: Talk) -> None:
    pending = talk.pending()
    talk.session.submit(pending, talk.draft(slot(0)), 0, 0, "")
    talk.session.cancel(pending.tag)
    assert [type(message) for message in talk.said()] == [Submit, Cancel]
    talk.answered(Answer(pending.tag, "Cancelled", "", (), b"", ""))
    talk.session.cancel(pending.tag)
    assert talk.said() == []


def test_parts_of_an_answer_do_not_finish_the_request_and_each_is_kept_once(talk: Talk) -> None:
    pending = talk.submit(slot(0))
    talk.said()
    part = replace(ok(1), last=False)
    assert talk.answered(part) == []
    assert (pending.done(), list(pending.received.values()), talk.session.came) == (False, [part], 0)
    assert talk.answered(part) == []
    assert list(pending.received.values()) == [part]
    assert talk.answered(replace(ok(1), outputs=(), part=1)) == [pending]
    assert (pending.done(), len(list(pending.received.values()))) == (True, 1)


def test_parts_that_have_come_can_still_be_read_when_the_scheduler_dies(talk: Talk) -> None:
    with_a_part, without = talk.submit(slot(0)), talk.submit(slot(1))
    talk.answered(replace(ok(1), last=False))
    talk.session.scheduler_gone(talk.now)
    assert (with_a_part.done(), without.done()) == (True, True)
    assert with_a_part.table is not None
    assert without.table is None


def test_children_that_are_answered_by_themselves_are_kept_as_they_come_and_once(talk: Talk) -> None:
    pending = talk.submit(slot(0))
    talk.said()
    parts = [replace(ok(1), last=False, part=part) for part in (2, 0, 2, 0, 1)]
    for part in parts:
        talk.answered(part)
    assert list(pending.received.values()) == [parts[0], parts[1], parts[4]]


def test_requests_that_are_kept_back_share_one_message(talk: Talk) -> None:
    kept = [talk.submit(slot(1), flush=False)]
    assert talk.said() == []
    # Neither does another message take them along.
    talk.session.ask_status()
    assert talk.said() == [AskStatus(ME)]
    kept.append(talk.submit(slot(0), flush=False))
    talk.session.flush()
    assert talk.said() == [Submit(ME, 2, (submission(1, slot(1)), submission(2, slot(0))), ())]
    assert not any(each.done() for each in kept)


def test_a_flush_of_nothing_lets_the_next_request_be_kept_back(talk: Talk) -> None:
    talk.session.flush()
    kept = talk.submit(slot(0), flush=False)
    assert talk.said() == []
    assert not kept.done()


def test_what_is_to_be_sent_stays_until_it_was_sent(talk: Talk) -> None:
    pending = talk.submit(slot(0))
    talk.session.ask_status()
    first = talk.session.to_send()
    assert first == talk.session.to_send() == [Submit(ME, 1, (submission(1, slot(0)),), ()), AskStatus(ME)]
    talk.session.sent(first[0])
    assert talk.session.to_send() == [AskStatus(ME)]
    talk.session.sent(first[1])
    assert not talk.session.has_to_send
    assert not pending.done()


def test_the_answer_to_a_future_that_was_dropped_gives_its_slots_back(talk: Talk) -> None:
    talk.submit(slot(0))
    talk.said()
    assert talk.answered(ok(1)) == []
    assert talk.session.came == 1
    assert talk.said() == [Submit(ME, 2, (), (OUT_SLOT,))]


def test_a_slot_that_is_read_no_more_goes_at_once_if_nothing_is_under_way_and_else_with_the_next_flush(
    talk: Talk,
) -> None:
    first, second = talk.submit(slot(1)), talk.submit(slot(0))
    talk.said()
    talk.answered(ok(1))
    first.leases.clear()
    assert talk.said() == []
    talk.session.flush()
    assert talk.said() == [Submit(ME, 3, (), (OUT_SLOT,))]
    talk.answered(ok(2))
    second.leases.clear()
    assert talk.said() == [Submit(ME, 4, (), (OUT_SLOT,))]
    assert talk.leases.count == 0


def test_a_status_is_asked_for_and_kept(talk: Talk) -> None:
    earlier, latest = (PipelineStatus("demo", epoch, True, {}, 0, {}, {}, (), (), (), (), (), 10.0) for epoch in (1, 2))
    talk.session.statuses.append(earlier)
    talk.session.ask_status()
    assert talk.said() == [AskStatus(ME)]
    talk.session.receive(Status(latest), talk.now)
    assert list(talk.session.statuses) == [latest]


# -- what is lost on the way ----------------------------------------------------------------------


def test_a_message_that_comes_twice_is_taken_in_once(talk: Talk) -> None:
    pending = talk.submit(slot(0))
    talk.answered(ok(1))
    assert talk.session.receive(Answers(2, (ok(1),), (slot(1),), 0), talk.now) == []
    assert talk.session.came == 1
    assert pending.done()
    assert talk.session.grant(SMALL) is None


def test_a_gap_in_the_numbers_is_asked_for_once_and_nothing_behind_it_is_taken_in(talk: Talk) -> None:
    for number in (2, 3, 4):
        talk.session.receive(Answers(number, (), (slot(number),), 0), talk.now)
    assert talk.said() == [Again(ME, 0)]
    talk.now += SECOND // 10
    talk.session.receive(Answers(5, (), (), 0), talk.now)
    assert talk.said() == [Again(ME, 0)]
    assert talk.session.grant(SMALL) is None
    assert talk.leases.seen == 0


def test_what_was_confirmed_meanwhile_is_not_asked_for_again(talk: Talk) -> None:
    talk.session.mend()
    (asked,) = [message for message in talk.session.to_send() if isinstance(message, Again)]
    talk.session.there.seen += 1
    (asks,) = [message for message in talk.session.to_send() if isinstance(message, Again)]
    assert asks == Again(asked.client, asked.seen + 1)
    talk.session.sent(asks)
    assert [message for message in talk.session.to_send() if isinstance(message, Again)] == []


def test_a_silent_scheduler_is_asked_every_half_second_and_one_that_speaks_is_not(talk: Talk) -> None:
    pending = talk.submit(slot(0))
    talk.said()
    assert talk.session.next_at == talk.now + SECOND // 2
    talk.after(0.4)
    assert talk.said() == []
    talk.after(0.1)
    assert talk.said() == [Again(ME, 1)]
    talk.after(0.4)
    talk.answered()
    talk.after(0.4)
    assert talk.said() == []
    assert talk.session.next_at == talk.now + SECOND // 10
    talk.answered(ok(1))
    assert pending.done()
    assert talk.session.next_at is None


def test_mending_asks_for_what_was_lost_and_settles_what_was_asked(talk: Talk) -> None:
    draft, other = talk.draft(slot(1)), talk.draft(slot(0))
    ask = talk.ask(segment=LARGE)
    talk.said()
    # As if it was interrupted after the submission was noted, before its slot was taken from the draft.
    talk.session._submissions.append(submission(1, slot(1)))
    talk.session.mend()
    assert (draft.open, other.open) == (False, True)
    assert not talk.session.slots.holds(slot(1))
    said = [Submit(ME, 2, (submission(1, slot(1)),), ()), Again(ME, 2), Loan(ME, LARGE, 4, False)]
    assert talk.said() == said
    # It was the interrupted call's: what comes is not kept.
    talk.answered(grants=(slot(0, LARGE),), settled=4)
    assert not ask.done
    assert talk.said() == [Submit(ME, 3, (), (slot(0, LARGE),))]


def test_a_message_that_was_taken_in_half_is_taken_in_once_more(talk: Talk) -> None:
    first, second = talk.submit(slot(1)), talk.submit(slot(0))
    talk.said()
    message = Answers(3, (ok(1), Answer(2, OK, "", (OUT._replace(slot=1),), b"", "")), (slot(5),), 0)
    arm, armed = talk.leases.arm, []

    def cut(lease: Any) -> None:
        if armed:
            raise KeyboardInterrupt
        armed.append(lease)
        arm(lease)

    talk.leases.arm = cut  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        talk.session.receive(message, talk.now)
    talk.leases.arm = arm  # type: ignore[method-assign]
    assert (first.done(), second.done(), talk.leases.seen) == (True, False, 2)
    assert talk.session.grant(SMALL) is None
    talk.session.mend()
    assert talk.said() == [Again(ME, 2)]
    assert talk.session.receive(message, talk.now) == [first, second]
    assert (first.done(), second.done(), talk.leases.count) == (True, True, 2)
    assert talk.session.slots.holds(slot(5))


def test_what_was_interrupted_when_all_of_a_message_was_taken_in_is_ended_by_mending(talk: Talk) -> None:
    class Cut(dict[int, Any]):
        def pop(self, *_: Any) -> Any:
            raise KeyboardInterrupt

    pending = talk.submit(slot(0))
    talk.said()
    talk.session.futures = Cut(talk.session.futures)
    with pytest.raises(KeyboardInterrupt):
        talk.answered(ok(1))
    talk.session.futures = dict(talk.session.futures)
    assert pending.done()
    talk.session.mend()
    assert talk.session.futures == {}
    assert talk.leases.idle


# -- the scheduler's death ------------------------------------------------------------------------


def test_a_dead_scheduler_fails_what_is_under_way_and_hello_is_said_to_the_next(talk: Talk) -> None:
    pending, unsent = talk.submit(slot(1)), talk.submit(slot(0), flush=False)
    ask = talk.ask()
    talk.session.scheduler_gone(talk.now)
    assert isinstance(talk.session.lost, Unavailable)
    assert str(talk.session.lost) == "the scheduler of pipeline demo has died; ask again in a moment"
    assert [type(each.error()) for each in (pending, unsent)] == [Unavailable, Unavailable]
    with pytest.raises(Unavailable, match="has died"):
        ask.take()
    assert talk.said() == []
    assert talk.session.futures == {}
    # Nothing of the dead one is listened to.
    assert talk.session.receive(Answers(3, (ok(1),), (slot(2),), 0), talk.now) == []
    talk.session.flush()
    talk.session.wake(talk.now)
    assert talk.said() == [Hello(ME, "a client")]
    talk.join()
    # The next one numbers its messages anew, and tags go on.
    again = talk.submit(slot(0))
    assert talk.said() == [Submit(ME, 1, (submission(3, slot(0)),), ())]
    assert not again.done()


@pytest.mark.parametrize(("epoch", "lost"), [(EPOCH, False), (EPOCH + 1, True), (-1, True)])
def test_a_scheduler_that_does_not_know_the_client_is_another_one(talk: Talk, epoch: int, lost: bool) -> None:
    talk.session.receive(Gone(epoch), talk.now)
    assert (talk.session.lost is not None) == lost


def test_a_client_that_is_let_go_of_says_no_hello_under_its_number_and_names_what_it_still_uses(talk: Talk) -> None:
    pending, draft = talk.submit(slot(1)), talk.draft(slot(0))
    written = draft.inputs.setdefault("x", np.zeros(16, np.uint8))[:]
    talk.said()
    talk.session.receive(Gone(-1, "let go of"), talk.now)
    assert str(pending.error()) == "let go of; ask again in a moment"
    assert not draft.open
    assert talk.session.moving
    talk.session.wake(talk.now + 10 * SECOND)
    assert talk.said() == []
    assert talk.session.there.goodbye() == Bye(ME, (slot(0),))
    del written, draft
    assert talk.session.there.goodbye() == Bye(ME, ())


def test_what_is_under_way_in_a_run_that_is_stopped_is_told_so(talk: Talk) -> None:
    pending = talk.submit(slot(1))
    assert talk.session.scheduler_gone(talk.now, stopped=True) == [pending]
    assert str(pending.error()) == "pipeline demo was stopped; ask again when it runs"


def test_slots_of_a_dead_scheduler_are_not_given_to_the_next(talk: Talk) -> None:
    pending = talk.submit(slot(0))
    talk.said()
    talk.answered(ok(1))
    talk.session.scheduler_gone(talk.now)
    talk.session.wake(talk.now)
    talk.said()
    talk.join()
    pending.leases.clear()
    assert talk.said() == []


def test_a_client_that_is_closed_fails_what_is_under_way_and_closes_its_drafts(talk: Talk) -> None:
    pending, draft = talk.submit(slot(1)), talk.draft(slot(0))
    talk.session.close(talk.now)
    assert str(pending.error()) == "this client was closed before the request was answered"
    assert not draft.open


def test_a_client_that_is_closed_and_still_referred_to_maps_no_segment(talk: Talk) -> None:
    mapped = talk.session.table
    talk.session.close(talk.now)
    assert talk.session.table is not mapped
    assert len(talk.session.table) == 0


@pytest.mark.parametrize("message", [Hello(1, "another"), Loan(1, 1, 1, True), Unavailable("no message"), None])
def test_what_is_no_message_of_a_scheduler_is_ignored(talk: Talk, message: Any) -> None:
    assert talk.session.receive(message, talk.now) == []
    assert talk.said() == []
    assert talk.session.lost is None
