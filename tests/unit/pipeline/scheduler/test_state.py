"""What all parts of the scheduler share."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.wire.messages import Orders, StageBroken
from tests.unit.pipeline.scheduler.example import Example

Make = Callable[..., Example]


def test_numbers_of_requests_never_come_again_in_a_later_life(example: Make) -> None:
    first, second = (example(epoch=epoch).scheduler._state for epoch in (1, 2))
    assert [first.number_request(), first.number_request()] == [(1 << 40) + 1, (1 << 40) + 2]
    assert second.number_request() == (2 << 40) + 1


def test_requests_are_settled_up_to_the_first_that_is_not_over(example: Make) -> None:
    scheduler = example()
    state = scheduler.scheduler._state
    assert state.settled == 1
    scheduler.submit(1, 2)
    scheduler.decide()
    assert state.settled == 1
    scheduler.finish(2, 2)
    assert state.settled == 1, "the second is over, and the first is not"
    scheduler.finish(2, 1)
    assert state.settled == 3
    scheduler.submit(3)
    scheduler.decide()
    assert [message.settled for _, message in scheduler.decided if isinstance(message, Orders)] == [3]


def test_the_eldest_is_the_first_that_came_and_has_not_passed(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1, 2, 3)
    state = scheduler.scheduler._state
    first, second, third = state.requests.values()
    first.answered = True
    assert state.eldest(0, lambda request: False) is second
    assert state.eldest(0, lambda request: request is second) is third
    assert state.eldest(1, lambda request: False) is None


def test_a_stage_is_broken_when_it_is_given_up_and_has_no_worker_left(example: Make) -> None:
    scheduler = example()
    state = scheduler.scheduler._state
    scheduler.handle(StageBroken(1, "why"))
    assert state.broken() is None
    scheduler.dies(1)
    assert state.broken() == (state.compiled.stages[1], "why")


def test_a_slot_is_free_when_its_last_holder_has_let_go(example: Make) -> None:
    scheduler = example()
    state = scheduler.scheduler._state
    client = state.ingress.clients[1]
    lease = scheduler.granted[1][0]
    pool = state.pool_of(lease)
    pool.commit(lease.slot, lease.generation, readers=2)
    free, out = pool.free, client.out[lease.segment]
    state.let_go(client, lease)
    assert (pool.free, client.out[lease.segment]) == (free, out)
    state.let_go(client, lease)
    assert (pool.free, client.out[lease.segment]) == (free + 1, out - 1)
