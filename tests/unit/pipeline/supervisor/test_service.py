"""Which of the root, the versions and the schedulers is asked whether it is well, and who hears the answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.supervisor.service import Service
from pipeline.supervisor.supervision import Phase, Supervision
from pipeline.wire.address import SCHEDULER
from pipeline.wire.messages import Ping, Pong


class Own(SimpleNamespace):
    """A supervisor's own run."""

    answers = Supervision.answers


class Run:
    """A supervisor around a service, and all that it says.

    Args:
        root: whether it is the supervisor of a later version.
        later: whether a later version serves.
    """

    def __init__(self, *, root: bool = False, later: bool = False, notified: bool = True) -> None:
        self.told: list[str] = []
        self.asked: list[int] = []
        self.pongs: list[int] = []
        self.passed: list[int] = []
        self.later = later
        self.children: dict[Any, Any] = {SCHEDULER: SimpleNamespace(ready=True)}
        self.supervision: Any = Own(phase=Phase.RUNNING, children=self.children)
        successors: Any = SimpleNamespace(
            serving_own=not later, version="late-2" if later else "", reloading=False, ending=False, ping=self._ping
        )
        notify: Any = SimpleNamespace(watchdog_s=0.001, flush=lambda: None, send=self.told.append)
        self.service = Service(
            notify if notified and not root else None,
            SimpleNamespace(pong=self.pongs.append) if root else None,  # type: ignore[arg-type]
            cast("Any", self.supervision),
            successors,
            lambda ping: self.asked.append(ping.number),
        )

    def _ping(self, number: int) -> bool:
        if self.later:
            self.passed.append(number)
        return self.later


def test_the_service_manager_hears_that_the_run_is_well_when_its_scheduler_has_answered() -> None:
    run = Run()
    run.service.turn()
    assert "READY=1" in " ".join(run.told)
    assert run.asked
    assert "WATCHDOG=1" not in run.told
    run.service.take(Pong(run.asked[0]))
    assert run.told[-1] == "WATCHDOG=1"


def test_if_a_later_version_serves_that_one_is_asked() -> None:
    run = Run(later=True)
    run.service.turn()
    assert (len(run.passed), run.asked) == (1, [])


@pytest.mark.parametrize("notified", [True, False])
def test_without_a_service_manager_nothing_is_asked(notified: bool) -> None:
    run = Run(notified=notified)
    run.service.turn()
    assert bool(run.asked) is bool(run.told) is notified


def test_a_later_version_passes_the_question_to_its_scheduler_and_the_answer_to_the_root() -> None:
    run = Run(root=True)
    run.service.turn()
    run.service.take(Ping(7))
    assert (run.asked, run.pongs) == ([7], [])
    run.service.take(Pong(7))
    assert run.pongs == [7]


@pytest.mark.parametrize("why", ["no scheduler", "stopping"])
def test_a_later_version_answers_itself_while_there_is_no_scheduler_that_must(why: str) -> None:
    run = Run(root=True)
    if why == "stopping":
        run.supervision.phase = Phase.STOPPING
    else:
        run.children.clear()
    run.service.take(Ping(7))
    assert (run.asked, run.pongs) == ([], [7])
