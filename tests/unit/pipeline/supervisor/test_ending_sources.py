"""Sources end by themselves, and the run may end with the last; a source that dies is started again."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pipeline.graph.plan import CameraPlan
from pipeline.processes.child import DONE_WITH_FAILURES
from pipeline.supervisor.instructions import Spawn, Tell
from pipeline.supervisor.supervision import Exit, Phase, Supervision
from pipeline.wire.address import SCHEDULER, Address
from pipeline.wire.messages import Drain
from tests.unit.pipeline.supervisor.test_supervision import CLEAN, KILLED, PLAN, end, running, said

CAMERAS = replace(PLAN, cameras=(CameraPlan("door", "a"), CameraPlan("yard", "b")), ends_with_cameras=True)
DOOR, YARD = Address("source", 0), Address("source", 1)
FAILED = Exit("exit code 4", DONE_WITH_FAILURES)


def drains(supervision: Supervision, source: Address, exit: Exit) -> bool:
    return [type(tell.message) for tell in said(supervision.exited(source, exit, 10.0), Tell)] == [Drain]


def test_there_is_a_source_for_each_camera_and_none_beside_files() -> None:
    titles = {child.title for child in running(CAMERAS).children.values()}
    assert {"source/door", "source/yard"} <= titles
    assert not any(child.title.startswith("source") for child in running(CAMERAS, feeder=True).children.values())


@pytest.mark.parametrize(("first", "code"), [(CLEAN, 0), (FAILED, 1)])
def test_the_run_drains_after_the_last_source_has_ended_and_tells_of_failures(first: Exit, code: int) -> None:
    supervision = running(CAMERAS)
    assert not drains(supervision, DOOR, first)
    assert said(supervision.tick(1000.0), Spawn) == []
    assert drains(supervision, YARD, CLEAN)
    supervision.drained((), 11.0)
    end(supervision)
    assert supervision.exit_code == code


def test_a_run_that_serves_goes_on_when_its_cameras_have_ended() -> None:
    supervision = running(replace(CAMERAS, ends_with_cameras=False))
    assert not drains(supervision, DOOR, FAILED)
    assert not drains(supervision, YARD, CLEAN)
    assert (supervision.phase, supervision.exit_code) == (Phase.RUNNING, 0)
    assert said(supervision.tick(1000.0), Spawn) == []


def test_a_source_that_dies_is_started_again_in_its_place_and_the_run_waits_for_it() -> None:
    supervision = running(CAMERAS)
    supervision.exited(DOOR, KILLED, 10.0)
    # It is about to be started again: the run must not end with the other one.
    assert not drains(supervision, YARD, CLEAN)
    (spawn,) = said(supervision.tick(11.0), Spawn)
    assert (spawn.child.address, spawn.child.title, spawn.child.replica) == (DOOR, "source/door", 0)
    # An exception of Python's ends a process with 1: no end of a camera.
    supervision.exited(DOOR, Exit("exit code 1", 1), 12.0)
    assert said(supervision.tick(13.0), Spawn)
    assert drains(supervision, DOOR, CLEAN)


def test_sources_that_have_ended_before_all_is_ready_end_the_start_and_not_as_a_failure() -> None:
    supervision = Supervision(CAMERAS, feeder=False)
    supervision.start()
    supervision.exited(DOOR, CLEAN, 1.0)
    assert supervision.phase is Phase.STARTING
    supervision.exited(YARD, CLEAN, 1.0)
    assert (supervision.phase, supervision.failure) == (Phase.STOPPING, None)


def test_a_run_that_is_told_to_stop_starts_no_source_again() -> None:
    supervision = running(CAMERAS)
    supervision.interrupted(5.0)
    supervision.exited(DOOR, KILLED, 6.0)
    supervision.exited(YARD, CLEAN, 6.0)
    assert said(supervision.tick(7.0), Spawn) == []
    assert SCHEDULER in supervision.children
