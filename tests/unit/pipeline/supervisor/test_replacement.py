"""A run that another version replaces, and one that is about to replace another."""

from __future__ import annotations

from msgspec.structs import replace

from pipeline.graph.plan import CanaryPlan
from pipeline.supervisor.instructions import Kill, Spawn, Tell
from pipeline.supervisor.supervision import Exit, Phase, Supervision
from pipeline.wire.address import SCHEDULER
from pipeline.wire.messages import Drain
from tests.unit.pipeline.supervisor.test_supervision import (
    CANARY,
    KILLED,
    NOTHING_LEFT,
    PLAN,
    end,
    running,
    said,
)


def test_a_run_that_is_replaced_sends_its_clients_away_drains_and_asks_no_canary_any_more() -> None:
    supervision = running(replace(PLAN, canary=CanaryPlan("x.json", 1.0)))
    kill, tell = supervision.replaced("demo-7", 100.0)
    assert kill == Kill(CANARY)
    assert tell == Tell(SCHEDULER, Drain(103_000_000_000, "demo-7"))
    assert supervision.phase is Phase.DRAINING
    assert supervision.exited(CANARY, KILLED, 100.1) == []
    assert supervision.tick(101.0) == []
    assert supervision.replaced("demo-8", 101.0) == []
    supervision.drained(NOTHING_LEFT, 102.0)
    end(supervision, 102.0)
    assert supervision.exit_code == 0
    # A run that has ended kills nothing later.
    assert supervision.wake_at is None


def test_a_canary_that_was_to_be_started_again_is_not_once_the_run_is_replaced() -> None:
    supervision = running(replace(PLAN, canary=CanaryPlan("x.json", 1.0)))
    supervision.exited(CANARY, KILLED, 100.0)
    supervision.replaced("demo-7", 100.05)
    assert said(supervision.tick(101.0), Spawn) == []


def test_a_new_version_is_ready_only_once_its_canary_was_answered() -> None:
    supervision = Supervision(replace(PLAN, canary=CanaryPlan("x.json", 1.0)), feeder=False, succeeds=True)
    supervision.start()
    for child in list(supervision.children):
        if child != CANARY:
            supervision.ready(child)
    assert supervision.phase is Phase.STARTING
    assert supervision.gates(supervision.children[CANARY])
    supervision.ready(CANARY)
    assert supervision.phase is Phase.RUNNING
    assert not supervision.gates(supervision.children[CANARY])


def test_a_new_version_whose_canary_fails_does_not_start_and_another_run_does() -> None:
    plan = replace(PLAN, canary=CanaryPlan("x.json", 1.0))
    supervision = Supervision(plan, feeder=False, succeeds=True)
    supervision.start()
    supervision.exited(CANARY, Exit("exit code 1; it printed last: no stamp", 1), 1.0)
    assert "no stamp" in str(supervision.failure)
    alone = Supervision(plan, feeder=False)
    alone.start()
    for child in list(alone.children):
        if child != CANARY:
            alone.ready(child)
    assert alone.phase is Phase.RUNNING
