"""Slots are promised to all children of a request before the first of them begins."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from pipeline.scheduler.ledger import Request
from pipeline.scheduler.promises import Promises
from pipeline.wire.messages import Submit
from tests.unit.pipeline.scheduler.example import Example
from tests.unit.pipeline.scheduler.graphs import make_plan
from tests.unit.pipeline.scheduler.test_progress import passed

Make = Callable[..., Example]


def fan_out(make: Make, slots: int) -> Example:
    """A fan out whose children have so many slots in all; two requests, each with two children."""
    plan = make_plan("fan out", credits=4, slots=3)
    pools = tuple(replace(pool, slots=slots) if pool.name == "b" else pool for pool in plan.pools)
    scheduler = make(replace(plan, pools=pools))
    scheduler.submit(1, 2)
    assert scheduler.decide() == ["worker 0: order 1 a", "worker 0: order 2 a"]
    return scheduler


def with_few_slots(make: Make) -> Example:
    """There are three slots, and each request wants two."""
    scheduler = fan_out(make, 3)
    assert passed(scheduler, 0, 1, 2) == ["worker 1: order 3 b", "worker 1: order 4 b"]
    return scheduler


def promises_of(make: Make, graph: str, pool: str, slots: int) -> tuple[Promises, list[Request]]:
    """Promises of a pool of so many slots that makes none yet, and two requests, the eldest first."""
    plan = make_plan(graph, slots=3)
    pools = tuple(replace(each, slots=slots) if each.name == pool else each for each in plan.pools)
    scheduler = make(replace(plan, pools=pools))
    scheduler.submit(1, 2)
    return Promises(scheduler.scheduler._state), list(scheduler.scheduler.requests.values())


def test_every_slot_may_be_promised(example: Make) -> None:
    scheduler = fan_out(example, 4)
    assert passed(scheduler, 0, 1, 2) == [f"worker 1: order {child} b" for child in (3, 5, 4, 6)]


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


def test_a_promise_ends_once_when_the_join_has_read_and_when_the_request_is_answered(example: Make) -> None:
    promises, (first, second) = promises_of(example, "fan out", "b", 3)
    scope = promises._state.compiled.scopes[1]
    assert promises.make(first, scope, 2)
    assert not promises.make(second, scope, 2)
    promises.end(first, 1)
    assert promises.make(second, scope, 2)
    # No promise of the first is left, so this frees no slot, and neither does the second time below.
    promises.end_all(first)
    assert not promises.make(first, scope, 2)
    promises.end_all(second)
    promises.end_all(second)
    assert promises.make(first, scope, 3)
    assert not promises.make(second, scope, 1)


def test_among_branches_slots_are_left_for_the_children_of_the_eldest_request(example: Make) -> None:
    promises, (first, second) = promises_of(example, "two fan outs", "c", 4)
    scope = promises._state.compiled.scopes[1]
    # The eldest may have three children there.
    assert not promises.make(second, scope, 2)
    assert promises.make(second, scope, 1)
    assert promises.make(first, scope, 3)


def test_what_a_client_holds_of_children_is_promised_to_no_others_until_it_lets_go(example: Make) -> None:
    plan = make_plan("each child", credits=4, slots=3)
    pools = tuple(replace(pool, slots=3) if pool.name == "c" else pool for pool in plan.pools)
    scheduler = example(replace(plan, pools=pools))
    scheduler.submit(1, 2)
    scheduler.decide()
    assert passed(scheduler, 0, 1, 2) == ["worker 1: order 3 b>c", "worker 1: order 4 b>c"]
    assert passed(scheduler, 2, 3, 4) == ["client 1: 1 part 0", "client 1: 1 part 1", "client 1: 1 OK"]
    # One slot is free, and the other request has two children.
    assert scheduler.decide() == []
    client = scheduler.scheduler.ingress.clients[1]
    scheduler.handle(Submit(1, 0, (), tuple(client.borrowed)))
    assert scheduler.decide() == ["worker 1: order 5 b>c", "worker 1: order 6 b>c"]


def test_a_child_that_is_answered_needs_no_promise_any_more(example: Make) -> None:
    plan = make_plan("each child", credits=4, slots=3)
    pools = tuple(replace(pool, slots=5) if pool.name == "c" else pool for pool in plan.pools)
    scheduler = example(replace(plan, pools=pools))
    scheduler.submit(1, 2)
    scheduler.decide()
    assert passed(scheduler, 0, 1) == ["worker 1: order 3 b>c", "worker 1: order 4 b>c"]
    # Both children have a slot, and both are promised one.
    assert passed(scheduler, 0, 2) == []
    # The client has one slot, one is promised, and three are left.
    assert passed(scheduler, 2, 3)[:2] == ["worker 1: order 5 b>c", "worker 1: order 6 b>c"]
