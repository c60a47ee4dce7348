"""Which worker is ordered what, and how far ahead."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from pipeline.scheduler import dispatch
from pipeline.wire.messages import Hop, Order, Orders
from pipeline.wire.route import packed
from pipeline.worker.unpacking import orders_of
from shm.handle import TensorHandle
from tests.unit.pipeline.scheduler.example import Example
from tests.unit.pipeline.scheduler.graphs import GRAPHS, make_plan

Make = Callable[..., Example]


def test_an_order_has_all_that_its_workers_need(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    scheduler.decide()
    x = TensorHandle(100, 0, 1, 0, "uint8", (16,))
    # That `b` reads what `a` makes, and `c` that, is in the plan.
    hop = Hop(0, 0, 101, 0, 1, False, (x,), ())
    route = packed(1, 0, 1, 102, 0, 1) + packed(2, 0, 2, 103, 0, 1)
    ((receiver, orders),) = scheduler.decided
    assert receiver == ("worker", 0)
    assert isinstance(orders, Orders)
    (columns,) = orders.columns
    assert orders_of(columns, scheduler.scheduler.compiled.stages) == [
        Order(1, 0, 0, 0, hop, b"", "00001-1", route=route)
    ]


@pytest.mark.parametrize(("inputs", "orders"), [(16, "a>b>c"), (17, "a")])
def test_a_stage_with_more_inputs_than_a_route_can_say_begins_an_order(
    example: Make, monkeypatch: pytest.MonkeyPatch, inputs: int, orders: str
) -> None:
    stages = {"a": ("ingress.x", "t"), "b": (" ".join(["a.t"] * inputs), "t"), "c": ("b.t", "t")}
    monkeypatch.setitem(GRAPHS, "wide", (("x",), stages, {"t": "c.t"}))
    scheduler = example("wide")
    scheduler.submit(1)
    assert scheduler.decide() == [f"worker 0: order 1 {orders}"]
    scheduler.finish(0, 1)
    assert scheduler.decide() == ([] if inputs == 16 else ["worker 1: order 1 b>c"])


def test_a_worker_has_no_more_orders_than_credits(example: Make) -> None:
    scheduler = example(credits=2)
    scheduler.submit(1, 2, 3)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c", "worker 0: order 2 a>b>c"]
    # If `b` has finished, so has `a`: each has a credit again.
    scheduler.finish(1, 1)
    assert scheduler.decide() == ["worker 0: order 3 a>b"]
    scheduler.finish(2, 1)
    assert scheduler.decide() == ["client 1: 1 OK"]


def test_an_order_ends_before_a_stage_that_others_wait_for(example: Make) -> None:
    scheduler = example(credits=2)
    pool = scheduler.pools[2]
    taken = [pool.loan() for _ in range(pool.slots)]
    scheduler.submit(1)
    assert scheduler.decide() == ["worker 0: order 1 a"]
    scheduler.finish(0, 1)
    assert scheduler.decide() == []
    # It waits for a slot of `b`. When there is one, a second request cannot have it ahead of the first.
    pool.abandon(*taken[0])
    scheduler.submit(2)
    assert scheduler.decide() == ["worker 1: order 1 b>c", "worker 0: order 2 a"]


def test_later_stages_are_served_first(example: Make) -> None:
    scheduler = example(credits=2)
    scheduler.dies(1)
    scheduler.submit(1)
    assert scheduler.decide()[0] == "worker 0: order 1 a"
    scheduler.finish(0, 1)
    scheduler.submit(2)
    scheduler.ready(9, 1)
    # Otherwise the first would still wait for `b` when the second is ordered, which could not go on to `b` then.
    assert scheduler.decide() == ["worker 9: order 1 b>c", "worker 0: order 2 a>b>c"]


def test_the_worker_with_the_most_credit_is_ordered_from(example: Make) -> None:
    scheduler = example(credits=2)
    scheduler.ready(9, 0)
    scheduler.submit(1, 2, 3)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c", "worker 0: order 3 a", "worker 9: order 2 a>b>c"]


def test_a_request_waits_for_a_slot_and_those_behind_it_wait_too(example: Make) -> None:
    scheduler = example(credits=3)
    pool = scheduler.pools[1]
    taken = [pool.loan() for _ in range(pool.slots)]
    scheduler.submit(1, 2)
    assert scheduler.decide() == []
    pool.abandon(*taken[0])
    assert scheduler.decide() == ["worker 0: order 1 a>b>c"]


def test_an_order_ends_before_a_stage_whose_slots_are_all_out(example: Make) -> None:
    scheduler = example(credits=3)
    pool = scheduler.pools[2]
    for _ in range(pool.slots):
        pool.loan()
    scheduler.submit(1)
    assert scheduler.decide() == ["worker 0: order 1 a"]


def test_an_order_ends_with_a_stage_that_fans_out_or_is_asked_by_a_condition(example: Make) -> None:
    for graph in ("fan out", "either or"):
        scheduler = example(graph)
        scheduler.submit(1)
        assert scheduler.decide() == ["worker 0: order 1 a"]


def test_of_two_branches_one_is_ordered_ahead_and_a_join_when_all_is_there(example: Make) -> None:
    scheduler = example("diamond", slots=3)
    scheduler.submit(1)
    assert scheduler.decide() == ["worker 0: order 1 a>b"]
    scheduler.finish(0, 1)
    assert scheduler.decide() == ["worker 2: order 1 c"]
    scheduler.finish(1, 1)
    assert scheduler.decide() == []
    scheduler.finish(2, 1)
    assert scheduler.decide() == ["worker 3: order 1 d"]


def test_the_last_slot_of_a_branch_is_kept_for_the_eldest_request(example: Make) -> None:
    plan = make_plan("diamond", credits=4, slots=3)
    pools = tuple(replace(pool, slots=1) if pool.name == "c" else pool for pool in plan.pools)
    scheduler = example(replace(plan, pools=pools))
    scheduler.submit(1, 2)
    assert scheduler.decide() == ["worker 0: order 1 a>b", "worker 0: order 2 a>b"]
    scheduler.finish(0, 2)
    # The first does not wait for `c` yet. If the second had the slot, each could hold what the other one waits for.
    assert scheduler.decide() == []
    scheduler.finish(0, 1)
    assert scheduler.decide() == ["worker 2: order 1 c"]


def test_an_order_does_not_overtake_a_request_that_waits_for_a_larger_slot(example: Make) -> None:
    scheduler = example("sizes", credits=4)
    small, *_, large = scheduler.scheduler.compiled.stages[1].pools
    taken = [scheduler.pools[large].loan() for _ in range(scheduler.pools[large].slots)]
    scheduler.submit(1)
    assert scheduler.decide() == ["worker 0: order 1 a"]
    scheduler.finish(0, 1)
    assert scheduler.decide() == []
    scheduler.submit(2)
    scheduler.scheduler.requests[2].sizes[1] = 0
    assert scheduler.pools[small].free
    assert scheduler.decide() == ["worker 0: order 2 a"]
    scheduler.pools[large].abandon(*taken[0])
    assert scheduler.decide() == ["worker 1: order 1 b>c>d"]


def test_requests_that_are_as_far_take_one_way_as_long_as_there_is_a_slot_for_each_of_its_stages(example: Make) -> None:
    scheduler = example(slots=3, credits=3)
    pool = scheduler.pools[2]
    taken = pool.loan()
    scheduler.submit(1, 2, 3)
    assert scheduler.decide() == [f"worker 0: order {number} {way}" for number, way in ((1, "a>b>c"), (2, "a>b>c"), (3, "a"))]
    pool.abandon(*taken)
    for number in (1, 2):
        scheduler.finish(2, number)
    scheduler.finish(0, 3)
    assert scheduler.decide() == ["worker 1: order 3 b>c", "client 1: 1 OK", "client 1: 2 OK"]


def test_requests_that_are_as_far_take_one_way_as_long_as_each_of_its_workers_has_a_credit(example: Make) -> None:
    stages = make_plan("chain", slots=3, credits=3).stages
    few = tuple(replace(stage, credits=2) if stage.name == "b" else stage for stage in stages)
    scheduler = example(slots=3, credits=3, changed={"stages": few})
    scheduler.submit(1, 2, 3)
    assert scheduler.decide() == [f"worker 0: order {number} {way}" for number, way in ((1, "a>b>c"), (2, "a>b>c"), (3, "a"))]


def test_a_request_that_runs_again_does_not_lend_its_attempt_to_the_one_behind_it(example: Make) -> None:
    scheduler = example(slots=9, credits=9)
    scheduler.submit(1, 2)
    scheduler.decide()
    scheduler.dies(0)
    scheduler.ready(7, 0)
    scheduler.submit(3)
    ordered = [line for line in scheduler.decide() if line.startswith("worker 7: order")]
    assert sorted(ordered) == ["worker 7: order 1.1 a>b>c", "worker 7: order 2.1 a>b>c", "worker 7: order 3 a>b>c"]
    steps = {request.id: request.steps for request in scheduler.scheduler.requests.values()}
    attempts = {number: [step.attempt for step in steps[number] if step is not None] for number in steps}
    assert attempts == {1: [1, 1, 1], 2: [1, 1, 1], 3: [0, 0, 0]}


def test_a_request_does_not_take_the_way_of_one_for_which_another_condition_holds(
    example: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = {"a": ("ingress.x", "t c!"), "b": ("a.t", "r"), "d": ("b.r", "s", "a.c"), "e": ("b.r d.s?", "z")}
    monkeypatch.setitem(GRAPHS, "later condition", (("x",), stages, {"z": "e.z"}))
    scheduler = example("later condition", credits=3)
    scheduler.submit(1, 2)
    assert scheduler.decide() == ["worker 0: order 1 a", "worker 0: order 2 a"]
    scheduler.finish(0, 1, conditions=0b00)
    scheduler.finish(0, 2, conditions=0b10)
    assert sorted(scheduler.decide()) == ["worker 1: order 1 b", "worker 1: order 2 b>d>e"]


def test_the_way_of_requests_that_are_as_far_is_looked_for_once(
    example: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dispatch.__file__.endswith(".so"):
        pytest.skip("what is compiled calls its own methods")
    searched = []
    order = dispatch.Dispatch._order
    monkeypatch.setattr(
        dispatch.Dispatch, "_order", lambda self, request, *rest: searched.append(request.id) or order(self, request, *rest)  # type: ignore[func-returns-value]
    )
    scheduler = example(slots=9, credits=9)
    scheduler.submit(1, 2, 3)
    assert len(scheduler.decide()) == 3
    assert searched == [1]


def test_of_two_workers_each_is_ordered_in_turn(example: Make) -> None:
    scheduler = example(slots=3, credits=3)
    scheduler.ready(7, 0)
    scheduler.submit(1, 2, 3)
    assert sorted(scheduler.decide()) == ["worker 0: order 1 a>b>c", "worker 0: order 3 a>b>c", "worker 7: order 2 a>b>c"]
