"""Supervision: which child runs, which is started again, and when it is over.

Pure: events and times in, instructions out. `pipeline.supervisor.supervisor` spawns, signals and
waits; nothing here does.

              all ready             interrupt / the feeder is done            drained / too late
    STARTING ───────────▶ RUNNING ───────────────────────────────▶ DRAINING ──────────────────▶ STOPPING
        │  a child fails             a second interrupt: every child is killed at once              │
        └───────────────────────────────────────────────────────────────────────────────────────────┤
                                                                             no child is left       ▼
                                                                                                 STOPPED
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from pipeline.graph.plan import Plan
from pipeline.wire.messages import Drain, Message, StageBroken, Stop, WorkerGone

__all__ = [
    "FEEDER",
    "SCHEDULER",
    "Child",
    "Instruction",
    "Interrupt",
    "Kill",
    "Log",
    "Phase",
    "Spawn",
    "Supervision",
    "Tell",
]

SCHEDULER = -1
FEEDER = -2

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 10.0
_STOP_GRACE_S = 5.0


class Phase(Enum):
    """Where a run is in its life; see the drawing above."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(slots=True)
class Child:
    """One process, from its spawn to its end."""

    number: int
    title: str
    stage: int = -1
    replica: int = 0
    record: int = 0
    """Its slot in the recorder segment."""
    ready: bool = False


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start this child."""

    child: Child


@dataclass(frozen=True, slots=True)
class Tell:
    """Push a message into a child's inbox."""

    number: int
    message: Message


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Send SIGTERM."""

    number: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Send SIGKILL."""

    number: int


@dataclass(frozen=True, slots=True)
class Log:
    """Something for the person who watches."""

    level: str
    text: str


Instruction = Spawn | Tell | Interrupt | Kill | Log


