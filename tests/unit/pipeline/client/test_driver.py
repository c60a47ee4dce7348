from __future__ import annotations

from typing import Any

import pytest

from pipeline.client import carrier
from pipeline.client.access import Joined
from pipeline.client.draft import Filling
from pipeline.client.future import Pending
from pipeline.client.request import Request
from pipeline.errors import DeadlineExceeded, NotInTime, Unavailable, WireError
from pipeline.wire.messages import PROTOCOL, Again, Answers, AskStatus, Gone, Hello, Loan, Refused, Status, Welcome
from shm.view import SegmentTable
from tests.unit.pipeline.client.steps import MS, Steps
from tests.unit.pipeline.client.talk import EPOCH, INTERFACE, POOLS, SECOND, WELCOME, ok, slot


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """A driver that finds its run, over segments that need not be there."""
    monkeypatch.setattr(carrier, "join", lambda welcome: Joined(welcome.interface, SegmentTable(), POOLS))
    return Steps()


@pytest.fixture
def connected(steps: Steps) -> Steps:
    """One that has been let in, and has nothing to do."""
    opening = steps.driver.open(steps.now + SECOND, patient=False)
    steps.step()
    steps.step(WELCOME)
    assert opening.done
    steps.access.looked = 0
    assert steps.said == [Hello(7, "a client")]
    return steps


def kinds(messages: list[Any]) -> list[type]:
    return [type(message) for message in messages]


# -- coming -----------------------------------------------------------------------------------------


def test_an_idle_driver_has_nothing_to_do_and_does_nothing(steps: Steps) -> None:
    assert steps.driver.next_at is None
    assert steps.driver.descriptor is None
    assert steps.after(10_000) == []
    assert steps.access.looked == 0


def test_a_driver_that_is_connected_and_idle_never_wakes(connected: Steps) -> None:
    assert connected.driver.connected
    assert connected.driver.next_at is None
    connected.after(10_000)
    assert connected.said == []


def test_the_first_request_looks_for_the_run_and_asks_to_be_let_in(steps: Steps) -> None:
    steps.put()
    steps.step()
    assert steps.access.looked == 1
    assert kinds(steps.said) == [Hello]
    assert steps.driver.descriptor == 101
    steps.step(WELCOME)
    assert steps.driver.connected
    assert kinds(steps.said) == [Loan]


def test_a_run_that_is_not_there_is_looked_for_every_50_ms_while_a_request_waits(steps: Steps) -> None:
    steps.access.there = False
    steps.put()
    began = steps.now
    steps.until(lambda: steps.access.looked == 3)
    assert steps.now - began == 100 * MS
    steps.access.there = True
    steps.until(lambda: steps.driver.descriptor)
    assert steps.now - began == 150 * MS


def test_a_request_waits_for_its_patience_and_then_fails_and_not_those_that_came_later(steps: Steps) -> None:
    steps.access.there = False
    first = steps.put()
    steps.after(3000)
    second = steps.put()
    assert steps.until(lambda: first.done) == [first]
    assert steps.now == 15 * SECOND
    assert isinstance(first.error(), Unavailable)
    assert "no pipeline 'demo' is running here" in str(first.error())
    assert steps.until(lambda: second.done) == [second]
    assert steps.now == 18 * SECOND
    assert steps.driver.next_at is None


def test_a_request_whose_deadline_is_over_before_its_patience_says_that_no_pipeline_runs(steps: Steps) -> None:
    steps.access.there = False
    request = steps.put(deadline=steps.now + SECOND)
    steps.until(lambda: request.done)
    assert isinstance(request.error(), DeadlineExceeded)
    assert str(request.error()) == "its deadline was over, and no pipeline 'demo' is running here"


def test_a_request_whose_deadline_is_over_while_it_waits_for_a_slot_says_so(connected: Steps) -> None:
    request = connected.put(deadline=connected.now + SECOND)
    connected.until(lambda: request.done)
    assert str(request.error()) == "its deadline was over before a slot became free for it"


def test_patience_begins_anew_when_a_connection_is_lost(connected: Steps) -> None:
    request = connected.put()
    connected.after(4000)
    connected.access.scheduler_is_gone = True
    connected.until(lambda: not connected.driver.connected)
    lost_at = connected.now
    connected.until(lambda: request.done)
    assert connected.now - lost_at >= 5 * SECOND


def test_a_client_that_its_scheduler_has_let_go_of_comes_again_at_once(connected: Steps) -> None:
    request = connected.put()
    connected.after(4000)
    assert Loan in kinds(connected.said)
    connected.step(Gone(EPOCH + 1, ""))
    assert kinds(connected.said) == [Hello]
    connected.after(2000)
    assert not request.done


