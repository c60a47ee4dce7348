"""A worker process that retires leaves without being missed."""

from __future__ import annotations

from pipeline.supervisor.instructions import Log, NewEpoch, Spawn, Tell
from pipeline.supervisor.supervision import Exit
from pipeline.wire.address import SCHEDULER, Address
from pipeline.wire.messages import Retire, WorkerGone
from tests.unit.pipeline.supervisor.test_supervision import CHAIN, CLEAN, SEGV, running, said, told


def test_the_scheduler_is_told_of_each_worker_of_a_process_that_retires_once() -> None:
    supervision = running(CHAIN)
    assert said(supervision.retire(Address.worker(0)), Tell) == [Tell(SCHEDULER, Retire(0)), Tell(SCHEDULER, Retire(1))]
    assert supervision.retire(Address.worker(0)) == []
    assert supervision.retire(SCHEDULER) == []
    assert supervision.retire(Address.worker(99)) == []


def test_a_process_that_has_retired_is_no_death_and_none_is_started_in_its_place() -> None:
    supervision = running()
    supervision.retire(Address.worker(0))
    instructions = supervision.exited(Address.worker(0), CLEAN, 10.0)
    assert instructions == [Log("info", "a/0 has retired"), Tell(SCHEDULER, WorkerGone(0, "exit code 0", (), False, False))]
    assert said(supervision.tick(1000.0), Spawn) == []


def test_a_process_that_dies_before_it_has_retired_says_what_it_was_computing() -> None:
    supervision = running()
    supervision.retire(Address.worker(0))
    instructions = supervision.exited(Address.worker(0), SEGV, 10.0)
    assert said(instructions, Tell) == [Tell(SCHEDULER, WorkerGone(0, SEGV.how, (7,), False, False))]
    assert said(supervision.tick(1000.0), Spawn) == []


def test_the_next_scheduler_is_told_of_what_retires_too() -> None:
    supervision = running()
    supervision.retire(Address.worker(1))
    instructions = supervision.exited(SCHEDULER, Exit("killed", -9), 10.0)
    assert said(instructions, NewEpoch)
    assert (SCHEDULER, Retire) in told(instructions)