class Supervision:
    """The children of one run.

    Args:
        plan: what runs.
        feeder: whether a feeder process sends requests; the run ends with it.
        max_restarts: deaths of a stage's workers within `window_s` seconds after which the stage is
            not restarted any more.
    """

    def __init__(self, plan: Plan, *, feeder: bool, max_restarts: int = 5, window_s: float = 60.0) -> None:
        self._plan = plan
        self._with_feeder = feeder
        self._max_restarts = max_restarts
        self._window_s = window_s
        self.phase = Phase.STARTING
        self.children: dict[int, Child] = {}
        self._next_worker = 0
        self._deaths: list[deque[float]] = [deque() for _ in plan.stages]
        #: (when, stage, replica, record) of workers that are to be started again.
        self._respawns: list[tuple[float, int, int, int]] = []
        self._give_up_at: float | None = None
        #: 0 finished, 1 some requests failed or something died, 3 could not start.
        self.exit_code = 0
        #: Why it could not start; for people.
        self.failure: str | None = None
        #: The scheduler's last status document.
        self.last_status = ""

    # -- events ---------------------------------------------------------------------------------

    def start(self) -> Iterator[Instruction]:
        """Begin: every child at once, they find each other."""
        yield self._spawn(Child(SCHEDULER, "scheduler"))
        record = 0
        for stage, plan in enumerate(self._plan.stages):
            for replica in range(len(plan.workers)):
                yield self._spawn(self._worker(stage, replica, record))
                record += 1
        if self._with_feeder:
            yield self._spawn(Child(FEEDER, "feeder"))

    def ready(self, number: int) -> Iterator[Instruction]:
        """A child has said that it is ready."""
        child = self.children.get(number)
        if child is None:
            return
        child.ready = True
        if self.phase is Phase.STARTING and all(c.ready for c in self.children.values() if c.number != FEEDER):
            self.phase = Phase.RUNNING
            yield Log("info", "ready")

    def failed(self, number: int, error: str, traceback: str) -> Iterator[Instruction]:
        """A child says that it could not start; its exit follows."""
        child = self.children.get(number)
        title = child.title if child is not None else f"child {number}"
        if self.phase is Phase.STARTING:
            if self.failure is None:
                self.failure = f"{title} could not start: {error}\n\n{traceback.rstrip()}"
            yield from self._stop(3)
        else:
            yield Log("error", f"{title} could not start again: {error}")

    def exited(
        self, number: int, how: str, *, clean: bool, running: tuple[int, ...], now: float
    ) -> Iterator[Instruction]:
        """A child is dead for certain.

        Args:
            how: for people: "exit code 1", "killed by signal 9 (SIGKILL)", with its last lines.
            clean: whether it exited with 0.
            running: the requests that it was computing.
            now: monotonic seconds.
        """
        child = self.children.pop(number, None)
        if child is None:
            return
        if number == FEEDER:
            yield from self._feeder_exited(how, clean, now)
        elif self.phase is Phase.STARTING:
            if self.failure is None:
                self.failure = f"{child.title} died while it was starting: {how}"
            yield from self._stop(3)
        elif number == SCHEDULER and self.phase in (Phase.RUNNING, Phase.DRAINING):
            yield Log("error", f"the scheduler died: {how}")
            yield from self._stop(1)
        elif self.phase in (Phase.RUNNING, Phase.DRAINING):
            yield from self._worker_died(child, how, running, now)
        if not self.children and self.phase is Phase.STOPPING:
            self.phase = Phase.STOPPED

    def interrupted(self, now: float) -> Iterator[Instruction]:
        """Ctrl-C or SIGTERM: the first drains, the second stops at once."""
        if self.phase is Phase.RUNNING:
            if FEEDER in self.children:
                yield Log("info", "finishing what is under way; once more to stop at once")
                self._give_up_at = now + self._plan.drain_s
                yield Interrupt(FEEDER)
                self.phase = Phase.DRAINING
            else:
                yield from self._drain(now)
        else:
            self.exit_code = self.exit_code or 1
            yield Log("warning", "stopping at once")
            self.phase = Phase.STOPPING
            for number in self.children:
                yield Kill(number)
            if not self.children:
                self.phase = Phase.STOPPED

    def drained(self, document: str, now: float) -> Iterator[Instruction]:
        """Nothing is inside any more."""
        self.last_status = document
        yield from self._stop(self.exit_code, now)

    def tick(self, now: float) -> Iterator[Instruction]:
        """Time has passed."""
        if self.phase in (Phase.RUNNING, Phase.DRAINING):
            due = [respawn for respawn in self._respawns if respawn[0] <= now]
            self._respawns = [respawn for respawn in self._respawns if respawn[0] > now]
            for _, stage, replica, record in due:
                yield self._spawn(self._worker(stage, replica, record))
        if self._give_up_at is not None and now >= self._give_up_at:
            self._give_up_at = None
            left = ", ".join(child.title for child in self.children.values())
            if self.phase is Phase.DRAINING:
                self.exit_code = self.exit_code or 1
                yield Log("warning", f"not drained after {self._plan.drain_s:g} s; stopping: {left}")
                yield from self._stop(self.exit_code, now)
            else:
                yield Log("warning", f"killed, since it did not stop: {left}")
                for number in self.children:
                    yield Kill(number)

    @property
    def wake_at(self) -> float | None:
        """When `tick` has something to do: monotonic seconds."""
        times = [respawn[0] for respawn in self._respawns]
        if self._give_up_at is not None:
            times.append(self._give_up_at)
        return min(times, default=None)

    # -- steps ----------------------------------------------------------------------------------

    def _worker(self, stage: int, replica: int, record: int) -> Child:
        plan = self._plan.stages[stage]
        child = Child(self._next_worker, plan.workers[replica].title, stage, replica, record)
        self._next_worker += 1
        return child

    def _spawn(self, child: Child) -> Spawn:
        self.children[child.number] = child
        return Spawn(child)

    def _feeder_exited(self, how: str, clean: bool, now: float) -> Iterator[Instruction]:
        if self.phase is Phase.STARTING:
            yield from self._stop(self.exit_code)
            return
        if not clean and how not in ("exit code 1", "exit code 2"):
            yield Log("error", f"the feeder died: {how}")
        self.exit_code = 2 if how == "exit code 2" else 0 if clean else 1
        if self.phase in (Phase.RUNNING, Phase.DRAINING):
            yield from self._drain(now)

    def _drain(self, now: float) -> Iterator[Instruction]:
        self.phase = Phase.DRAINING
        self._give_up_at = now + self._plan.drain_s
        if SCHEDULER in self.children:
            yield Tell(SCHEDULER, Drain())

    def _stop(self, exit_code: int, now: float | None = None) -> Iterator[Instruction]:
        """Tell everybody to stop; at a failed start kill them, since they may not listen yet."""
        if self.phase in (Phase.STOPPING, Phase.STOPPED):
            return
        at_once = self.phase is Phase.STARTING or now is None
        self.phase = Phase.STOPPING
        self.exit_code = exit_code
        self._respawns.clear()
        for number in self.children:
            yield Kill(number) if at_once or number == FEEDER else Tell(number, Stop())
        self._give_up_at = None if now is None else now + _STOP_GRACE_S
        if not self.children:
            self.phase = Phase.STOPPED

    def _worker_died(self, child: Child, how: str, running: tuple[int, ...], now: float) -> Iterator[Instruction]:
        yield Tell(SCHEDULER, WorkerGone(child.number, how, running))
        deaths = self._deaths[child.stage]
        deaths.append(now)
        while deaths and deaths[0] < now - self._window_s:
            deaths.popleft()
        if len(deaths) > self._max_restarts:
            reason = f"its workers died {len(deaths)} times within {self._window_s:g} s; the last: {how}"
            yield Log("error", f"stage {self._plan.stages[child.stage].name} is broken: {reason}")
            yield Tell(SCHEDULER, StageBroken(child.stage, reason))
            return
        delay = 0.0 if len(deaths) == 1 else min(_FIRST_DELAY_S * 2 ** (len(deaths) - 2), _LONGEST_DELAY_S)
        yield Log("warning", f"{child.title} died ({how}); started again in {delay:g} s")
        self._respawns.append((now + delay, child.stage, child.replica, child.record))
