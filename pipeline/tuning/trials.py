"""Trials: pipelines that run beside each other, one for each candidate, and requests for one of them at a time.

The shell around `halving`: it starts what a user starts, `pipeline run CONFIG --serve --set ...`, asks it as an
application does, and ends it. It decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, StartError, Unavailable
from pipeline.load.driving import Show, drive, drive_one_by_one
from pipeline.load.inputs import Stock
from pipeline.load.loops import ClosedLoop
from pipeline.repository.connected import ConnectedModels, connect
from pipeline.repository.log import Kept
from pipeline.repository.run import StartedRun
from pipeline.tuning.candidate import Candidate, Goal, assignments_of
from pipeline.tuning.halving import Measured

__all__ = ["RequestsFail", "Trials"]

_START_S = 120.0
_STOP_S = 10.0
_ANSWER_S = 60.0
#: In place of the config's: with so many under way, requests may be answered later than callers would want.
_DEADLINE_MS = 60_000.0
_WARM_S = 0.3
_PROFILED = 12
_MANY = 1_000_000_000


class RequestsFail(Exception):
    """A candidate's requests have no answers; the text says why."""


@dataclass
class _Trial:
    run: StartedRun
    models: ConnectedModels | None = None
    runner: Any = None


class Trials:
    """The pipelines of a tuning. A context manager: at its end none of them is left.

    Args:
        config: the user's file.
        name: of the pipeline.
        stock: what requests carry.
        goal: for throughput many requests are under way, for latency one.
        outstanding: how many.
    """

    def __init__(self, config: Path, name: str, stock: Stock, goal: Goal, outstanding: int) -> None:
        self._config = config
        self._name = name
        self._stock = stock
        self._goal = goal
        self._outstanding = outstanding
        self._trials: dict[Candidate, _Trial] = {}

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(list(self._trials))

    def start(self, candidates: Sequence[Candidate], tell: Callable[[str], None]) -> dict[Candidate, str]:
        """Start them, all at once, and wait until each serves; those that do not, with the reason."""
        failed: dict[Candidate, str] = {}
        for candidate in candidates:
            try:
                self._trials[candidate] = _Trial(StartedRun(self._config, assignments_of(candidate.changes), Kept()))
            except StartError as error:
                failed[candidate] = _line(error)
        end = time.monotonic() + _START_S
        for number, candidate in enumerate(candidates):
            if candidate in failed:
                continue
            tell(f"starting {number + 1} of {len(candidates)}: {candidate.label}")
            trial = self._trials[candidate]
            try:
                trial.run.await_ready(max(1.0, end - time.monotonic()))
                trial.models = connect(trial.run.run_dir, name="tune", pending=self._outstanding, timeout_s=_ANSWER_S)
                trial.runner = trial.models.infer_runner(self._name)
                self._drive(trial, _WARM_S, _silent)
            except (PipelineError, RequestsFail) as error:
                failed[candidate] = _line(error)
                self.stop([candidate])
        return failed

    def stop(self, candidates: Sequence[Candidate]) -> None:
        """End them."""
        trials = [self._trials.pop(candidate) for candidate in candidates if candidate in self._trials]
        for trial in trials:
            if trial.models is not None:
                trial.models.stop()
            trial.run.let_go()
        for trial in trials:
            trial.run.end()

    def costs(self, candidate: Candidate) -> dict[str, float]:
        """Milliseconds that each stage computes for a request that is alone in the pipeline, on average.

        Raises:
            RequestsFail: there is no answer.
        """
        totals: dict[str, float] = {}
        runner = self._trials[candidate].runner
        for number in range(_PROFILED):
            try:
                result = runner.infer(self._stock.of(number)).get(timeout=_ANSWER_S)
            except (PipelineError, TimeoutError) as error:
                raise RequestsFail(_line(error)) from None
            for stage, trace in result.stages.items():
                totals[stage] = totals.get(stage, 0.0) + trace["compute_ms"]
            result.release()
        return {stage: total / _PROFILED for stage, total in totals.items()}

    def turn(self, candidate: Candidate, seconds: float, show: Show) -> Measured:
        """Ask one of them for so long.

        Raises:
            RequestsFail: requests have no answers.
            KeyboardInterrupt: Ctrl-C.
        """
        return self._drive(self._trials[candidate], seconds, show)

    def _drive(self, trial: _Trial, seconds: float, show: Show) -> Measured:
        one = self._goal is Goal.LATENCY
        loop = ClosedLoop(1 if one else self._outstanding, _MANY, seconds)
        try:
            if one:
                driven = drive_one_by_one(
                    loop, trial.runner, self._stock, timeout_s=_ANSWER_S, deadline_ms=_DEADLINE_MS, show=show
                )
            else:
                driven = drive(
                    loop, trial.runner, self._stock, end_s=float("inf"), timeout_s=_ANSWER_S,
                    deadline_ms=_DEADLINE_MS, show=show,
                )  # fmt: skip
        except (Unavailable, TimeoutError) as error:
            raise RequestsFail(_line(error)) from None
        if driven.interrupted:
            raise KeyboardInterrupt
        tally = loop.tally
        if tally.failed:
            kind, count = tally.failures.most_common(1)[0]
            raise RequestsFail(f"{count} x {kind}: {tally.messages[kind]}")
        if not tally.answered:
            raise RequestsFail(f"no answer within {_ANSWER_S:g} s")
        latencies = tally.latencies
        return Measured(tally.answered / driven.seconds, latencies.percentile(50), latencies.percentile(99))


def _silent(now: float, loop: object) -> None:
    """A warm-up shows nothing."""


def _line(error: BaseException) -> str:
    """The last line of a message: what a run has printed last says why it ended."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
