"""Clients that are refused something are told why; requests that a client cancels are dropped."""

from __future__ import annotations

from collections.abc import Callable

import msgpack
import pytest
from msgspec.structs import replace

from pipeline.errors import OtherProtocol, WireError
from pipeline.logs.complaints import COMPLAINTS, COMPLAINTS_S
from pipeline.scheduler.door import SHELL, Decided, Log, stranger
from pipeline.wire.address import Address
from pipeline.wire.codec import decode, encode
from pipeline.wire.messages import PROTOCOL, Bye, Cancel, Gone, Loan, Refused, Submission, Submit
from pipeline.wire.versions import OLD, OldHello, OldWelcome, reason_of
from tests.unit.pipeline.scheduler.example import Example

Make = Callable[..., Example]


def of_protocol(protocol: int, number: int | None) -> OtherProtocol:
    error = OtherProtocol(f"protocol {protocol}")
    error.protocol, error.client = protocol, number
    return error


def complaint(error: WireError) -> Decided:
    """What people are told of it."""
    return SHELL, Log(f"refused a message: {error}")


# -- other versions ---------------------------------------------------------------------------------


def test_a_client_of_a_later_version_is_refused_with_both_versions_and_the_side_to_upgrade(example: Make) -> None:
    scheduler = example()
    scheduler.handle(error := of_protocol(PROTOCOL + 1, 9))
    scheduler.decide()
    why = reason_of(PROTOCOL + 1, PROTOCOL)
    assert "upgrade the pipeline" in why
    assert scheduler.decided == [complaint(error), (stranger(9), Refused(PROTOCOL, why, 0))]
    assert scheduler.scheduler.counts["refused_frames"] == 1


@pytest.mark.parametrize("protocol", OLD)
def test_a_client_of_an_old_version_is_told_in_the_form_of_its_own(example: Make, protocol: int) -> None:
    scheduler = example()
    with pytest.raises(OtherProtocol) as refused:
        decode(msgpack.packb([protocol, 1, 9, "old"]))
    scheduler.handle(refused.value)
    scheduler.decide()
    why = reason_of(protocol, PROTOCOL)
    assert "upgrade the client" in why
    assert scheduler.decided == [complaint(refused.value), (stranger(9), OldWelcome(protocol, why))]


def test_what_of_another_version_is_no_hello_is_told_to_people_and_counted(example: Make) -> None:
    scheduler = example()
    scheduler.handle(error := of_protocol(PROTOCOL + 1, None))
    scheduler.decide()
    assert scheduler.decided == [complaint(error)]
    assert scheduler.scheduler.counts["refused_frames"] == 1


@pytest.mark.parametrize("protocol", OLD)
def test_a_hello_that_only_asks_whether_the_scheduler_is_old_is_neither_answered_nor_told_of(
    example: Make, protocol: int
) -> None:
    # Nor if the scheduler knows nothing of this client: what it said in the form of this version was lost.
    scheduler = example()
    with pytest.raises(OtherProtocol) as asked:
        decode(encode(OldHello(protocol, 9, "new")))
    scheduler.handle(asked.value)
    assert scheduler.decide() == []
    assert scheduler.scheduler.counts["refused_frames"] == 0


# -- reasons ----------------------------------------------------------------------------------------


def test_a_client_is_told_of_a_message_of_its_that_cannot_be_read(example: Make) -> None:
    scheduler = example()
    for number, receiver in ((1, Address.client(1)), (9, stranger(9))):
        error = WireError("Loan.segment: expected int, found str")
        error.client = number
        scheduler.handle(error)
        scheduler.decide()
        why = "a message of this client cannot be read: Loan.segment: expected int, found str"
        assert scheduler.decided == [complaint(error), (receiver, Refused(PROTOCOL, why, 0))]


def test_a_frame_that_names_no_client_is_told_to_people_and_counted(example: Make) -> None:
    scheduler = example()
    scheduler.handle(error := WireError("nonsense"))
    scheduler.decide()
    assert scheduler.decided == [complaint(error)]
    assert scheduler.scheduler.counts["refused_frames"] == 1


def test_an_ask_for_a_segment_that_clients_do_not_fill_is_refused_by_its_number(example: Make) -> None:
    scheduler = example()
    scheduler.handle(Loan(1, 4711, 33, True))
    scheduler.decide()
    why = "no slot of segment 4711 is granted: segment 4711 is not one that clients fill"
    assert scheduler.decided == [(Address.client(1), Refused(PROTOCOL, why, 33))]