def test_a_client_that_was_let_go_of_leaves_and_comes_back_as_another(connected: Steps) -> None:
    request = connected.put()
    connected.after(4000)
    place = connected.access.connection
    connected.step(Gone(-1, "let go of"))
    assert connected.access.connection is not place
    assert connected.unwatched == [101]
    assert kinds(connected.said) == [Hello]
    assert not request.done


def test_a_request_without_a_run_says_why_the_scheduler_does_not_let_it_in(steps: Steps) -> None:
    request = steps.put()
    steps.step()
    steps.step(Refused(PROTOCOL, "the pipeline is draining", 0))
    steps.until(lambda: request.done)
    assert "/runs/demo-1 is not ready: the pipeline is draining" in str(request.error())


def test_a_run_of_another_version_fails_at_once_and_is_looked_for_again(steps: Steps) -> None:
    request = steps.put()
    steps.step()
    steps.step(Refused(PROTOCOL + 1, "", 0))
    assert steps.until(lambda: request.done) == [request]
    assert steps.now == 10 * SECOND + 50 * MS
    assert "/runs/demo-1: " in str(request.error())
    assert steps.unwatched == [101]
    assert steps.driver.descriptor is None
    steps.put()
    steps.step()
    assert steps.access.looked == 2


def test_a_run_that_was_named_by_its_path_and_is_over_fails_at_once(connected: Steps) -> None:
    connected.access.by_path = True
    connected.access.is_over = connected.access.scheduler_is_gone = True
    request = connected.put()
    assert connected.step() == [request]
    assert "/runs/demo-1 has stopped" in str(request.error())
    assert connected.driver.next_at is None


def test_another_run_of_the_name_is_found_when_the_first_is_over(connected: Steps) -> None:
    connected.access.is_over = connected.access.scheduler_is_gone = True
    request = connected.put()
    connected.step()
    assert connected.unwatched == [101]
    assert connected.access.goodbyes == [False]
    assert kinds(connected.said) == [Hello]
    connected.step(WELCOME)
    assert connected.driver.connected
    assert not request.done


