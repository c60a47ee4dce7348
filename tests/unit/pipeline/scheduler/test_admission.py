"""What a client sends is checked before the scheduler does anything with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from pipeline.wire.labels import LONGEST_NAME
from pipeline.wire.limits import LOWEST_PRIORITY
from pipeline.wire.messages import Drain, StageBroken, Submission, Submit
from tests.unit.pipeline.scheduler.actors import MS
from tests.unit.pipeline.scheduler.example import Example
from tests.unit.pipeline.scheduler.graphs import TENSOR_BYTES

Make = Callable[..., Example]


def test_a_request_is_let_in_once_however_often_it_is_sent(example: Make) -> None:
    scheduler = example()
    slot = scheduler.granted[1][0]
    scheduler.submit(1, slot=slot)
    scheduler.submit(1, slot=slot)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c"]
    scheduler.submit(1, slot=slot)
    assert scheduler.decide() == []
    assert scheduler.scheduler.counts["repeated_submissions"] == 2


def test_a_slot_can_be_submitted_once_and_only_by_the_client_that_has_it(example: Make) -> None:
    scheduler = example()
    scheduler.joins(2, slots=0)
    slot = scheduler.granted[1][0]
    scheduler.submit(1, slot=slot, client=2)
    assert scheduler.decide() == ["client 2: 1 InvalidRequest"]
    scheduler.submit(1, slot=slot)
    scheduler.submit(2, slot=slot)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c", "client 1: 2 InvalidRequest"]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda s: replace(s, inputs=()), "expected 1 inputs, found 0"),
        (lambda s: replace(s, priority=LOWEST_PRIORITY + 1), "expected a priority 0..9, found 10"),
        (lambda s: replace(s, priority=-1), "expected a priority 0..9, found -1"),
        (lambda s: replace(s, name="n" * (LONGEST_NAME + 1)), "expected a name of at most 200 characters, found 201"),
        (lambda s: replace(s, inputs=(s.inputs[0]._replace(slot=2),)), "input 'x' does not lie in the submitted slot"),
        (
            lambda s: replace(s, inputs=(s.inputs[0]._replace(offset=64 - TENSOR_BYTES + 1),)),
            "input 'x': 16 bytes at 49 do not fit a slot of 64",
        ),
        (
            lambda s: replace(s, inputs=(s.inputs[0]._replace(offset=-1),)),
            "input 'x': offset -1 or shape [16] is no place for a tensor",
        ),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_and_its_slot_comes_back(
    example: Make, wrong: Callable[[Submission], Submission], why: str
) -> None:
    scheduler = example()
    submission = wrong(scheduler.submission(7, scheduler.granted[1][0]))
    free = scheduler.free("ingress/0")
    scheduler.handle(Submit(1, 0, (submission,), ()))
    assert scheduler.decide() == ["client 1: 7 InvalidRequest"]
    assert scheduler.answers[1, 7].message == why
    assert scheduler.free("ingress/0") == free + 1


def test_a_tensor_may_end_where_its_slot_ends(example: Make) -> None:
    scheduler = example()
    submission = scheduler.submission(7, scheduler.granted[1][0])
    at_the_end = submission.inputs[0]._replace(offset=64 - TENSOR_BYTES)
    scheduler.handle(Submit(1, 0, (replace(submission, inputs=(at_the_end,), priority=LOWEST_PRIORITY),), ()))
    assert scheduler.decide() == ["worker 0: order 1 a>b>c"]


def test_as_many_requests_may_wait_as_queue_max_says_and_no_more(example: Make) -> None:
    scheduler = example(changed={"queue_max": 1}, credits=1)
    # There is credit for the first, so it is ordered; the second waits.
    scheduler.submit(1, 2, 3)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c", "client 1: 3 Overloaded"]
    assert scheduler.answers[1, 3].message == "1 requests wait already, queue.max is 1; try again later"


def test_with_a_queue_max_of_nothing_what_cannot_be_ordered_is_refused(example: Make) -> None:
    scheduler = example(changed={"queue_max": 0}, credits=1)
    scheduler.submit(1)
    assert scheduler.decide() == ["client 1: 1 Overloaded"]


def test_a_request_without_a_deadline_has_that_of_the_pipeline(example: Make) -> None:
    scheduler = example(changed={"deadline_ms": 30.0})
    scheduler.submit(1)
    scheduler.submit(2, deadline=scheduler.now + 90 * MS)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c", "worker 0: order 2 a>b>c"]
    assert scheduler.decide(after_ms=29) == []
    fences = ["worker 0: fence 1", "worker 1: fence 1", "worker 2: fence 1"]
    assert scheduler.decide(after_ms=1) == [*fences, "client 1: 1 DeadlineExceeded"]
    assert scheduler.answers[1, 1].message == "not finished 30 ms after it came; waiting for a, b, c"
    assert scheduler.decide(after_ms=60)[-1] == "client 1: 2 DeadlineExceeded"


def test_a_request_that_is_answered_is_late_no_more(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1, deadline=scheduler.now + MS)
    scheduler.decide()
    scheduler.finish(2, 1)
    assert scheduler.decide() == ["client 1: 1 OK"]
    assert scheduler.decide(after_ms=2) == []


def test_deadlines_of_requests_that_are_answered_do_not_pile_up(example: Make) -> None:
    scheduler = example()
    for tag in range(1, 1200):
        if not scheduler.granted[1]:
            scheduler.asks()
            scheduler.decide()
        scheduler.submit(tag, deadline=scheduler.now + 3600 * 1000 * MS)
        scheduler.decide()
        scheduler.finish(2, tag)
        assert scheduler.decide()[0] == f"client 1: {tag} OK"
        scheduler.release(tag)
    assert len(scheduler.scheduler._admission._deadlines) < 1100


def test_nothing_is_let_in_while_the_pipeline_stops(example: Make) -> None:
    scheduler = example()
    scheduler.handle(Drain(scheduler.now + 1000 * MS))
    scheduler.submit(1)
    assert scheduler.decide() == ["client 1: 1 Unavailable", "supervisor: Drained"]


def test_nothing_is_let_in_that_a_broken_stage_would_have_to_compute(example: Make) -> None:
    scheduler = example(replicas=2)
    scheduler.handle(StageBroken(1, "it dies at once"))
    # It has a worker left.
    scheduler.submit(1)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c"]
    scheduler.dies(1)
    scheduler.submit(2)
    scheduler.decide()
    assert scheduler.answers[1, 2].code == "StageUnavailable"
    assert scheduler.answers[1, 2].message == "stage b: it dies at once"


def test_what_a_client_does_not_hold_it_cannot_release(example: Make) -> None:
    scheduler = example()
    scheduler.joins(2, slots=0)
    slot = scheduler.granted[1][0]
    scheduler.handle(Submit(2, 0, (), (slot,)))
    assert scheduler.scheduler.counts["refused_releases"] == 1
    free = scheduler.free("ingress/0")
    scheduler.handle(Submit(1, 0, (), (slot, slot)))
    assert scheduler.scheduler.counts["refused_releases"] == 2
    assert scheduler.free("ingress/0") == free + 1