def test_an_ask_of_a_client_that_has_said_goodbye_is_refused(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    scheduler.decide()
    for worker in range(3):
        scheduler.finish(worker, 1)
    scheduler.decide()
    (handle,) = scheduler.answers[1, 1].outputs
    scheduler.handle(Bye(1, (handle[:3],)))  # type: ignore[index, arg-type]
    scheduler.handle(Loan(1, scheduler.ingress, 33, True))
    scheduler.decide()
    ((_, refused),) = scheduler.decided
    assert isinstance(refused, Refused)
    assert refused.reason.endswith("it has said goodbye")


TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda s: replace(s, started=-1), "expected a start time of monotonic nanoseconds, found -1"),
        (lambda s: replace(s, traceparent=f"00-{TRACE}-{PARENT}"), "expected a traceparent 00-"),
    ],
)
def test_a_start_or_a_trace_that_is_none_is_refused(example: Make, wrong: Callable[[Submission], Submission], why: str) -> None:
    scheduler = example()
    scheduler.handle(Submit(1, 0, (wrong(scheduler.submission(1, scheduler.granted[1].pop(0))),), ()))
    assert scheduler.decide() == ["client 1: 1 InvalidRequest"]
    assert scheduler.answers[1, 1].message.startswith(why)


# -- cancellations ----------------------------------------------------------------------------------


def test_a_request_that_waits_is_cancelled_and_is_never_ordered(example: Make) -> None:
    scheduler = example(credits=1)
    scheduler.submit(1, 2)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c"]
    scheduler.handle(Cancel(1, (2,)))
    assert scheduler.decide() == ["client 1: 2 Cancelled"]
    assert scheduler.answers[1, 2].message == "cancelled by its client"
    assert 2 not in scheduler.scheduler.requests


def test_a_request_under_way_is_cancelled_its_orders_are_fenced_and_its_slots_come_back(example: Make) -> None:
    scheduler = example()
    whole = {pool.name: scheduler.free(pool.name) for pool in scheduler.plan.pools}
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(0, 1)
    scheduler.decide()
    scheduler.handle(Cancel(1, (1,)))
    assert scheduler.decide() == ["worker 1: fence 1", "worker 2: fence 1", "client 1: 1 Cancelled"]
    scheduler.fenced()
    assert scheduler.scheduler.requests == {}
    assert [scheduler.free(stage) for stage in "abc"] == [whole[stage] for stage in "abc"]


def test_what_is_answered_already_cannot_be_cancelled_and_a_request_of_another_client_neither(example: Make) -> None:
    scheduler = example()
    scheduler.joins(2, slots=0)
    scheduler.submit(1)
    scheduler.decide()
    scheduler.handle(Cancel(2, (1,)))
    assert scheduler.decide() == []
    for worker in range(3):
        scheduler.finish(worker, 1)
    scheduler.decide()
    scheduler.handle(Cancel(1, (1, 77)))
    assert scheduler.decide() == []
    assert scheduler.scheduler.counts["late_cancellations"] == 3


def test_a_stranger_that_cancels_is_told_that_it_is_one(example: Make) -> None:
    scheduler = example(epoch=4)
    scheduler.handle(Cancel(9, (1,)))
    scheduler.decide()
    assert scheduler.decided == [(stranger(9), Gone(4))]


# -- a flood ----------------------------------------------------------------------------------------


def test_a_flood_of_garbage_is_counted_and_does_not_fill_the_log(example: Make) -> None:
    scheduler = example()
    for _ in range(COMPLAINTS + 100):
        scheduler.handle(WireError("garbage"))
    scheduler.decide()
    shown = [message.text for receiver, message in scheduler.decided if receiver == SHELL and isinstance(message, Log)]
    assert shown == ["refused a message: garbage"] * COMPLAINTS + [
        f"refused more than {COMPLAINTS} messages; for {COMPLAINTS_S} s they are counted and not shown"
    ]
    assert scheduler.scheduler.counts["refused_frames"] == COMPLAINTS + 100
    scheduler.decided.clear()
    scheduler.now += COMPLAINTS_S * 1_000_000_000
    scheduler.handle(WireError("garbage"))
    scheduler.decide()
    assert scheduler.decided == [complaint(WireError("garbage"))]
