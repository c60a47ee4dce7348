"""Signals that ask a run to stop, whenever they come; and children that could not even be started."""

from __future__ import annotations

import pytest

from pipeline.supervisor.instructions import Kill, Log, Spawn
from pipeline.supervisor.supervision import STOPPED_EARLY, Exit, Phase, Supervision
from pipeline.wire.address import SCHEDULER
from pipeline.wire.messages import Drain, StageBroken
from tests.unit.pipeline.supervisor.test_supervision import (
    CLEAN,
    FEEDER,
    KILLED,
    NOTHING_LEFT,
    PLAN,
    SEGV,
    W,
    end,
    running,
    said,
    told,
)


@pytest.mark.parametrize(("feeder", "code"), [(False, 0), (True, 1)])
def test_an_interrupt_ends_a_start_and_only_files_that_were_to_be_run_make_it_a_failure(feeder: bool, code: int) -> None:
    supervision = Supervision(PLAN, feeder=feeder)
    supervision.start()
    children = sorted(supervision.children)
    instructions = supervision.interrupted(1.0)
    assert said(instructions, Log) == [Log("info", STOPPED_EARLY)]
    assert sorted(kill.child for kill in said(instructions, Kill)) == children
    assert supervision.interrupted(1.01) == []
    for child in children:
        supervision.exited(child, KILLED, 2.0)
    assert (supervision.phase, supervision.exit_code, supervision.failure) == (Phase.STOPPED, code, None)


def test_signals_that_come_together_are_one() -> None:
    # timeout(1) sends SIGTERM to its child, and to the group that this is in.
    supervision = running()
    supervision.interrupted(10.0)
    assert supervision.interrupted(10.05) == []
    assert supervision.phase is Phase.DRAINING
    assert said(supervision.interrupted(10.11), Kill)


def test_a_hangup_drains_and_is_never_a_second_signal() -> None:
    # A terminal that is closed sends one, its shell another; systemd sends one after SIGTERM.
    supervision = running()
    assert told(supervision.interrupted(10.0, hangup=True)) == [(SCHEDULER, Drain)]
    assert supervision.interrupted(10.5, hangup=True) == []
    assert supervision.interrupted(11.0) == []
    assert supervision.interrupted(11.5, hangup=True) == []
    assert said(supervision.interrupted(12.0), Kill)


def test_a_first_signal_to_a_run_that_ends_already_does_no_harm() -> None:
    supervision = running(feeder=True)
    supervision.exited(FEEDER, CLEAN, 10.0)
    assert supervision.interrupted(10.1) == []
    supervision.drained(NOTHING_LEFT, 10.2)
    end(supervision)
    assert supervision.exit_code == 0


def test_a_child_that_could_not_be_started_is_tried_again_and_no_stage_is_given_up_for_it() -> None:
    supervision = running()
    supervision.exited(W[0], SEGV, 5.0)
    (spawn,) = said(supervision.tick(5.0), Spawn)
    now = 5.0
    for _ in range(20):
        told_of = supervision.unborn(spawn.child.address, "Too many open files", now)
        assert told_of == [Log("error", "a/0: Too many open files; tried again in 1 s")]
        assert said(supervision.tick(now + 0.5), Spawn) == []
        now += 1.0
        assert said(supervision.tick(now), Spawn) == [spawn]
    assert not [tell for tell in told(supervision.tick(now)) if tell[1] is StageBroken]


def test_a_scheduler_that_could_not_be_started_is_tried_again_and_hears_of_broken_stages() -> None:
    supervision = running()
    # Stage a has a budget of two restarts.
    for now in range(3):
        (child,) = (child for child in supervision.children.values() if child.title == "a/0")
        last = supervision.exited(child.address, Exit("exit code 1", 1), float(now))
        supervision.tick(now + 0.9)
    assert (SCHEDULER, StageBroken) in told(last)
    supervision.exited(SCHEDULER, SEGV, 100.0)
    epoch = supervision.epoch
    supervision.unborn(SCHEDULER, "no processes", 100.0)
    again = supervision.tick(101.0)
    assert [spawn.child.address for spawn in said(again, Spawn)] == [SCHEDULER]
    assert (SCHEDULER, StageBroken) in told(again)
    assert supervision.epoch == epoch


def test_a_child_that_could_not_be_started_in_a_drain_is_tried_again_too() -> None:
    supervision = running()
    supervision.interrupted(4.0)
    supervision.exited(W[0], SEGV, 5.0)
    (spawn,) = said(supervision.tick(5.0), Spawn)
    supervision.unborn(spawn.child.address, "no processes", 5.0)
    assert said(supervision.tick(6.0), Spawn) == [spawn]


def test_a_child_that_could_not_be_started_does_not_hold_up_the_end() -> None:
    supervision = running()
    supervision.exited(W[0], SEGV, 5.0)
    (spawn,) = said(supervision.tick(5.0), Spawn)
    supervision.interrupted(6.0)
    supervision.interrupted(7.0)
    for child in list(supervision.children):
        if child != spawn.child.address:
            supervision.exited(child, KILLED, 8.0)
    assert supervision.phase is Phase.STOPPING
    assert supervision.unborn(spawn.child.address, "why", 8.0) == []
    assert supervision.phase is Phase.STOPPED


@pytest.mark.parametrize("drains", [False, True])
def test_a_run_whose_starter_is_gone_stops_at_once_even_in_a_drain(drains: bool) -> None:
    supervision = running()
    if drains:
        supervision.interrupted(1.0)
    children = sorted(supervision.children)
    instructions = supervision.abandoned()
    assert sorted(kill.child for kill in said(instructions, Kill)) == children
    # The signal that comes with it is no second request, and it is told once.
    assert supervision.interrupted(1.05) == []
    assert supervision.abandoned() == []
    for child in children:
        supervision.exited(child, KILLED, 2.0)
    assert (supervision.phase, supervision.exit_code, supervision.failure) == (Phase.STOPPED, 1, None)


def test_a_start_whose_starter_is_gone_stops_at_once() -> None:
    supervision = Supervision(PLAN, feeder=False)
    supervision.start()
    children = sorted(supervision.children)
    assert sorted(kill.child for kill in said(supervision.abandoned(), Kill)) == children
    for child in children:
        supervision.exited(child, KILLED, 2.0)
    assert (supervision.phase, supervision.failure) == (Phase.STOPPED, None)
