"""Slots are promised to all children of a request before the first of them begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.unit.pipeline.scheduler.example import Example
from tests.unit.pipeline.scheduler.graphs import make_plan
from tests.unit.pipeline.scheduler.test_progress import passed

Make = Callable[..., Example]


def with_few_slots(make: Make) -> Example:
    """A fan out whose children have three slots, which two requests want two of each."""
    plan = make_plan("fan out", credits=4, slots=3)
    pools = tuple(replace(pool, slots=3) if pool.name == "b" else pool for pool in plan.pools)
    scheduler = make(replace(plan, pools=pools))
    scheduler.submit(1, 2)
    assert scheduler.decide() == ["worker 0: order 1 a", "worker 0: order 2 a"]
    assert passed(scheduler, 0, 1, 2) == ["worker 1: order 3 b", "worker 1: order 4 b"]
    return scheduler


def test_children_are_begun_only_when_there_are_slots_for_all_that_they_give(example: Make) -> None:
    scheduler = with_few_slots(example)
    assert passed(scheduler, 1, 3, 4) == ["worker 2: order 1 c"]
    # Two slots are promised to the first until the join has read them.
    assert passed(scheduler, 2, 1) == ["worker 1: order 5 b", "worker 1: order 6 b", "client 1: 1 OK"]
    assert passed(scheduler, 1, 5, 6) == ["worker 2: order 2 c"]
    assert passed(scheduler, 2, 2) == ["client 1: 2 OK"]


def test_what_was_promised_to_a_request_that_fails_is_for_others(example: Make) -> None:
    scheduler = with_few_slots(example)
    scheduler.finish(1, 3, "BadInput")
    # The free one; the other two come back with the answer to the fence.
    assert scheduler.decide() == ["worker 1: order 5 b", "worker 1: fence 4", "client 1: 1 BadInput"]
    scheduler.fenced()
    assert scheduler.decide() == ["worker 1: order 6 b"]
