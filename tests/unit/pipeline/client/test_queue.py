"""The queue of a client: turns, slots, deaths, retries, deadlines; against the real scheduler."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    run_state_machine_as_test,
)

from pipeline.client.answering import fill as fill_pending
from pipeline.client.request import Request
from pipeline.errors import Cancelled, DeadlineExceeded, InvalidRequest, Overloaded, Unavailable
from pipeline.wire.messages import OK, PROTOCOL, Answer, Cancel, Drain, Loan, Refused
from tests.unit.pipeline.client.any_order import Clientele
from tests.unit.pipeline.client.direct import ME, Direct, expected, fill, until
from tests.unit.pipeline.scheduler.graphs import make_plan

SECOND = 1_000_000_000


def test_a_request_that_waits_for_a_slot_is_written_and_sent_when_one_comes(direct: Direct) -> None:
    request = direct.infer(5)
    assert request.waits
    assert len(direct.queue) == 1
    assert until(direct, [request]) == [request]
    assert direct.outputs(request) == expected(direct, 5)
    assert (len(direct.queue), direct.queue.under_way) == (0, {})


def test_a_slot_in_hand_is_written_by_the_caller_at_once(direct: Direct) -> None:
    until(direct, [direct.infer(1)])
    request = direct.infer(2)
    assert request.pending is not None
    assert until(direct, [request]) == [request]
    assert direct.outputs(request) == expected(direct, 2)


def test_any_number_of_requests_is_answered_in_turn(direct: Direct) -> None:
    requests = [direct.infer(number) for number in range(60)]
    over = []
    for _ in range(100):
        for request in direct.step():
            assert direct.outputs(request) == expected(direct, request.owner)
            over.append(request)
    # One replica of each stage: answers come in the order of the requests.
    assert over == requests


def test_one_ask_is_out_however_many_wait(direct: Direct) -> None:
    for number in range(5):
        direct.infer(number)
    direct.queue.go_on(direct.now)
    direct.queue.go_on(direct.now)
    assert [type(message) for message in direct.session.to_send()] == [Loan]


def test_it_is_due_until_a_slot_is_asked_for_and_not_for_those_behind(direct: Direct) -> None:
    queue = direct.queue
    assert not queue.is_due
    first = direct.infer(1)
    assert queue.is_due
    queue.go_on(direct.now)
    assert not queue.is_due
    second = direct.infer(2)
    assert second.waits
    assert not queue.is_due
    direct.send()
    direct.work()
    direct.receive()
    # The grant is here.
    assert queue.is_due
    until(direct, [first, second])
    assert not queue.is_due


def test_it_is_due_while_requests_wait_for_a_connection() -> None:
    direct = Direct()
    direct.start()
    direct.connect()
    direct.session.scheduler_gone(direct.now)
    direct.infer(1)
    assert direct.queue.is_due
    direct.close()


def test_no_request_overtakes_one_that_waits_for_such_a_slot(direct: Direct) -> None:
    first = direct.infer(1)
    direct.queue.go_on(direct.now)
    direct.send()
    direct.work()
    direct.receive()
    # A slot is here by now, for the first one.
    second = direct.infer(2)
    assert second.waits
    direct.queue.go_on(direct.now)
    assert first.pending is not None
    until(direct, [first, second])


def test_beyond_its_bound_the_queue_says_what_to_do() -> None:
    direct = Direct(pending=2)
    direct.start()
    direct.connect()
    waiting = [direct.infer(1), direct.infer(2)]
    assert not direct.queue.room
    with pytest.raises(Overloaded, match=r"2 requests of this client wait for a slot, .*block=True"):
        direct.infer(3)
    until(direct, waiting)
    assert direct.queue.room
    direct.close()


# -- cancelling ---------------------------------------------------------------------------------


def test_a_cancelled_request_that_waits_is_over_at_once_and_no_slot_is_kept_for_it(direct: Direct) -> None:
    request = direct.infer(1)
    direct.queue.go_on(direct.now)
    direct.queue.cancel(request, direct.now)
    assert isinstance(request.error(), Cancelled)
    assert len(direct.queue) == 0
    for _ in range(3):
        assert direct.step() == []
    assert direct.session.slots.unused(direct.session.slots._pools[0][1]) == []
    assert sum(direct.in_use) == 0


def test_the_grant_of_a_cancelled_request_goes_back(direct: Direct) -> None:
    request = direct.infer(1)
    direct.queue.go_on(direct.now)
    direct.send()
    direct.work()
    direct.receive()
    assert sum(direct.in_use) == 1
    direct.queue.cancel(request, direct.now)
    direct.step()
    assert sum(direct.in_use) == 0


def test_a_cancelled_request_under_way_is_cancelled_at_the_scheduler(direct: Direct) -> None:
    (request,) = fill(direct, 1)
    assert request.pending is not None
    direct.queue.cancel(request, direct.now)
    assert Cancel(ME, (request.pending.tag,)) in direct.session.to_send()
    assert until(direct, [request]) == [request]
    assert isinstance(request.error(), Cancelled)


def test_those_behind_a_cancelled_one_keep_their_turn(direct: Direct) -> None:
    requests = [direct.infer(number) for number in range(3)]
    direct.queue.cancel(requests[1], direct.now)
    until(direct, requests)
    assert [direct.outputs(requests[0]), direct.outputs(requests[2])] == [expected(direct, 0), expected(direct, 2)]


# -- time -----------------------------------------------------------------------------------------


def test_a_request_whose_deadline_is_over_fails_while_it_waits(direct: Direct) -> None:
    now = direct.now
    late = direct.infer(1, deadline=now + SECOND)
    later = direct.infer(2, deadline=now + 3 * SECOND)
    never = direct.infer(3)
    assert direct.queue.next_at == now + SECOND
    direct.later += SECOND
    assert direct.queue.go_on(direct.now) == [late]
    assert isinstance(late.error(), DeadlineExceeded)
    assert direct.queue.next_at == now + 3 * SECOND
    direct.later += 2 * SECOND
    assert direct.queue.go_on(direct.now) == [later]
    assert direct.queue.next_at is None
    until(direct, [never])


def test_no_slot_will_come_fails_those_that_have_waited_as_long(direct: Direct) -> None:
    kept = []
    # All slots are the application's own.
    for number in range(30):
        request = direct.request(number)
        direct.session.ask_now(direct.session.slots._pools[0][1], direct.now)
        direct.send()
        direct.work()
        direct.receive()
        if not direct.queue.reserve(request):
            break
        kept.append(request)
    assert kept
    waits = [direct.infer(number) for number in (1, 2)]
    direct.step()
    direct.later += 2 * SECOND
    young = direct.infer(3)
    direct.later += 4 * SECOND
    failed = []
    for _ in range(5):
        failed += direct.step()
    assert failed == waits
    assert all(isinstance(request.error(), Overloaded) for request in waits)
    assert young.waits
    kept.clear()
    until(direct, [young])


# -- death ----------------------------------------------------------------------------------------


def test_what_is_under_way_fails_with_its_scheduler_and_what_waits_goes_to_the_next(direct: Direct) -> None:
    requests = fill(direct, 12)
    sent = [request for request in requests if request.pending is not None]
    waiting = [request for request in requests if request.waits]
    assert sent
    assert waiting
    direct.die()
    assert direct.queue.go_on(direct.now) == sent
    assert all(isinstance(request.error(), Unavailable) for request in sent)
    assert len(direct.queue) == len(waiting)
    direct.start()
    direct.connect()
    until(direct, waiting)
    for request in waiting:
        assert direct.outputs(request) == expected(direct, request.owner)


def test_a_request_with_retries_is_sent_again_before_those_that_wait(direct: Direct) -> None:
    first = fill(direct, 1)[0]
    first.retries = 0
    again = direct.infer(2, retries=2)
    until_sent(direct, again)
    behind = direct.request(3)
    direct.queue.put(behind, direct.now)
    direct.die()
    assert direct.queue.go_on(direct.now) == [first]
    assert (again.waits, again.retries) == (True, 1)
    assert [request.owner for request in direct.queue._unplaced] == [2, 3]
    direct.start()
    direct.connect()
    assert until(direct, [again, behind]) == [again, behind]
    assert direct.outputs(again) == expected(direct, 2)


def until_sent(direct: Direct, request: Request) -> None:
    for _ in range(5):
        direct.queue.go_on(direct.now)
        direct.send()
        direct.decide()
        direct.receive()
    assert request.pending is not None


def test_retries_are_so_many_and_not_more(direct: Direct) -> None:
    request = direct.infer(1, retries=1)
    until_sent(direct, request)
    direct.die()
    assert direct.queue.go_on(direct.now) == []
    direct.start()
    direct.connect()
    until_sent(direct, request)
    direct.die()
    assert direct.queue.go_on(direct.now) == [request]
    assert isinstance(request.error(), Unavailable)


def test_a_cancelled_request_is_not_sent_again(direct: Direct) -> None:
    request = direct.infer(1, retries=3)
    until_sent(direct, request)
    direct.queue.cancel(request, direct.now)
    direct.die()
    assert direct.queue.go_on(direct.now) == [request]


def test_a_request_that_a_stopping_scheduler_refuses_waits_for_the_next_one(direct: Direct) -> None:
    assert direct.workers is not None
    direct.workers.handle(Drain(direct.now + 60 * SECOND))
    request = direct.infer(1, retries=1)
    plain = direct.infer(2)
    for _ in range(10):
        direct.step()
    assert isinstance(plain.error(), Unavailable)
    assert (request.waits, request.retries) == (True, 0)
    direct.die()
    direct.start()
    direct.connect()
    until(direct, [request])
    assert direct.outputs(request) == expected(direct, 1)


def test_the_inputs_are_kept_only_for_a_retry(direct: Direct) -> None:
    plain, again = direct.infer(1), direct.infer(2, retries=1)
    until_sent(direct, plain)
    assert (dict(plain.inputs), [*again.inputs]) == ({}, ["x"])
    until(direct, [plain, again])
    assert dict(again.inputs) == {}


def test_a_slot_that_went_with_its_scheduler_is_told(direct: Direct) -> None:
    until(direct, [direct.infer(1)])
    request = direct.request(2)
    assert direct.queue.reserve(request)
    direct.die()
    assert not direct.queue.submit(request, direct.now)
    assert request.waits


def test_another_pipeline_of_the_name_with_other_inputs_refuses_those_that_wait(direct: Direct) -> None:
    request = direct.infer(1)
    direct.die()
    direct.queue.go_on(direct.now)
    direct.start(make_plan("early outputs"))
    direct.connect()
    assert direct.queue.go_on(direct.now) == [request]
    error = request.error()
    assert isinstance(error, InvalidRequest)
    assert "expected the inputs x, y; found x" in str(error)


def test_no_slot_of_a_segment_is_granted_fails_those_that_ask(direct: Direct) -> None:
    request = direct.infer(1)
    direct.queue.go_on(direct.now)
    (loan,) = direct.session.to_send()
    assert isinstance(loan, Loan)
    direct.session.receive(Refused(PROTOCOL, "no client fills it", loan.ask), direct.now)
    assert direct.queue.go_on(direct.now) == [request]
    assert isinstance(request.error(), Unavailable)


def test_at_the_end_all_fail_and_are_returned(direct: Direct) -> None:
    requests = fill(direct, 12)
    error = Unavailable("this client was closed")
    assert set(direct.queue.fail(error, direct.now)) == set(requests)
    assert all(str(request.error()) == "this client was closed" for request in requests)
    assert (len(direct.queue), direct.queue.under_way) == (0, {})


def test_without_a_pipeline_for_too_long_those_that_wait_fail(direct: Direct) -> None:
    requests = fill(direct, 12)
    waiting = [request for request in requests if request.waits]
    assert direct.queue.fail_waiting(Unavailable("none for 5 s"), direct.now) == waiting
    assert len(direct.queue) == 0


# -- parts ------------------------------------------------------------------------------------------


def test_parts_are_told_as_they_come_to_those_that_want_them() -> None:
    direct = Direct(make_plan("parts", slots=8, credits=4))
    direct.start()
    direct.connect()
    request, silent = direct.infer(1, in_parts=True), direct.infer(2)
    until_sent(direct, request)
    until_sent(direct, silent)
    assert direct.queue.parted() == []
    for number in range(2):
        for each in (request, silent):
            assert each.pending is not None
            part = Answer(each.pending.tag, OK, "", (), b"", "", part=number, last=False)
            fill_pending(each.pending, part, direct.leases, direct.now)
        assert direct.queue.parted() == [request]
        assert direct.queue.parted() == []
    until(direct, [request, silent])
    assert direct.queue.parted() == []
    direct.close()


# -- interruptions ------------------------------------------------------------------------------------


class _Torn(Exception):
    """What a signal's handler raises."""


