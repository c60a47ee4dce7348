"""Successors: the supervisors of later versions, as children of the root. The thin shell around `succession`.

    root ──boot document, then the lifeline──▶ successor     its stdin; it cannot outlive the root
         ──HandOver, Interrupted, Reload──▶ successor ──ReloadStep──▶ root        by their inboxes
         ──ReloadStep──▶ `pipeline reload`

A successor (`pipeline.cli.successor`) prints to the root's own stdout and stderr. It leads a session of its own: Ctrl-C
reaches the root, which passes it on.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from pipeline.errors import StartError
from pipeline.interpreter import python_command
from pipeline.logs.settings import LogSettings
from pipeline.supervisor.history import History
from pipeline.supervisor.instructions import Log, Report
from pipeline.supervisor.orphans import MARK, Orphans
from pipeline.supervisor.process import ChildProcess, describe_exit
from pipeline.supervisor.run_log import RunLog
from pipeline.supervisor.succession import (
    OWN,
    Begin,
    HandOverTo,
    Instruction,
    Launch,
    LetGo,
    LookHere,
    PassOn,
    ReportStep,
    RollIn,
    Signal,
    Succession,
    Version,
)
from pipeline.topology.refusals import refusal_of
from pipeline.video.pausing import take_over_pauses
from pipeline.wire.address import SUPERVISOR, Address
from pipeline.wire.links import Outbox, connect
from pipeline.wire.messages import HandOver, Interrupted, Milestone, Ping, Pong, Reload, Reloads, ReloadStep
from pipeline.wire.run_dir import pipeline_of, remove_dead_runs, serving
from pipeline.wire.run_folder import RunFolder
from pipeline.wire.status import ReloadsStatus

__all__ = ["Origin", "Root", "Successors", "step_of"]

_LEFT_S = 5.0
"""How long after the death of a version something of it is looked for."""

_LAST_STEP_MS = 1000
"""How long the last word to another process may take to leave this one."""


class Origin(msgspec.Struct, frozen=True):
    """What a successor is told at birth: its boot document."""

    config: str
    assignments: tuple[str, ...]
    name: str
    """Of the pipeline: the new version must have it too."""
    version: int
    root: str
    """The path of the root's run folder."""
    parent: int
    """The pid of the root."""
    log: LogSettings = LogSettings()

    def line(self) -> bytes:
        """The line that `read` reads."""
        # Not the JSON of msgspec: the path of a file need not be Unicode.
        return json.dumps(msgspec.to_builtins(self)).encode() + b"\n"

    @staticmethod
    def read(line: bytes | bytearray) -> Origin:
        """The reverse of `line`.

        Raises:
            msgspec.ValidationError: it is no such document of this version.
        """
        return msgspec.convert(json.loads(line), Origin)


def step_of(report: Report, version: int, folder: str = "") -> ReloadStep:
    """How far the replacement of a stage's workers is, as a message. Pure."""
    return ReloadStep(
        version, report.step, report.text, folder, report.replaced, report.workers, report.outcome
    )  # fmt: skip


class Root:
    """The root, as a successor sees it.

    Args:
        folder: the root's run folder.
        version: which one the successor is.
        pid: the root's.
    """

    #: Whether the run must be able to take over from one that serves before it is ready.
    succeeds = True
    #: The front, if the run is a shard.
    front: Path | None = None

    def __init__(self, folder: Path, version: int, pid: int) -> None:
        self.folder = folder
        self.pid = pid
        self._version = version
        self._outbox = connect(folder, SUPERVISOR)
        self._own = ""

    def name_of(self, pipeline: str) -> str:
        """What the run of the pipeline of this name is called."""
        return pipeline

    @property
    def refusal(self) -> str:
        """Why the run itself is not reloaded."""
        return f"it is a later version of the run in {self.folder}: reload that"

    def started(self, folder: Path) -> None:
        """The run's folder is there, and its children start."""
        self._own = str(folder)
        # Before its sources start: a camera that is paused is not looked at, not even for a moment.
        take_over_pauses(serving(self.folder), folder)
        self._tell(Milestone.STARTED, f"it starts in {folder}")

    def ready(self, text: str) -> None:
        """From now on the run can take over."""
        self._tell(Milestone.READY, text)

    def rolls(self, report: Report) -> None:
        """How far the replacement of a stage's workers is."""
        self._outbox.send(step_of(report, self._version, self._own))

    def failed(self, why: str) -> None:
        """The run cannot start; this process ends."""
        self._tell(Milestone.FAILED, why)

    def pong(self, number: int) -> None:
        """The run is well: what the root has asked by the `Ping` of that number."""
        self._outbox.send(Pong(number))

    def _tell(self, step: str, text: str) -> None:
        self._outbox.send(ReloadStep(self._version, step, text, self._own))

    def close(self) -> None:
        """Nothing more is said; what was, has a second to leave this process."""
        self._outbox.close(_LAST_STEP_MS)


