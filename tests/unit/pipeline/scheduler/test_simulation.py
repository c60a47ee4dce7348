"""The whole pipeline, simulated: see `simulation`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from pipeline.graph.plan import Plan
from pipeline.wire.messages import Answer, Message, Orders
from tests.unit.pipeline.scheduler.actors import Client, Worker
from tests.unit.pipeline.scheduler.graphs import GRAPHS, make_plan
from tests.unit.pipeline.scheduler.simulation import Simulation

SEEDS = 200
EVENTS = 900

#: Event -> how often a random walk picks it.
ACTIONS: dict[str, float] = {
    "deliver": 70,
    "begin": 20,
    "finish": 20,
    "flush": 3,
    "submit": 20,
    "release": 10,
    "give_back": 1,
    "ask": 8,
    "lose": 1,
    "tick": 3,
    "join": 3,
    "leave": 1,
    "kill_client": 1,
    "probe": 2,
    "kill_worker": 2,
    "retire_worker": 0.3,
    "start_worker": 5,
    "cancel": 0.5,
    "end_stream": 0.5,
}

#: The events that a walk may have more or less of.
TROUBLE = frozenset({"leave", "kill_client", "kill_worker", "retire_worker", "cancel"})


def plan_of(choice: random.Random) -> Plan:
    return make_plan(
        # Those with slots of several sizes twice: few of their tensors outgrow a slot.
        choice.choice([*GRAPHS, *(name for name in GRAPHS if name.startswith("sizes"))]),
        replicas=choice.randint(1, 3),
        max_batch=choice.choice([1, 2, 4]),
        delay_ms=choice.choice([0.0, 0.0, 3.0]),
        slots=choice.randint(1, 6),
        credits=choice.randint(1, 4),
        tight=choice.random() < 0.3,
        processes=choice.choice([None, None, 1, 2]),
    )


def walk(seed: int, events: int = EVENTS, make: Callable[..., Simulation] = Simulation) -> Simulation:
    """A random walk and its end; all of it follows from the seed."""
    dice = random.Random(seed)
    simulation = make(plan_of(dice), dice.randrange)
    # From walks in which almost no process dies to walks in which almost all do.
    trouble = dice.choice([0.02, 0.2, 1.0, 3.0])
    weights = list(accumulate(weight * (trouble if name in TROUBLE else 1) for name, weight in ACTIONS.items()))
    try:
        for name in dice.choices(tuple(ACTIONS), cum_weights=weights, k=events):
            getattr(simulation, name)()
        end = dice.random()
        if end < 0.2:
            simulation.drain()
        elif end < 0.5:
            simulation.replace()
            # Clients go on until they hear of it, and some do nothing for long.
            for name in dice.choices(tuple(ACTIONS), cum_weights=weights, k=dice.randrange(events // 4)):
                getattr(simulation, name)()
        simulation.settle()
        assert simulation.drained == (simulation.draining or simulation.replaced)
    finally:
        simulation.close()
    return simulation


@pytest.mark.parametrize("block", range(2))
def test_whatever_dies_every_request_is_answered_once_and_rightly_and_every_slot_comes_back(block: int) -> None:
    counts: Counter[str] = Counter()
    untold = 0
    for seed in range(block, SEEDS, 2):
        try:
            simulation = walk(seed)
            counts += simulation.scheduler.counts
            untold += simulation.untold
        except Exception as error:
            raise AssertionError(f"walk({seed}): {type(error).__name__}: {error}") from error
    # Requests are answered on these walks, and all kinds of trouble occur.
    assert counts["answered"] > 20 * counts["failed_StageCrashed"] > 0
    assert counts["answered"] > 2 * SEEDS
    assert untold > SEEDS / 8
    assert min(counts["retries"], counts["failed_DeadlineExceeded"], counts["failed_BadInput"]) > SEEDS / 8
    assert counts["resized"] > SEEDS / 80
    assert min(counts["failed_Cancelled"], counts["failed_StreamBroken"], counts["retired_workers"]) > SEEDS / 40


class _Told(Simulation):
    """Notes every answer."""

    def __init__(self, plan: Plan, choose: Callable[[int], int], lean: bool) -> None:
        self.told: list[tuple[int, Answer]] = []
        #: Whether a worker was sent columns and single orders at once: the latter are taken in first.
        self.mixed = False
        super().__init__(plan, choose, lean)

    def _worker_takes(self, worker: Worker, message: Message) -> None:
        self.mixed |= isinstance(message, Orders) and bool(message.orders and message.columns)
        super()._worker_takes(worker, message)

    def _answer(self, client: Client, answer: Answer) -> None:
        self.told.append((client.number, answer))
        super()._answer(client, answer)


def test_with_and_without_columns_the_same_events_bring_the_same_answers() -> None:
    in_columns = 0
    for seed in range(SEEDS, SEEDS + 30):
        lean = walk(seed, make=partial(_Told, lean=True))
        general = walk(seed, make=partial(_Told, lean=False))
        assert isinstance(lean, _Told)
        assert isinstance(general, _Told)
        assert not general.rows_in_columns
        if not lean.mixed:
            assert lean.told == general.told, f"seed {seed}"
            assert lean.scheduler.counts == general.scheduler.counts, f"seed {seed}"
            in_columns += lean.rows_in_columns
    assert in_columns > 100


class SimulationMachine(RuleBasedStateMachine):
    """The same events, chosen by Hypothesis, which finds a short way to a failure."""

    simulation: Simulation

    @initialize(
        data=st.data(),
        graph=st.sampled_from(sorted(GRAPHS)),
        replicas=st.integers(1, 2),
        max_batch=st.sampled_from([1, 3]),
        delay_ms=st.sampled_from([0.0, 3.0]),
        slots=st.integers(1, 4),
        credits=st.integers(1, 3),
        tight=st.booleans(),
        processes=st.sampled_from([None, 1, 2]),
    )
    def start(self, data: st.DataObject, graph: str, tight: bool, **sizes: Any) -> None:
        plan = make_plan(graph, tight=tight, **sizes)
        self.simulation = Simulation(plan, lambda n: data.draw(st.integers(0, n - 1)) if n > 1 else 0)

    def _use(self, data: st.DataObject) -> Simulation:
        self.simulation.choose = lambda n: data.draw(st.integers(0, n - 1)) if n > 1 else 0
        return self.simulation

    @rule(data=st.data(), count=st.integers(1, 4))
    def deliver(self, data: st.DataObject, count: int) -> None:
        for _ in range(count):
            self._use(data).deliver()

    @rule(data=st.data())
    def compute(self, data: st.DataObject) -> None:
        self._use(data).begin()

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self._use(data).finish()

    @rule(data=st.data(), count=st.integers(1, 3))
    def submit(self, data: st.DataObject, count: int) -> None:
        for _ in range(count):
            self._use(data).submit()

    @rule(data=st.data(), event=st.sampled_from(["release", "give_back", "ask", "lose", "flush", "tick", "cancel", "end_stream"]))
    def something_small(self, data: st.DataObject, event: str) -> None:
        getattr(self._use(data), event)()

    @rule(data=st.data(), event=st.sampled_from(["kill_worker", "start_worker", "retire_worker"]))
    def worker(self, data: st.DataObject, event: str) -> None:
        getattr(self._use(data), event)()

    @rule(data=st.data(), event=st.sampled_from(["join", "leave", "kill_client", "probe"]))
    def client(self, data: st.DataObject, event: str) -> None:
        getattr(self._use(data), event)()

    @rule()
    def drain(self) -> None:
        self.simulation.drain()

    @rule()
    def replace(self) -> None:
        self.simulation.replace()

    def teardown(self) -> None:
        if hasattr(self, "simulation"):
            self.simulation.choose = lambda n: 0
            try:
                self.simulation.settle()
            finally:
                self.simulation.close()


TestSimulationMachine = SimulationMachine.TestCase
TestSimulationMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
