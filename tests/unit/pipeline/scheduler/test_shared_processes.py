"""Stages that share a process: which request is blamed when it dies, and the search for the guilty one ends."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from tests.unit.pipeline.scheduler.actors import Worker
from tests.unit.pipeline.scheduler.graphs import make_plan
from tests.unit.pipeline.scheduler.simulation import Simulation

EVENTS = ("deliver",) * 6 + ("begin", "begin", "finish", "finish", "flush", "release", "start_worker", "tick")


def computing_the_first(simulation: Simulation, stage: int) -> Worker | None:
    """The worker of that stage that computes the first request of all."""
    for worker in simulation.workers.values():
        if worker.alive and worker.stage == stage and any(row.order.request & 0xFFFF == 1 for row in worker.rows):
            return worker
    return None


@pytest.mark.parametrize("max_batch", [1, 4])
@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("graph", ["chain", "diamond"])
def test_a_deadly_request_is_found_in_whatever_stage_it_kills(
    graph: str, processes: int, stage: int, max_batch: int
) -> None:
    for seed in range(8):
        dice = random.Random(seed)
        simulation = Simulation(make_plan(graph, processes=processes, max_batch=max_batch, credits=4), lambda n: 1 % n)
        try:
            # Good requests without deadlines.
            while simulation.submit():
                pass
            simulation.choose = dice.randrange
            deaths = 0
            while "failed_StageCrashed" not in simulation.scheduler.counts:
                getattr(simulation, dice.choice(EVENTS))()
                if (worker := computing_the_first(simulation, stage)) is not None:
                    # The notices of the stages before may be lost with the process.
                    simulation.kill(worker)
                    deaths += 1
                    # Three deaths until it is alone in its batch; then two crashes, or three kills from outside. In
                    # between, others may have been computed beside it.
                    assert deaths <= 9, f"seed {seed}"
            # It died alone often enough and no oftener, and its inputs are kept as they came into the stage it killed.
            assert 1 <= max(simulation.guilt.values()) <= Fraction(4, 3), f"seed {seed}"
            assert [keep.stage for keep in simulation.kept] == [stage]
            simulation.settle()
            assert simulation.scheduler.counts["failed_StageCrashed"] == 1
            assert simulation.scheduler.counts["answered"] == simulation.scheduler.counts["requests"] - 1 > 0
        finally:
            simulation.close()
