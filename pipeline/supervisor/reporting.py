"""Reporting: what the supervisor knows and people and metrics ask its scheduler for, told to that when it changes."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.supervisor.run_log import RunLog
from pipeline.supervisor.successors import Successors
from pipeline.supervisor.supervision import Phase, Supervision
from pipeline.wire.messages import Reloads, SupervisorReport
from pipeline.wire.status import ReloadsStatus

__all__ = ["Reporting"]


class Reporting:
    """One supervisor's part in it.

    Args:
        log: of the run: it counts what it has lost.
        supervision: of the run.
        successors: the later versions, which know of reloads; None: the root does, and tells this supervisor.
        tell: sends a message to the scheduler.
    """

    def __init__(
        self,
        log: RunLog,
        supervision: Supervision,
        successors: Successors | None,
        tell: Callable[[SupervisorReport], None],
    ) -> None:
        self._log = log
        self._supervision = supervision
        self._successors = successors
        self._tell = tell
        #: As the root has told it.
        self._reloads: ReloadsStatus | None = None
        #: What was told last, and to which life of the scheduler.
        self._told: tuple[SupervisorReport, int] | None = None

    def take(self, message: Reloads) -> None:
        """The root tells of reloads."""
        self._reloads = message.status

    def turn(self) -> None:
        """The loop of the supervisor has turned."""
        reloads = self._reloads if self._successors is None else self._successors.reloads
        # A later version is told as soon as it serves. A scheduler without a report has no counts, rather than such as
        # would rise at once.
        if self._supervision.phase is not Phase.RUNNING or reloads is None:
            return
        told = SupervisorReport(self._log.lost_lines, reloads), self._supervision.epoch
        if told != self._told:
            self._told = told
            self._tell(told[0])