def test_memory_that_cannot_be_attached_is_tried_again_later_and_not_at_once(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def refuse(welcome: Welcome) -> Joined:
        tried.append(steps.now)
        raise Unavailable("the pipeline's memory cannot be attached")

    works = carrier.join
    monkeypatch.setattr(carrier, "join", refuse)
    request = steps.put()
    steps.step()
    steps.step(WELCOME)
    assert kinds(steps.said) == [Hello]
    steps.now += 100 * MS
    steps.step(Refused(PROTOCOL, "", 0))
    assert steps.said == []
    assert len(tried) == 1
    monkeypatch.setattr(carrier, "join", works)
    steps.after(500)
    assert Hello in kinds(steps.said)
    steps.step(WELCOME)
    assert steps.driver.connected
    assert not request.done


# -- callers that wait ------------------------------------------------------------------------------


def test_an_opening_that_is_not_patient_fails_if_there_is_no_run(steps: Steps) -> None:
    steps.access.there = False
    opening = steps.driver.open(steps.now + SECOND, patient=False)
    steps.step()
    assert opening.done
    assert "no pipeline 'demo'" in str(opening.error)
    assert steps.driver.next_at is None


def test_an_opening_that_is_patient_waits_for_a_run_until_its_end(steps: Steps) -> None:
    steps.access.there = False
    opening = steps.driver.open(steps.now + SECOND, patient=True)
    steps.until(lambda: opening.done)
    assert steps.now == 11 * SECOND
    assert "no pipeline 'demo'" in str(opening.error)
    again = steps.driver.open(steps.now + SECOND, patient=True)
    steps.access.there = True
    steps.step()
    steps.step(WELCOME)
    assert again.done
    assert again.error is None


def test_an_opening_does_not_wait_for_a_run_that_never_comes_however_patient_it_is(connected: Steps) -> None:
    connected.access.by_path = connected.access.is_over = connected.access.scheduler_is_gone = True
    sent = under_way(connected)
    connected.until(lambda: sent.done)
    began = connected.now
    opening = connected.driver.open(began + 100 * SECOND, patient=True)
    connected.until(lambda: opening.done)
    assert connected.now < began + SECOND
    assert "has stopped" in str(opening.error)


def test_an_opening_waits_for_a_run_that_is_not_ready_until_its_end(steps: Steps) -> None:
    opening = steps.driver.open(steps.now + SECOND, patient=False)
    steps.step()
    steps.step(Refused(PROTOCOL, "no worker of inference is ready", 0))
    assert not opening.done
    steps.until(lambda: opening.done)
    assert "not ready: no worker of inference is ready" in str(opening.error)


def test_a_wait_that_was_forgotten_is_not_waited_for(steps: Steps) -> None:
    steps.access.there = False
    opening = steps.driver.open(steps.now + SECOND, patient=True)
    inquiry = steps.driver.inquire(steps.now + SECOND)
    for wait in (opening, inquiry, opening, inquiry):
        steps.driver.forget(wait)
    assert steps.driver.next_at is None


def test_all_that_have_asked_for_the_status_get_it(connected: Steps) -> None:
    status: Any = {"pipeline": "demo"}
    first = connected.driver.inquire(connected.now + SECOND)
    second = connected.driver.inquire(connected.now + SECOND)
    connected.step()
    assert kinds(connected.said) == [AskStatus]
    third = connected.driver.inquire(connected.now + SECOND)
    connected.step(Status(status))
    assert first.status is status
    assert second.status is status
    # It was asked for before this one came.
    assert not third.done
    assert kinds(connected.said) == [AskStatus]


def test_a_status_that_does_not_come_is_not_in_time(connected: Steps) -> None:
    inquiry = connected.driver.inquire(connected.now + SECOND)
    connected.until(lambda: inquiry.done)
    assert connected.now == 11 * SECOND
    assert isinstance(inquiry.error, NotInTime)


def test_a_status_is_asked_of_the_next_scheduler_if_the_first_dies(connected: Steps) -> None:
    inquiry = connected.driver.inquire(connected.now + SECOND)
    connected.step()
    connected.step(Gone(EPOCH + 1, ""))
    assert not connected.driver.connected
    connected.until(lambda: Hello in kinds(connected.said))
    connected.step(WELCOME)
    assert AskStatus in kinds(connected.said)
    assert not inquiry.done


# -- the scheduler's life ---------------------------------------------------------------------------


def under_way(connected: Steps) -> Any:
    """A request that is with the scheduler."""
    session = connected.session
    pending = Pending(session.tag(), session.there, session.table, session.interface, connected.now)
    request = Request({}, INTERFACE.specs)
    request.pending = pending
    connected.queue.under_way[pending.tag] = request
    session.submit(pending, Filling(slot(0), (), {}), 0, 0, "")
    session.flush()
    return request


def test_the_schedulers_lock_is_looked_at_every_50_ms_while_a_request_is_under_way(connected: Steps) -> None:
    looked = []
    access: Any = type("Watched", (type(connected.access),), {
        "scheduler_is_gone": property(lambda self: bool(looked.append(connected.now)), lambda self, value: None)
    })
    connected.access.__class__ = access
    under_way(connected)
    began = connected.now
    connected.step()
    connected.until(lambda: connected.now >= began + 200 * MS)
    assert looked == [began + number * 50 * MS for number in range(5)]


def test_what_was_under_way_fails_when_the_scheduler_has_died_after_its_last_messages(connected: Steps) -> None:
    request = under_way(connected)
    connected.step()
    connected.access.scheduler_is_gone = True
    connected.after(50)
    assert connected.driver.connected
    assert connected.until(lambda: request.done) == [request]
    assert connected.now == 10 * SECOND + 90 * MS
    assert isinstance(request.error(), Unavailable)


def test_an_answer_that_a_dead_scheduler_has_sent_still_counts(connected: Steps) -> None:
    first, second = under_way(connected), under_way(connected)
    connected.step()
    connected.access.scheduler_is_gone = True
    connected.after(50)
    connected.now += 30 * MS
    assert connected.step(Answers(1, (ok(first.pending.tag),), (), 0)) == [first]
    # More of them may come.
    connected.after(30)
    assert not second.done
    assert connected.until(lambda: second.done) == [second]
    assert first.error() is None


def test_a_request_after_a_death_that_was_not_noticed_goes_to_the_next_scheduler(connected: Steps) -> None:
    connected.after(60_000)
    connected.access.scheduler_is_gone = True
    request = connected.put()
    connected.step()
    assert kinds(connected.said) == [Hello], "nothing is asked of the dead one, and the next one at once"
    connected.step(WELCOME)
    assert kinds(connected.said) == [Loan]
    assert not request.done


def test_a_scheduler_that_says_nothing_for_long_is_asked_whether_it_knows_the_client(connected: Steps) -> None:
    under_way(connected)
    connected.step()
    connected.said.clear()
    connected.until(lambda: connected.now >= 10 * SECOND + 600 * MS)
    assert Again in kinds(connected.said)
    assert connected.access.renewed


def test_what_is_no_message_is_no_sign_of_life(connected: Steps) -> None:
    # In a run with a group, each member can send such to a client.
    under_way(connected)
    connected.step()
    connected.said.clear()
    while connected.now < 10 * SECOND + 600 * MS:
        connected.now += 50 * MS
        connected.step(WireError("a message from user 1003 to a client"))
    assert Again in kinds(connected.said)


def test_messages_that_are_left_are_taken_without_a_wait(connected: Steps) -> None:
    requests = [under_way(connected) for _ in range(5)]
    answers = [Answers(number + 1, (ok(request.pending.tag),), (), 0) for number, request in enumerate(requests)]
    assert connected.step(*answers) == requests[:3]
    assert connected.driver.next_at == connected.now
    assert connected.step() == requests[3:]
    assert connected.driver.next_at is None


# -- another run takes over ------------------------------------------------------------------------


def test_an_idle_client_goes_to_the_run_that_has_taken_over_at_once(connected: Steps) -> None:
    assert connected.step(Answers(1, (), (), 0, "demo-2")) == []
    assert connected.access.moves == [("demo-2", True)]
    assert connected.unwatched == [101]
    assert kinds(connected.said) == [Hello]
    connected.step(WELCOME)
    assert connected.driver.connected
    assert connected.driver.next_at is None


def test_what_is_under_way_is_answered_first_and_what_waits_goes_along(connected: Steps) -> None:
    sent = under_way(connected)
    waiting = connected.put()
    connected.step()
    assert Loan in kinds(connected.said)
    connected.step(Answers(1, (), (), 0, "demo-2"))
    assert connected.access.moves == []
    last_word = [message for message in connected.said if isinstance(message, Loan)][-1]
    assert not last_word.wait
    # A slot that is granted all the same is given back, and not filled.
    connected.step(Answers(2, (), (slot(3),), last_word.ask, "demo-2"))
    assert waiting.waits
    assert connected.access.moves == []
    assert connected.step(Answers(3, (ok(sent.pending.tag),), (), last_word.ask, "demo-2")) == [sent]
    assert sent.error() is None
    assert connected.access.moves == [("demo-2", True)]
    connected.step(WELCOME)
    assert kinds(connected.said) == [Hello, Loan]
    assert waiting.waits


def test_a_move_that_is_interrupted_once_the_inbox_is_closed_is_begun_again(connected: Steps) -> None:
    connected.access.breaks = True
    with pytest.raises(KeyboardInterrupt):
        connected.step(Answers(1, (), (), 0, "demo-2"))
    assert connected.driver.descriptor is None
    connected.step()
    assert connected.access.moves == [("demo-2", True), ("demo-2", True)]
    connected.step(WELCOME)
    assert connected.driver.connected


def test_a_client_that_does_not_follow_stays(connected: Steps) -> None:
    connected.access.follows = False
    connected.step(Answers(1, (), (), 0, "demo-2"))
    assert connected.access.moves == []


def test_a_run_that_dies_after_it_was_replaced_is_left_for_the_one_that_has_taken_over(connected: Steps) -> None:
    sent = under_way(connected)
    connected.step(Answers(1, (), (), 0, "demo-2"))
    connected.access.scheduler_is_gone = connected.access.is_over = connected.access.is_replaced = True
    connected.access.by_path = True
    assert connected.until(lambda: sent.done) == [sent]
    assert connected.access.moves == [("demo-2", False)]
    connected.step(WELCOME)
    assert connected.driver.connected


# -- the end, and interruptions ---------------------------------------------------------------------


def test_leaving_fails_what_waits_and_is_under_way(connected: Steps) -> None:
    waiting, sent = connected.put(), under_way(connected)
    opening, inquiry = connected.driver.open(connected.now, patient=True), connected.driver.inquire(connected.now)
    finished = connected.driver.leave(connected.now)
    assert set(finished) == {waiting, sent}
    for wait in (waiting, sent):
        assert "closed before the request was answered" in str(wait.error())
    for other in (opening, inquiry):
        assert isinstance(other.error, Unavailable)
    assert connected.unwatched == [101]
    assert connected.access.goodbyes == [True]
    assert connected.driver.next_at is None
    assert connected.driver.leave(connected.now) == []


class Interrupted(BaseException):
    pass


def test_a_step_that_was_interrupted_is_put_in_order_by_the_next_one(
    connected: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = under_way(connected)

    def interrupt(now: int, absent: str) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(connected.queue, "go_on", interrupt)
        with pytest.raises(Interrupted):
            connected.step(Answers(1, (ok(request.pending.tag),), (), 0))
    assert connected.driver.next_at == connected.now
    assert connected.step() == [request]
    assert Again in kinds(connected.said)
    assert connected.driver.next_at is None
