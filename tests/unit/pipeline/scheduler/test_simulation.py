"""The whole pipeline, simulated: see `simulation`."""

from __future__ import annotations

import random
from itertools import accumulate

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from pipeline.graph.plan import Plan
from tests.unit.pipeline.scheduler.graphs import GRAPHS, make_plan
from tests.unit.pipeline.scheduler.simulation import ACTIONS, Simulation

SEEDS = 240
EVENTS = 300

_NAMES = tuple(ACTIONS)
_WEIGHTS = tuple(accumulate(ACTIONS.values()))


def plan_of(choice: random.Random) -> Plan:
    return make_plan(
        choice.choice(tuple(GRAPHS)),
        replicas=choice.randint(1, 3),
        max_batch=choice.choice([1, 2, 4]),
        delay_ms=choice.choice([0.0, 0.0, 3.0]),
        slots=choice.randint(1, 6),
        credits=choice.randint(1, 4),
        tight=choice.random() < 0.3,
    )


def walk(seed: int, events: int = EVENTS) -> Simulation:
    """A random walk and its end; everything in it follows from the seed."""
    dice = random.Random(seed)
    simulation = Simulation(plan_of(dice), dice.randrange)
    try:
        for _ in range(events):
            getattr(simulation, dice.choices(_NAMES, cum_weights=_WEIGHTS)[0])()
        if dice.random() < 0.2:
            simulation.drain()
        simulation.settle()
        assert simulation.drained == simulation.draining
    finally:
        simulation.close()
    return simulation


@pytest.mark.parametrize("block", range(8))
def test_whatever_dies_every_request_is_answered_once_and_rightly_and_every_slot_comes_back(block: int) -> None:
    answered = 0
    for seed in range(block, SEEDS, 8):
        try:
            answered += walk(seed).answered
        except Exception as error:
            raise AssertionError(f"walk({seed}): {type(error).__name__}: {error}") from error
    assert answered > SEEDS  # the walks do get somewhere
