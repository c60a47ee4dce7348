"""What the loops of supervisors have in common."""

from __future__ import annotations

import signal
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import StartError
from pipeline.supervisor.lifecycle import hear, run_to_end
from pipeline.supervisor.phase import Phase


class Story:
    """Both runs as the loop sees them, and what has happened to them."""

    def __init__(self, *, later: int | None = None, failure: str | None = None) -> None:
        self.said: list[object] = []
        self.phase, self.exit_code, self.failure = Phase.RUNNING, 4, failure
        #: The later version has two turns more than the own run.
        self.successors: Any = SimpleNamespace(
            own_run_ended=lambda code: self.said.append(("own run ended", code)),
            kill=lambda: self.said.append("later killed"),
            abandoned=lambda: self.said.append("later abandoned"),
            interrupted=lambda number, at: self.said.append(("later", number, at)),
            exit_code=later,
            over=False,
        )

    def start(self) -> str:
        return "start"

    def abandoned(self) -> str:
        return "abandoned"

    def interrupted(self, now: float, *, hangup: bool = False) -> tuple[str, float, bool]:
        return "interrupted", now, hangup

    def step(self) -> None:
        self.said.append("turn")
        if self.phase is not Phase.STOPPED:
            self.phase = Phase.STOPPED
        elif self.said.count("turn") == 3:
            self.successors.over = True

    def run(self) -> int:
        return run_to_end(self, self.successors, self.said.append, self.step, lambda: self.said.append("killed"))


@pytest.mark.parametrize(("later", "code"), [(None, 4), (0, 0)])
def test_it_turns_until_the_later_version_is_over_too_whose_exit_code_counts(later: int | None, code: int) -> None:
    story = Story(later=later)
    assert story.run() == code
    assert story.said == ["start", "turn", ("own run ended", 4), "turn", "turn"]


def test_a_run_that_could_not_start_says_why() -> None:
    with pytest.raises(StartError, match="no model"):
        Story(failure="no model").run()


def test_if_the_loop_fails_every_child_is_killed() -> None:
    story = Story()

    def fail() -> None:
        raise ZeroDivisionError

    story.step = fail  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        story.run()
    assert story.said == ["start", "killed", "later killed"]


def test_that_the_starter_is_gone_is_taken_in_before_the_signal_that_comes_with_it() -> None:
    story = Story()
    signals: Any = SimpleNamespace(received=deque([(signal.SIGHUP, 1.0), (signal.SIGTERM, 2.0)]))
    gone: Any = SimpleNamespace(gone=True)
    hear(story, story.successors, story.said.append, signals, gone)
    assert story.said == [
        "abandoned", "later abandoned",
        ("later", signal.SIGHUP, 1.0), ("interrupted", 1.0, True),
        ("later", signal.SIGTERM, 2.0), ("interrupted", 2.0, False),
    ]  # fmt: skip
    story.said.clear()
    hear(story, story.successors, story.said.append, signals, None)
    assert story.said == []
