"""Slots of cancelled orders come back when no worker can touch them any more."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.wire.messages import Fence, Fenced
from tests.unit.pipeline.scheduler.actors import MS
from tests.unit.pipeline.scheduler.example import Example

Make = Callable[..., Example]


def test_slots_come_back_when_every_fence_is_answered(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1, deadline=scheduler.now + MS)
    scheduler.decide()
    scheduler.decide(after_ms=1)
    out = [pool.in_use for pool in scheduler.pools]
    for worker in range(3):
        assert [pool.in_use for pool in scheduler.pools] == out
        scheduler.handle(Fenced(0, worker, (Fence(1, 0),)))
    # The client has two slots left of those that it was granted.
    assert [pool.in_use for pool in scheduler.pools] == [2, 0, 0, 0]
    assert scheduler.scheduler.requests == {}
    assert [worker.credits for worker in scheduler.scheduler.workers.values()] == [2, 2, 2]


def test_a_notice_or_a_death_is_as_good_as_the_answer_to_a_fence(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1, deadline=scheduler.now + MS)
    scheduler.decide()
    scheduler.decide(after_ms=1)
    scheduler.finish(0, 1)
    scheduler.finish(1, 1, "BadInput")
    assert scheduler.scheduler.requests
    scheduler.dies(2)
    assert [pool.in_use for pool in scheduler.pools] == [2, 0, 0, 0]
    assert scheduler.scheduler.requests == {}
