"""Succession: the versions of a pipeline that replace each other, as the root sees them. Pure.

The *root* is the supervisor that was started first: the one in the terminal, under systemd, or as PID 1. It starts each
later version as a child of its own, a supervisor with its own run. So there are never more than two levels:

    root, with its own run, version 0
     ├── version 1     drains: it has been replaced
     ├── version 2     serves
     └── version 3     starts

               every stage ready, canary answered         version n + 1 takes over         it has answered all
    STARTING ───────────────────────────────────▶ SERVING ─────────────────────▶ DRAINING ────────────────▶ gone
        │ it fails, or takes too long: the version that serves goes on, and knows nothing of it              ▲
        └────────────────────────────────────────────────────────────────────────────────────────────────────┘

Once its own run has ended, the root is a parent and nothing else: it forwards signals, takes reloads, and ends with the
exit code of the version that serves, when that ends. `pipeline.supervisor.successors` carries out what is decided here;
of its own run the root's `Supervision` decides.
"""

from __future__ import annotations

from enum import Enum
from signal import SIGHUP, SIGKILL, SIGTERM
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from pipeline.supervisor.instructions import Log
from pipeline.supervisor.supervision import ONE_REQUEST_S
from pipeline.wire.messages import Milestone, Reload, ReloadStep

__all__ = [
    "OWN", "Begin", "HandOverTo", "Launch", "LetGo", "LookHere", "PassOn", "ReportStep", "RollIn", "Signal", "State",
    "Succession", "Version",
]  # fmt: skip

OWN = 0
"""The version that the root's own run is."""

_FAILED = 1

_STOPPING = "the pipeline is stopping"

_STOP_S = 5.0
"""How long a version that is given up may take to end, before it is killed."""


class State(Enum):
    """Where a version is in its life; see the drawing above."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


class Launch(NamedTuple):
    """How a version is started: what stands on the command line."""

    config: str
    """Absolute path of the YAML file."""
    assignments: tuple[str, ...]


class Version(msgspec.Struct):
    """One that lives."""

    number: int
    launch: Launch
    state: State
    asked_by: int
    """The client number of the process that has asked for it."""
    give_up_at: float = 0.0
    """While it starts: monotonic seconds."""
    folder: str = ""
    """Of its run; empty until it is there."""
    failure: str = ""
    """Why it does not start, in its own words."""
    replaced_for: int = -1
    """While it drains: who asked for the version that has replaced it."""
    limit_s: float = 0.0


class Begin(NamedTuple):
    """Start a supervisor for this version."""

    version: Version


class HandOverTo(NamedTuple):
    """This version must send its clients to the root's folder, drain, and end. OWN is the root's own run."""

    version: int


class LookHere(NamedTuple):
    """From now on the root's folder leads to the run in `folder`."""

    folder: str


class LetGo(NamedTuple):
    """Keep nothing of the root's own run but its folder, which leads to the versions that live."""


class Signal(NamedTuple):
    """Send a signal to the supervisor of a version."""

    version: int
    number: int


class PassOn(NamedTuple):
    """Tell the supervisor of a version, by a message, that a signal asks to stop."""

    version: int
    again: bool
    """It is the second one."""


class RollIn(NamedTuple):
    """The workers of one stage of this version must be replaced. OWN is the root's own run."""

    version: int
    asked: Reload
    """With the config and the assignments of what is new."""


class ReportStep(NamedTuple):
    """Tell the process that has asked for a reload."""

    client: int
    step: ReloadStep


Instruction = Begin | HandOverTo | LookHere | LetGo | Signal | PassOn | RollIn | ReportStep | Log