@pytest.mark.parametrize("line", range(1, 70))
def test_an_interruption_at_any_line_of_a_step_loses_no_request(direct: Direct, line: int) -> None:
    import sys

    requests = [direct.infer(number) for number in range(4)]
    direct.queue.go_on(direct.now)
    direct.send()
    direct.work()
    seen = 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal seen
        if not frame.f_code.co_filename.endswith(("client/queue.py", "client/session.py")):
            return None
        if event == "line":
            seen += 1
            if seen == line:
                sys.settrace(None)
                raise _Torn
        return trace

    sys.settrace(trace)
    try:
        # Slots have come: they are taken in, written and submitted.
        direct.receive()
        direct.queue.go_on(direct.now)
    except _Torn:
        direct.session.mend()
        direct.queue.mend()
    finally:
        sys.settrace(None)
    assert len(direct.queue) + len(direct.queue.under_way) >= len(requests)
    for _ in range(100):
        direct.after(0.1)
        direct.step()
    for request in requests:
        assert direct.outputs(request) == expected(direct, request.owner)
    assert (len(direct.queue), direct.queue.under_way) == (0, {})


# -- any order of anything ----------------------------------------------------------------------------


def test_each_request_is_over_once_whatever_happens() -> None:
    run_state_machine_as_test(
        Clientele,
        settings=settings(max_examples=80, stateful_step_count=50, print_blob=False, deadline=None, suppress_health_check=list(HealthCheck)),
    )
