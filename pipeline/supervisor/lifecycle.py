"""Lifecycle: what the loops of a run's supervisor and of a front have in common, from the start to the exit code."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Protocol, TypeVar

from pipeline.errors import StartError
from pipeline.lifeline import StarterWatch
from pipeline.supervisor.phase import Phase
from pipeline.supervisor.signals import StopSignals
from pipeline.supervisor.successors import Successors

__all__ = ["Deciding", "hear", "run_to_end"]

_Instructions = TypeVar("_Instructions")
_Decided = TypeVar("_Decided", covariant=True)


class Deciding(Protocol[_Decided]):
    """What decides for the children of the own run: `Supervision`, or `Sharding`."""

    phase: Phase
    exit_code: int
    failure: str | None

    def start(self) -> _Decided: ...

    def abandoned(self) -> _Decided: ...

    def interrupted(self, now: float, *, hangup: bool = False) -> _Decided: ...


def run_to_end(
    own: Deciding[_Instructions],
    successors: Successors,
    carry_out: Callable[[_Instructions], None],
    step: Callable[[], None],
    kill: Callable[[], None],
) -> int:
    """Start the own run, and turn the loop until neither that nor a later version is left; the exit code.

    Args:
        carry_out: does what `own` decides.
        step: one turn of the loop.
        kill: kills all children of the own run, if the loop fails.

    Raises:
        StartError: the run could not start.
    """
    try:
        carry_out(own.start())
        while own.phase is not Phase.STOPPED:
            step()
        successors.own_run_ended(own.exit_code)
        while not successors.over:
            step()
    except BaseException:
        kill()
        successors.kill()
        raise
    if own.failure is not None:
        raise StartError(own.failure)
    return own.exit_code if successors.exit_code is None else successors.exit_code


def hear(
    own: Deciding[_Instructions],
    successors: Successors,
    carry_out: Callable[[_Instructions], None],
    signals: StopSignals,
    starter: StarterWatch | None,
) -> None:
    """Take in that the program that has started the run is gone, and the signals that have come."""
    if starter is not None and starter.gone:
        # Before the signal that comes with it, which alone would be a request to finish what is under way.
        carry_out(own.abandoned())
        successors.abandoned()
    while signals.received:
        number, at = signals.received.popleft()
        successors.interrupted(number, at)
        carry_out(own.interrupted(at, hangup=number == signal.SIGHUP))
