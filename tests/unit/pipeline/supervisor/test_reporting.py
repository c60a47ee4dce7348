"""What the supervisor knows is told to its scheduler: once, when it changes, and to each scheduler that begins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pipeline.supervisor.reporting import Reporting
from pipeline.supervisor.supervision import Phase
from pipeline.wire.messages import Reloads, SupervisorReport
from pipeline.wire.status import ReloadsStatus

NONE = ReloadsStatus(None, None, {"failed": 0})
ONE = ReloadsStatus(None, None, {"failed": 1})


class Run:
    """A supervisor around it, and all that its scheduler is told."""

    def __init__(self, *, later: bool = False) -> None:
        self.told: list[SupervisorReport] = []
        self.log: Any = SimpleNamespace(lost_lines=0)
        self.supervision: Any = SimpleNamespace(phase=Phase.RUNNING, epoch=0)
        self.successors: Any = SimpleNamespace(reloads=NONE)
        self.reporting = Reporting(self.log, self.supervision, None if later else self.successors, self.told.append)


def test_it_is_told_once_and_again_when_it_changes() -> None:
    run = Run()
    run.reporting.turn()
    run.reporting.turn()
    assert run.told == [SupervisorReport(0, NONE)]
    run.log.lost_lines = 3
    run.reporting.turn()
    run.successors.reloads = ONE
    run.reporting.turn()
    run.reporting.turn()
    assert run.told[1:] == [SupervisorReport(3, NONE), SupervisorReport(3, ONE)]


def test_a_scheduler_that_begins_anew_is_told_all() -> None:
    run = Run()
    run.reporting.turn()
    run.supervision.epoch = 1
    run.reporting.turn()
    assert run.told == [SupervisorReport(0, NONE)] * 2


def test_a_run_that_starts_or_ends_tells_nothing() -> None:
    run = Run()
    for phase in Phase:
        if phase is not Phase.RUNNING:
            run.supervision.phase = phase
            run.reporting.turn()
    assert run.told == []


def test_a_later_version_has_it_from_the_root() -> None:
    run = Run(later=True)
    run.reporting.turn()
    assert run.told == []
    run.reporting.take(Reloads(ONE))
    run.reporting.turn()
    assert run.told == [SupervisorReport(0, ONE)]