class Successors:
    """The processes of the later versions.

    Args:
        folder: of the root.
        own: how the root's own run was started; None: it is never replaced.
        why_not: if `own` is None: why.
        log: of the run.
        orphans: what a dead successor leaves is killed by it.
        replaced: called when the root's own run must hand over.
        let_go: called when nothing of the root's own run may be kept.
        roll: called when the workers of a stage of the root's own run must be replaced.
    """

    def __init__(
        self,
        folder: RunFolder,
        own: Launch | None,
        why_not: str,
        log: RunLog,
        orphans: Orphans,
        replaced: Callable[[], None],
        let_go: Callable[[], None],
        roll: Callable[[Reload], None],
    ) -> None:
        self._folder = folder
        self._log = log
        self._orphans = orphans
        self._replaced = replaced
        self._let_go = let_go
        self._roll = roll
        self._succession = Succession(own, why_not)
        self._history = History()
        self._processes: dict[int, ChildProcess] = {}
        #: To the processes that have asked for a reload which is not over.
        self._askers: dict[int, Outbox] = {}
        #: Until when what a killed version has left is looked for: monotonic seconds; 0: none was killed.
        self._killed_until = 0.0

    # -- what is known ----------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether neither the root's own run nor another version is left."""
        return self._succession.over

    @property
    def exit_code(self) -> int | None:
        """Of the version that served last; None: that was the root's own run."""
        return self._succession.exit_code

    @property
    def wake_at(self) -> float | None:
        """When `tick` has something to do: monotonic seconds."""
        return self._succession.wake_at

    @property
    def pids(self) -> set[int]:
        """Of the processes that live, or whose exit status was not collected yet."""
        return {process.pid for process in self._processes.values()}

    @property
    def serving_own(self) -> bool:
        """Whether the root's own run is the version that serves, or has been the last one."""
        return self._succession.serving == OWN

    @property
    def version(self) -> str:
        """The id of the run that serves, if that is a later version; empty otherwise."""
        version = self._succession.versions.get(self._succession.serving or OWN)
        return "" if version is None else Path(version.folder).name

    @property
    def reloading(self) -> bool:
        """Whether a new version starts, which may take over."""
        return self._succession.reloading

    @property
    def ending(self) -> bool:
        """Whether no version will take requests any more."""
        return self._succession.ending

    @property
    def reloads(self) -> ReloadsStatus:
        """What has become of reloads so far."""
        return self._history.status

    def ping(self, number: int) -> bool:
        """Ask the later version that serves whether it is well; False: none serves."""
        if not self.version:
            return False
        self._tell(self._succession.serving or OWN, Ping(number))
        return True

    # -- events -----------------------------------------------------------------------------------

    def reload(self, asked: Reload, *, able: bool, now: float) -> None:
        """See `Succession.reload`."""
        self._carry_out(self._succession.reload(asked, able=able, now=now))

    def told(self, step: ReloadStep) -> None:
        """See `Succession.told`."""
        self._carry_out(self._succession.told(step))

    def interrupted(self, number: int, now: float) -> None:
        """Pass a signal on."""
        self._carry_out(self._succession.interrupted(number, now))

    def abandoned(self) -> None:
        """See `Succession.abandoned`."""
        self._carry_out(self._succession.abandoned())

    def own_run_ended(self, code: int) -> None:
        """See `Succession.own_run_ended`."""
        self._carry_out(self._succession.own_run_ended(code))

    def tick(self, now: float) -> None:
        """Time has passed."""
        self._carry_out(self._succession.tick(now))

    def bury(self, last_words: Callable[[], None]) -> None:
        """Collect the exit status of those that have ended.

        Args:
            last_words: takes in the messages that have come: one that has failed has said why before it ended.
        """
        for number, process in list(self._processes.items()):
            if (status := process.exit_status()) is None:
                continue
            last_words()
            del self._processes[number]
            process.close()
            self._orphans.died(process.pid, self._mark_of(number))
            if status < 0:
                self._killed_until = time.monotonic() + _LEFT_S
            self._carry_out(self._succession.exited(number, status, describe_exit(status)))

        if time.monotonic() < self._killed_until:
            self.remove_left()

    def remove_left(self) -> None:
        """Remove what versions that were killed have left, their folders and segments: nothing else may be started here
        for long. The children of such a version live for a moment longer, and may make anew what is removed of it."""
        if self._killed_until:
            with suppress(StartError):
                for dead in remove_dead_runs():
                    self._log("info", f"removed what {dead.name} left")

    # -- what is done -----------------------------------------------------------------------------

    def _carry_out(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Begin):
                version = instruction.version
                self._history.begins(version.asked_by, version.launch.config, "", self._serving.name, time.time())
                self._begin(version)
            elif isinstance(instruction, HandOverTo):
                self._hand_over(instruction.version)
            elif isinstance(instruction, LookHere):
                with suppress(OSError):
                    # What was paused or resumed while the new version started.
                    take_over_pauses(serving(self._folder.path), Path(instruction.folder))
                self._folder.replace(Path(instruction.folder).name)
            elif isinstance(instruction, LetGo):
                self._let_go()
            elif isinstance(instruction, Signal):
                if (process := self._processes.get(instruction.version)) is not None:
                    process.send_signal(instruction.number)
            elif isinstance(instruction, RollIn):
                asked = instruction.asked
                self._history.begins(asked.client, asked.config, asked.stage, self._serving.name, time.time())
                if instruction.version == OWN:
                    self._roll(instruction.asked)
                else:
                    self._tell(instruction.version, instruction.asked)
            elif isinstance(instruction, PassOn):
                self._tell(instruction.version, Interrupted(instruction.again))
            elif isinstance(instruction, ReportStep):
                self._report(instruction)
            elif isinstance(instruction, Log):
                self._log(instruction.level, instruction.text)

    def _begin(self, version: Version) -> None:
        root = self._folder.path
        origin = Origin(
            version.launch.config, version.launch.assignments, pipeline_of(root), version.number, str(root),
            os.getpid(), self._log.log.settings,
        )  # fmt: skip
        env = {MARK: self._mark_of(version.number)}
        command = python_command("pipeline.cli.successor")
        try:
            process = ChildProcess(command, origin.line(), env, own_terminal=True, own_session=True)
        except OSError as error:
            self._carry_out(self._succession.unborn(version.number, refusal_of(error)))
            return
        self._processes[version.number] = process
        self._orphans.born(process.pid)

    def _hand_over(self, number: int) -> None:
        if number not in self._succession.versions:
            self._replaced()
            return
        self._tell(number, HandOver(self._folder.path.name))

    def _tell(self, number: int, message: HandOver | Interrupted | Ping | Reload | Reloads) -> None:
        outbox = connect(Path(self._succession.versions[number].folder), SUPERVISOR)
        outbox.send(message)
        outbox.close(_LAST_STEP_MS)

    @property
    def _serving(self) -> Path:
        """The folder of the run that serves; the root's own if none does."""
        version = self._succession.versions.get(self._succession.serving or OWN)
        return self._folder.path if version is None else Path(version.folder)

    def _report(self, report: ReportStep) -> None:
        if self._history.take(report.client, report.step, time.time()) and self.version:
            # The scheduler of the root's own run is told by the root itself.
            self._tell(self._succession.serving or OWN, Reloads(self._history.status))
        outbox = self._askers.get(report.client)
        if outbox is None:
            outbox = self._askers[report.client] = connect(self._folder.path, Address.client(report.client))
        # One that has gone meanwhile is not waited for: the reload goes on without it.
        outbox.send(report.step)
        if report.step.step in (Milestone.DRAINED, Milestone.FAILED):
            self._askers.pop(report.client).close(_LAST_STEP_MS)

    def _mark_of(self, number: int) -> str:
        return f"{self._folder.path.name}/version-{number}"

    # -- the end ----------------------------------------------------------------------------------

    def signal(self, number: int) -> None:
        """Signal those that live."""
        for process in self._processes.values():
            process.send_signal(number)

    def kill(self) -> None:
        """Kill those that live; their children end by their lifelines."""
        self.signal(signal.SIGKILL)

    def close(self) -> None:
        """Kill and collect those that are left, and let go of what was opened."""
        self.kill()
        for process in self._processes.values():
            process.wait()
            process.close()
        for outbox in self._askers.values():
            outbox.close(_LAST_STEP_MS)
