"""Which class of slots a request is given."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.graph.compiled import NO_POOL, CompiledPlan
from pipeline.graph.plan import Edge, Plan, PoolPlan
from pipeline.scheduler.ledger import Request
from pipeline.scheduler.sizes import Sizes
from pipeline.wire.messages import OK, TOO_SMALL, Notice, Notices, Submit
from shm.handle import TensorHandle
from shm.pool import SlotPool
from shm.segment import Segment, SegmentSpec
from shm.segments import create
from tests.unit.pipeline.scheduler.actors import EPOCH
from tests.unit.pipeline.scheduler.graphs import make_plan
from tests.unit.pipeline.scheduler.simulation import Simulation

SMALL, MIDDLE, LARGE = 64, 128, 256


class Bench:
    """The stage `a` of a plan, which reads x and has 2 small slots, 1 of middle size and 1 large one."""

    def __init__(self) -> None:
        plan = make_plan("sizes")
        counts = {SMALL: 2, MIDDLE: 1, LARGE: 1}
        pools = [PoolPlan("ingress/0", 64, 4), *(PoolPlan(f"a/{i}", *each) for i, each in enumerate(counts.items()))]
        plan = Plan("demo", "", ".", plan.inputs, plan.stages, (("z", Edge("d", "z")),), tuple(pools))
        self.segments: list[Segment] = [
            create("local", SegmentSpec("run", pool.name.replace("/", "-"), pool.slot_bytes, pool.slots))
            for pool in plan.pools
        ]
        self.pools = [SlotPool(segment) for segment in self.segments]
        self.compiled = CompiledPlan.of(plan)
        self.stage = self.compiled.stages[0]
        self.sizes = Sizes(len(plan.stages), self.pools)

    def request(self, nbytes: int = 16, made: bool = True) -> Request:
        """A request whose input has so many bytes, or is not made yet."""
        value = TensorHandle(0, 0, 1, 0, "uint8", (nbytes,)) if made else None
        values = [value, *[None] * (self.compiled.tensors - 1)]
        return Request(
            1, self.compiled.scopes[0], client=0, tag=0, ingress=None, values=values, stages=4, deadline=0, priority=0,
            submitted=0,
        )  # fmt: skip

    def ran(self, taken: int, needed: int, code: str = OK) -> None:
        """The stage has run for inputs of so many bytes, and its outputs take, or would take, so many of a slot."""
        self.sizes.learn(self.stage, Notice(1, 0, code, "", (), b"", (), 0, taken, needed, ""))

    def size_for(self, request: Request) -> int | None:
        """The slots of the pool that it is given, in bytes."""
        pool = self.sizes.pool_for(request, self.stage)
        return None if pool is None else self.segments[pool].layout.slot_bytes


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    for segment in made.segments:
        segment.close()
        segment.unlink()


def test_if_nothing_is_known_it_is_the_largest(bench: Bench) -> None:
    assert bench.size_for(bench.request()) == LARGE


def test_a_stage_without_slots_needs_none(bench: Bench) -> None:
    assert bench.sizes.pool_for(bench.request(), bench.compiled.stages[3]) == NO_POOL


def test_what_was_needed_for_inputs_of_about_that_size_is_given_again(bench: Bench) -> None:
    bench.ran(1000, 128)
    assert bench.size_for(bench.request(600)) == MIDDLE
    assert bench.size_for(bench.request(2000)) == LARGE
    bench.ran(2000, 10)
    assert [bench.size_for(bench.request(nbytes)) for nbytes in (1100, 1000)] == [SMALL, MIDDLE]


def test_if_the_inputs_are_not_there_it_is_what_any_request_needed(bench: Bench) -> None:
    bench.ran(1000, 10)
    assert bench.size_for(bench.request(made=False)) == SMALL
    bench.ran(100_000, 100)
    assert bench.size_for(bench.request(made=False)) == MIDDLE


def test_a_guess_grows_at_once_and_shrinks_when_sixteen_in_a_row_needed_less(bench: Bench) -> None:
    for needed in (SMALL, LARGE, *[SMALL] * 15, LARGE, MIDDLE, *[SMALL] * 14):
        bench.ran(16, needed)
    assert bench.size_for(bench.request()) == LARGE
    bench.ran(16, SMALL)
    assert bench.size_for(bench.request()) == MIDDLE
    for _ in range(16):
        assert bench.size_for(bench.request()) == MIDDLE
        bench.ran(16, SMALL)
    assert bench.size_for(bench.request()) == SMALL


def test_a_request_whose_slot_was_too_small_gets_a_larger_one_and_so_do_those_behind(bench: Bench) -> None:
    bench.ran(16, SMALL)
    request = bench.request()
    bench.ran(16, MIDDLE + 1, TOO_SMALL)
    bench.sizes.need(request, bench.stage, MIDDLE + 1)
    assert bench.size_for(request) == bench.size_for(bench.request()) == LARGE
    # What it needs itself stays known, whatever others need meanwhile.
    for _ in range(16):
        bench.ran(16, SMALL)
    assert (bench.size_for(request), bench.size_for(bench.request())) == (LARGE, SMALL)
    # More than the largest: what a smaller slot would need if outputs were moved about.
    bench.sizes.need(request, bench.stage, LARGE + 1)
    assert bench.size_for(request) == LARGE


def test_nothing_is_learned_of_what_failed(bench: Bench) -> None:
    bench.ran(16, MIDDLE)
    bench.ran(16, 0, "BadInput")
    for _ in range(15):
        bench.ran(16, SMALL)
    assert bench.size_for(bench.request()) == MIDDLE


def test_a_larger_slot_will_do_if_none_is_free_and_a_smaller_one_never(bench: Bench) -> None:
    bench.ran(16, SMALL)
    small, middle, large = (bench.pools[index] for index in bench.stage.pools)
    small.loan()
    assert bench.size_for(bench.request()) == SMALL
    small.loan()
    assert bench.size_for(bench.request()) == MIDDLE
    middle.loan()
    assert bench.size_for(bench.request()) == LARGE
    slot, generation = large.loan()
    assert bench.size_for(bench.request()) is None
    large.abandon(slot, generation)
    greedy = bench.request()
    bench.sizes.need(greedy, bench.stage, LARGE)
    large.loan()
    assert bench.size_for(greedy) is None


@pytest.fixture
def two() -> Iterator[tuple[Simulation, Request, Request]]:
    """Two requests that wait for the first stage of a plan."""
    simulation = Simulation(make_plan("sizes"), lambda n: n // 2)
    simulation.submit()
    (connection,) = simulation.network.open(lambda receiver: False)
    message = simulation.network.take(connection)
    assert isinstance(message, Submit)
    simulation.scheduler.handle(message, simulation.now)
    first, second = simulation.scheduler.requests.values()
    try:
        yield simulation, first, second
    finally:
        simulation.close()


def pool_of(simulation: Simulation, request: Request) -> int | None:
    """The pool of the slot that a request fills in the first stage."""
    step = request.steps[0]
    return None if step is None or step.lease is None else simulation.segments.index(step.lease.segment)


def test_a_request_that_waits_for_a_large_slot_is_not_overtaken(two: tuple[Simulation, Request, Request]) -> None:
    simulation, greedy, modest = two
    pools = simulation.scheduler.compiled.stages[0].pools
    large = simulation.pools[pools[-1]]
    taken = [large.loan() for _ in range(large.slots)]
    greedy.sizes[0], modest.sizes[0] = len(pools) - 1, 0
    simulation.scheduler.decide(simulation.now)
    assert (pool_of(simulation, greedy), pool_of(simulation, modest)) == (None, None)
    for slot in taken:
        large.abandon(*slot)
    simulation.decide()
    assert (pool_of(simulation, greedy), pool_of(simulation, modest)) == (pools[-1], pools[0])
    simulation.settle()


def test_a_request_whose_slot_was_too_small_runs_again_with_a_larger_one(two: tuple[Simulation, Request, Request]) -> None:
    simulation, request, _ = two
    scheduler = simulation.scheduler
    small, middle, _ = scheduler.compiled.stages[0].pools
    request.sizes[0] = 0
    simulation.decide()
    assert pool_of(simulation, request) == small
    step = request.steps[0]
    assert step is not None
    notice = Notice(request.id, request.attempt, TOO_SMALL, "", (), b"", (), 0, 16, SMALL + 1, "")
    scheduler.handle(Notices(EPOCH, step.worker, (notice,)), simulation.now)
    assert (request.sizes, request.attempt, request.steps[0]) == ({0: 1}, 1, None)
    simulation.decide()
    assert pool_of(simulation, request) == middle
    assert scheduler.counts["resized"] == 1
    assert not scheduler.counts["retries"]