class Succession:
    """The versions beside the root's own run. Each event gives a list of instructions, to be carried out in that order.

    Args:
        own: how the root's own run was started; None: it is never replaced.
        why_not: if `own` is None: why.
    """

    def __init__(self, own: Launch | None, why_not: str = "") -> None:
        #: How the version that serves was started.
        self._launch = own
        self._why_not = why_not
        self._next = 1
        #: By number. The root's own run is not among them.
        self.versions: dict[int, Version] = {}
        #: The version that serves; None: none does, and one starts.
        self.serving: int | None = OWN
        #: Whether the root's own run has ended.
        self.own_ended = False
        #: The stage that is replaced in the version that serves, and how that version is started from then on.
        self._rolls: tuple[Reload, Launch] | None = None
        self._own_replaced_for = -1
        self._stopping = False
        #: When the signal came that a later one may only repeat.
        self._interrupted_at: float | None = None
        #: Of the version that served last; None: that is the root's own run.
        self.exit_code: int | None = None

    @property
    def over(self) -> bool:
        """Whether the root has nothing left to wait for: its own run has ended, and so has every other version."""
        return self.own_ended and not self.versions

    @property
    def wake_at(self) -> float | None:
        """When `tick` has something to do: monotonic seconds."""
        starting = self._starting()
        return None if starting is None else starting.give_up_at

    @property
    def reloading(self) -> bool:
        """Whether a version starts that may take over."""
        starting = self._starting()
        return starting is not None and not starting.failure and not self._stopping

    @property
    def ending(self) -> bool:
        """Whether no version will take requests any more, apart from the root's own run."""
        return self._stopping or (self.serving is None and not self.reloading)

    # -- what is asked for ------------------------------------------------------------------------

    def reload(self, asked: Reload, *, able: bool, now: float) -> list[Instruction]:
        """A process asks for a new version.

        Args:
            able: whether the root's own run is ready, if that serves.
            now: monotonic seconds.
        """
        if self._launch is None:
            return [self._refused(asked, self._why_not)]
        if self._stopping:
            return [self._refused(asked, _STOPPING)]
        if (starting := self._starting()) is not None:
            why = f"another reload is under way, of {starting.launch.config}: wait for its end"
            return [self._refused(asked, why)]
        if self._rolls is not None:
            why = f"another reload is under way, of stage {self._rolls[0].stage}: wait for its end"
            return [self._refused(asked, why)]
        if self.serving is None or (self.serving == OWN and not able):
            return [self._refused(asked, "the pipeline itself is not ready yet, or ends: see `pipeline status`")]
        if asked.config:
            launch = Launch(asked.config, asked.assignments)
        else:
            launch = Launch(self._launch.config, (*self._launch.assignments, *asked.assignments))
        if asked.stage:
            self._rolls = asked, launch
            of_launch = replace(asked, config=launch.config, assignments=launch.assignments)
            return [RollIn(self.serving, of_launch)]
        version = Version(self._next, launch, State.STARTING, asked.client, now + asked.limit_s, limit_s=asked.limit_s)
        self._next += 1
        self.versions[version.number] = version
        begun = self._report(version, Milestone.BEGUN, launch.config)
        return [Log("info", f"a new version starts beside this one: {launch.config}"), begun, Begin(version)]

    def interrupted(self, number: int, now: float) -> list[Instruction]:
        """A signal asks the root to stop: it is for all versions. What a second one is, see `Supervision.interrupted`.

        Args:
            number: of the signal.
            now: when it came, monotonic seconds.
        """
        self._stopping = True
        again = False
        if number != SIGHUP:
            again = self._interrupted_at is not None and now - self._interrupted_at >= ONE_REQUEST_S
            self._interrupted_at = now if self._interrupted_at is None else self._interrupted_at
        instructions: list[Instruction] = []
        for version in self.versions.values():
            if version.state is not State.STARTING:
                instructions.append(PassOn(version.number, again))
                continue
            # It may not take messages yet, and has nothing to answer. If the signal does not end it, `tick` kills it.
            version.failure = version.failure or _STOPPING
            version.give_up_at = min(version.give_up_at, now + _STOP_S)
            instructions.append(Signal(version.number, SIGKILL if again else number))
        return instructions

    def abandoned(self) -> list[Instruction]:
        """The program that has started the root is gone: nothing may be left running."""
        self._stopping = True
        return [Signal(version, SIGKILL) for version in self.versions]

    # -- what becomes of it -----------------------------------------------------------------------

    def told(self, step: ReloadStep) -> list[Instruction]:
        """The supervisor of a version that starts says how far it is; or that of the one that serves, how far the
        replacement of a stage is."""
        if step.version == self.serving and self._rolls is not None:
            return self._rolled(step)
        version = self.versions.get(step.version)
        if version is None or version.state is not State.STARTING:
            return []
        if step.step == Milestone.FAILED:
            version.failure = version.failure or step.text
            return []
        version.folder = step.folder
        if version.failure:
            # It was given up, and has a signal to end: its last steps crossed with that.
            return []
        report = self._report(version, step.step, step.text)
        if step.step != Milestone.READY or self._stopping:
            return [report]
        return [report, *self._takes_over(version)]

    def exited(self, number: int, code: int, how: str) -> list[Instruction]:
        """The supervisor of a version has ended.

        Args:
            code: its exit code; negative: the signal that killed it.
            how: the same for people.
        """
        version = self.versions.pop(number, None)
        if version is None:
            return []
        if version.state is State.STARTING:
            return self._has_failed(version, version.failure or f"its supervisor ended while it was starting: {how}")
        if version.state is State.DRAINING:
            return self._has_drained(version.folder, version.replaced_for, code)
        return self._stopped_serving(code, f"the supervisor of {version.folder} ended: {how}")

    def own_run_ended(self, code: int) -> list[Instruction]:
        """The root's own run has ended: no child of it is left."""
        self.own_ended = True
        if self.serving == OWN:
            ended = self._stopped_serving(None, "")
        else:
            ended = self._has_drained("", self._own_replaced_for, code)
        # First it is no run any more, then the process that has asked is told so.
        return [LetGo(), *ended] if self.versions else ended

    def unborn(self, number: int, why: str) -> list[Instruction]:
        """The supervisor of a version could not be started."""
        version = self.versions.pop(number)
        return self._has_failed(version, f"its supervisor could not be started: {why}")

    def tick(self, now: float) -> list[Instruction]:
        """Time has passed."""
        version = self._starting()
        if version is None or now < version.give_up_at:
            return []
        # The first time it can put its things in order; its exit follows, or the second time.
        again = bool(version.failure)
        version.failure = version.failure or f"it was not ready within {version.limit_s:g} s"
        version.give_up_at = now + _STOP_S
        return [Signal(version.number, SIGKILL if again else SIGTERM)]

    # -- steps ------------------------------------------------------------------------------------

    def _starting(self) -> Version | None:
        return next((v for v in self.versions.values() if v.state is State.STARTING), None)

    def _rolled(self, step: ReloadStep) -> list[Instruction]:
        assert self._rolls is not None
        asked, launch = self._rolls
        if step.step in (Milestone.DRAINED, Milestone.FAILED):
            self._rolls = None
        if step.step == Milestone.DRAINED:
            self._launch = launch
        return [ReportStep(asked.client, step)]

    def _takes_over(self, version: Version) -> list[Instruction]:
        before, self.serving = self.serving, version.number
        version.state = State.SERVING
        self._launch = version.launch
        # First it can be found, then the clients of the old one are sent away.
        instructions: list[Instruction] = [LookHere(version.folder)]
        if before is not None:
            instructions.append(HandOverTo(before))
        instructions.append(Log("info", f"the version in {version.folder} has taken over"))
        instructions.append(self._report(version, Milestone.TOOK_OVER, ""))
        if before is None:
            return [*instructions, self._report(version, Milestone.DRAINED, "the old version had ended before")]
        if before == OWN:
            self._own_replaced_for = version.asked_by
        else:
            old = self.versions[before]
            old.state = State.DRAINING
            old.replaced_for = version.asked_by
        return instructions

    def _has_drained(self, folder: str, asked_by: int, code: int) -> list[Instruction]:
        text = "" if code == 0 else "not all that it had was answered: its log says what"
        log = Log("info", f"the version before has ended{': ' if text else ''}{text}")
        return [log, ReportStep(asked_by, ReloadStep(0, Milestone.DRAINED, text, folder))]

    def _has_failed(self, version: Version, why: str) -> list[Instruction]:
        return [
            Log("error", f"the new version was given up: {why}"),
            self._report(version, Milestone.FAILED, why),
        ]

    def _stopped_serving(self, code: int | None, how: str) -> list[Instruction]:
        """The version that serves has ended. If one starts, that goes on, and takes over when it is ready."""
        self.serving = None
        lost = [] if self._rolls is None else self._rolled(ReloadStep(OWN, Milestone.FAILED, how or _STOPPING))
        self.exit_code = code if code is None or code >= 0 else _FAILED
        instructions: list[Instruction] = [*lost]
        if how and not self._stopping:
            instructions.append(Log("error" if code else "info", how))
        return instructions

    def _refused(self, asked: Reload, why: str) -> ReportStep:
        return ReportStep(asked.client, ReloadStep(0, Milestone.FAILED, why))

    def _report(self, version: Version, step: str, text: str) -> ReportStep:
        return ReportStep(version.asked_by, ReloadStep(version.number, step, text, version.folder))
