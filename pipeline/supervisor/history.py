"""History: the reloads of a pipeline, as the root keeps them: what is under way, and how the last one ended. Pure.

A whole reload has ended once the new version serves: that the old one then finishes what it has holds up no other one.
"""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from pipeline.wire.messages import Milestone, ReloadStep
from pipeline.wire.status import OUTCOMES, ReloadsStatus, ReloadStatus

__all__ = ["History"]


class History:
    """It is told of each reload that begins, and of each step that the process is told which has asked for it."""

    def __init__(self) -> None:
        #: What is told to people and metrics.
        self.status = ReloadsStatus(None, None, dict.fromkeys(OUTCOMES, 0))
        #: The client number of the process that has asked for the reload that is under way.
        self._asked_by = 0

    def begins(self, asked_by: int, config: str, stage: str, before: str, now: float) -> None:
        """A reload begins.

        Args:
            asked_by: the client number of the process that has asked for it.
            config: path of the YAML file.
            stage: see `ReloadStatus`.
            before: the id of the run that serves.
            now: seconds since the epoch.
        """
        self._asked_by = asked_by
        begun = ReloadStatus(stage, config, before, now, step=Milestone.BEGUN)
        self.status = replace(self.status, under_way=begun)

    def take(self, client: int, step: ReloadStep, now: float) -> bool:
        """A process that has asked for a reload is told how far it is; whether that changes what is known.

        Args:
            client: its client number. Of another reload, which was refused or took over before, nothing is learnt.
            now: seconds since the epoch.
        """
        reload = self.status.under_way
        if reload is None or client != self._asked_by:
            return False
        reload = replace(
            reload, after="" if reload.stage else Path(step.folder).name, step=step.step, text=step.text,
            replaced=step.replaced, workers=step.workers,
        )  # fmt: skip
        outcome = _outcome(reload, step)
        if not outcome:
            self.status = replace(self.status, under_way=reload)
            return True
        reason = "" if outcome == "succeeded" else step.text
        ended = replace(reload, ended_s=now, outcome=outcome, reason=reason)
        counts = {**self.status.counts, outcome: self.status.counts[outcome] + 1}
        self.status = ReloadsStatus(None, ended, counts)
        return True


def _outcome(reload: ReloadStatus, step: ReloadStep) -> str:
    """How the reload ends with this step; empty: it does not."""
    if step.step == Milestone.FAILED:
        return step.outcome or "failed"
    last = Milestone.DRAINED if reload.stage else Milestone.TOOK_OVER
    return "succeeded" if step.step == last else ""
