"""Supervision: which child runs, which is started again, and when it is over.

Pure: events and times in, instructions out. `pipeline.supervisor.supervisor` spawns, signals and
waits; nothing here does.

              all ready             interrupt / the feeder is done            drained / too late
    STARTING ───────────▶ RUNNING ───────────────────────────────▶ DRAINING ──────────────────▶ STOPPING
        │  a child fails, or an      a second interrupt: every child is killed at once              │
        │  interrupt                                                                                │
        └───────────────────────────────────────────────────────────────────────────────────────────┤
                                                                             no child is left       ▼
                                                                                                 STOPPED
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from signal import SIGKILL

from pipeline.graph.plan import Plan
from pipeline.processes.child import Post
from pipeline.wire.messages import Drain, Message, Retire, StageBroken, Stop, WorkerGone

__all__ = [
    "CANARY", "FEEDER", "SCHEDULER", "STOPPED_EARLY", "Child", "Exit", "Instruction", "Interrupt", "Kill", "Log",
    "NewEpoch", "Phase", "Spawn", "Supervision", "Tell",
]  # fmt: skip

SCHEDULER = -1
FEEDER = -2
CANARY = -3

STOPPED_EARLY = "stopped while it was starting"

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 10.0
_SPAWN_AGAIN_S = 1.0
_STOP_GRACE_S = 5.0
_ONE_REQUEST_S = 0.1
"""Signals so close to each other are one request to stop; a person's second Ctrl-C comes later."""
_SCHEDULER_RESTARTS = 5
_SCHEDULER_WINDOW_S = 60.0


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
    """Of a worker process: that of the first of its workers."""
    title: str
    posts: tuple[Post, ...] = ()
    """The workers that it is, one a stage; none where it has another role."""
    replica: int = 0
    ready: bool = False
    epoch: int = 0
    """Whose segments it was told to attach."""
    overran: str = ""
    """It is being killed, since it has been computing this for too long: "one batch for 1500 ms"."""
    retiring: bool = False
    """It finishes what it has, then it leaves; no other one is started in its place."""


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
class NewEpoch:
    """Replace every segment by a new one, and let every worker know."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Log:
    """Something for the person who watches."""

    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child has ended, as far as the shell can tell."""

    how: str
    """For people: "exit code 1", "killed by signal 9 (SIGKILL)", with its last lines."""
    code: int
    """Exit code; negative: the signal that killed it."""
    running: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """The requests that it was computing, by the stage that was."""
    finished: Mapping[int, int] = field(default_factory=dict)
    """For each of its stages the batches that all workers have finished so far, dead ones included."""
    out_of_memory: bool = False
    """The kernel killed something for want of memory while it lived."""


Instruction = Spawn | Tell | Interrupt | Kill | NewEpoch | Log


class Supervision:
    """The children of one run.

    Args:
        plan: what runs.
        feeder: whether a feeder process sends requests; the run ends with it.
    """

    def __init__(self, plan: Plan, *, feeder: bool) -> None:
        self._plan = plan
        self._with_feeder = feeder
        self.phase = Phase.STARTING
        self.epoch = 0
        #: Segments of this epoch are no longer whole, and are about to be replaced.
        self._damaged = False
        self.children: dict[int, Child] = {}
        self._next_worker = 0
        #: By the first stage of a process.
        self._deaths: list[deque[float]] = [deque() for _ in plan.stages]
        self._last_running: list[frozenset[int]] = [frozenset()] * len(plan.stages)
        self._last_finished = [0] * len(plan.stages)
        self._broken: set[int] = set()
        self._scheduler_deaths: deque[float] = deque()
        #: (when, child) of those that are to be started again.
        self._respawns: list[tuple[float, Child]] = []
        self._give_up_at: float | None = None
        #: When the first signal came that a later one may repeat.
        self._interrupted_at: float | None = None
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
        records = 0
        for stages in self._plan.processes:
            for replica, placed in enumerate(self._plan.stages[stages[0]].workers):
                posts = tuple(Post(0, stage, records + at) for at, stage in enumerate(stages))
                yield self._spawn(self._numbered(Child(0, placed.title, posts, replica)))
                records += len(stages)
        if self._with_feeder:
            yield self._spawn(Child(FEEDER, "feeder"))
        elif self._plan.canary is not None:
            yield self._spawn(Child(CANARY, "canary"))

    def ready(self, number: int) -> Iterator[Instruction]:
        """A child has said that it is ready."""
        child = self.children.get(number)
        if child is None:
            return
        child.ready = True
        if self.phase is Phase.STARTING and all(
            c.ready for c in self.children.values() if c.number not in (FEEDER, CANARY)
        ):
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
        elif child is None or not self._outdated(child):
            yield Log("error", f"{title} could not start again: {error}")

    def exited(self, number: int, exit: Exit, now: float) -> Iterator[Instruction]:
        """A child is dead for certain. `now`: monotonic seconds."""
        child = self.children.pop(number, None)
        if child is None:
            return
        if number == FEEDER:
            yield from self._feeder_exited(exit, now)
        elif self.phase is Phase.STARTING:
            if self.failure is None:
                self.failure = f"{child.title} died while it was starting: {exit.how}"
            yield from self._stop(3)
        elif self.phase in (Phase.RUNNING, Phase.DRAINING):
            if number == SCHEDULER:
                yield from self._scheduler_died(exit, now)
            elif number == CANARY:
                yield Log("warning", f"the canary died ({exit.how}); started again")
                self._respawns.append((now + _FIRST_DELAY_S, Child(CANARY, "canary")))
            elif child.retiring:
                yield from self._retired(child, exit)
            else:
                yield from self._worker_died(child, exit, now)
        if not self.children and self.phase is Phase.STOPPING:
            self.phase = Phase.STOPPED

    def unborn(self, number: int, why: str, now: float) -> Iterator[Instruction]:
        """A child could not be started, for want of descriptors or processes say: not its fault, and tried again."""
        child = self.children.pop(number, None)
        if child is None:
            return
        if self.phase in (Phase.RUNNING, Phase.DRAINING):
            yield Log("error", f"{child.title}: {why}; tried again in {_SPAWN_AGAIN_S:g} s")
            self._respawns.append((now + _SPAWN_AGAIN_S, child))
        elif not self.children and self.phase is Phase.STOPPING:
            self.phase = Phase.STOPPED

    def overran(self, number: int, stage: int, for_ms: float) -> Iterator[Instruction]:
        """A process has been computing one batch for longer than its stage's `timeout_ms`."""
        child = self.children.get(number)
        if child is not None and not child.overran:
            child.overran = f"one batch{self._which(child, stage)} for {for_ms:.0f} ms"
            yield Log("warning", f"{child.title} has been computing {child.overran}; killed")
            yield Kill(number)

    def retire(self, number: int) -> Iterator[Instruction]:
        """A worker process must finish what it has, take nothing new, and leave."""
        child = self.children.get(number)
        if child is not None and child.posts and not child.retiring and self.phase is Phase.RUNNING:
            child.retiring = True
            yield Log("info", f"{child.title} retires")
            yield from [Tell(SCHEDULER, Retire(post.number)) for post in child.posts]

    def damaged(self, why: str) -> Iterator[Instruction]:
        """A segment was truncated or removed under us: all are replaced, as when the scheduler dies."""
        # Not in a drain: what is under way goes on where it is, and nothing else is to come.
        if self.phase is Phase.RUNNING and not self._damaged:
            self._damaged = True
            yield Log("error", f"a segment is damaged, so all are replaced: {why}")
            yield Kill(SCHEDULER)

    def interrupted(self, now: float, *, hangup: bool = False) -> Iterator[Instruction]:
        """A signal asks to stop: the first drains, or ends the start; the second stops at once.

        Some senders send several for one: a terminal that is closed, and its shell, a SIGHUP each; systemd SIGTERM and
        SIGHUP; timeout(1) SIGTERM to its child and to the group of it.

        Args:
            now: when it came, monotonic seconds.
            hangup: it is a SIGHUP, which is never taken for a second one; nor is one within 0.1 s of the first.
        """
        again = not hangup and self._interrupted_at is not None and now - self._interrupted_at >= _ONE_REQUEST_S
        if not hangup and self._interrupted_at is None:
            self._interrupted_at = now
        if again:
            self.exit_code = self.exit_code or 1
            yield Log("warning", "stopping at once")
            self.phase = Phase.STOPPING
            self._respawns.clear()
            for number in self.children:
                yield Kill(number)
            if not self.children:
                self.phase = Phase.STOPPED
        elif self.phase is Phase.STARTING:
            yield Log("info", STOPPED_EARLY)
            # Nothing was served; but files that were to be run have no answers.
            yield from self._stop(1 if self._with_feeder else 0)
        elif self.phase is Phase.RUNNING and FEEDER in self.children:
            yield Log("note", "finishing what is under way; once more to stop at once")
            # The feeder's turn first, then the scheduler's: either may take its time.
            self._give_up_at = now + 2 * self._plan.drain_s
            yield Interrupt(FEEDER)
            self.phase = Phase.DRAINING
        elif self.phase is Phase.RUNNING:
            yield from self._drain(now)

    def drained(self, document: str, now: float) -> Iterator[Instruction]:
        """Nothing is inside any more. `document`: the scheduler's last status."""
        self.last_status = document
        for request in json.loads(document).get("unfinished", ()):
            self.exit_code = self.exit_code or 1
            yield Log(
                "warning",
                f"not finished within {self._plan.drain_s:g} s: request {request['request']} of {request['client']}, "
                f"which waited for {', '.join(request['stages'])}",
            )
        yield from self._stop(self.exit_code, now)

    def tick(self, now: float) -> Iterator[Instruction]:
        """Time has passed."""
        if self.phase in (Phase.RUNNING, Phase.DRAINING):
            due = [child for when, child in self._respawns if when <= now]
            self._respawns = [respawn for respawn in self._respawns if respawn[0] > now]
            for child in due:
                yield self._spawn(child)
                if child.number == SCHEDULER:
                    yield from self._tell_broken()
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

    def _numbered(self, child: Child) -> Child:
        """A new child in the place of one, under numbers that nobody has had."""
        number = self._next_worker
        self._next_worker += len(child.posts)
        posts = tuple(post._replace(number=number + at) for at, post in enumerate(child.posts))
        return Child(number, child.title, posts, child.replica)

    def _which(self, child: Child, stage: int) -> str:
        """" of detect", where a process has several stages."""
        return f" of {self._plan.stages[stage].name}" if len(child.posts) > 1 else ""

    def _spawn(self, child: Child) -> Spawn:
        child.epoch = self.epoch
        self.children[child.number] = child
        return Spawn(child)

    def _feeder_exited(self, exit: Exit, now: float) -> Iterator[Instruction]:
        if self.phase is Phase.STOPPING:
            # Killed by us, for a reason that has said already what the run ends with.
            return
        if exit.code not in (0, 1, 2):
            yield Log("error", f"the feeder died: {exit.how}")
        self.exit_code = exit.code if exit.code in (0, 2) else 1
        if self.phase is Phase.STARTING:
            yield from self._stop(self.exit_code)
        if self.phase in (Phase.RUNNING, Phase.DRAINING):
            yield from self._drain(now)

    def _drain(self, now: float) -> Iterator[Instruction]:
        self.phase = Phase.DRAINING
        # The scheduler gives up first, and tells every client; this is for the case that it does not.
        self._give_up_at = now + self._plan.drain_s + _STOP_GRACE_S
        if SCHEDULER in self.children:
            yield Tell(SCHEDULER, Drain(int((now + self._plan.drain_s) * 1e9)))

    def _stop(self, exit_code: int, now: float | None = None) -> Iterator[Instruction]:
        """Tell everybody to stop; at a failed start kill them, since they may not listen yet."""
        if self.phase in (Phase.STOPPING, Phase.STOPPED):
            return
        at_once = self.phase is Phase.STARTING or now is None
        self.phase = Phase.STOPPING
        self.exit_code = exit_code
        self._respawns.clear()
        for number in self.children:
            yield Kill(number) if at_once or number in (FEEDER, CANARY) else Tell(number, Stop())
        self._give_up_at = None if now is None else now + _STOP_GRACE_S
        if not self.children:
            self.phase = Phase.STOPPED

    def _retired(self, child: Child, exit: Exit) -> Iterator[Instruction]:
        """A worker process has left as it was asked to, which is no death; or it has died before."""
        if exit.code == 0:
            yield Log("info", f"{child.title} has retired")
        else:
            yield Log("warning", f"{child.title} died before it had retired ({exit.how})")
        for post in reversed(child.posts):
            running = exit.running.get(post.stage, ())
            beside = len(exit.running) > bool(running)
            yield Tell(SCHEDULER, WorkerGone(post.number, exit.how, running, False, beside))

    def _worker_died(self, child: Child, exit: Exit, now: float) -> Iterator[Instruction]:
        how = exit.how
        if child.overran:
            how = f"killed, since it had been computing {child.overran}"
        if self._outdated(child):
            how = "while it was starting, the segments were replaced"
        # A SIGKILL that neither we nor the kernel's out-of-memory killer has sent comes from a person or
        # from another program, and says nothing about what was being computed.
        killed = exit.code == -SIGKILL and not child.overran and not exit.out_of_memory
        outside = killed or self._outdated(child)
        # The last stage first: a request that it was computing is suspect there, though the notice that an earlier
        # stage has finished it may have died with the process.
        for post in reversed(child.posts):
            running = exit.running.get(post.stage, ())
            beside = len(exit.running) > bool(running)
            yield Tell(SCHEDULER, WorkerGone(post.number, how, running, outside, beside))
        first = child.posts[0].stage
        plan = self._plan.stages[first]
        deaths = self._deaths[first]
        if self._counts_as_failure(child, exit, outside):
            deaths.append(now)
        while deaths and deaths[0] < now - plan.restart_window_s:
            deaths.popleft()
        if len(deaths) > plan.max_restarts:
            reason = f"its workers died {len(deaths)} times within {plan.restart_window_s:g} s; the last: {how}"
            for post in child.posts:
                if post.stage not in self._broken:
                    self._broken.add(post.stage)
                    yield Log("error", f"stage {self._plan.stages[post.stage].name} is broken: {reason}")
                    yield Tell(SCHEDULER, StageBroken(post.stage, reason))
            return
        delay = min(_FIRST_DELAY_S * 2 ** (len(deaths) - 2), _LONGEST_DELAY_S) if len(deaths) > 1 else 0.0
        yield Log("warning", f"{child.title} died ({how}); started again" + (f" in {delay:g} s" if delay else ""))
        self._respawns.append((now + delay, self._numbered(child)))

    def _outdated(self, child: Child) -> bool:
        """Whether a worker that was starting looked for segments that are gone, or are about to be."""
        return not child.ready and (self._damaged or child.epoch != self.epoch)

    def _counts_as_failure(self, child: Child, exit: Exit, outside: bool) -> bool:
        """Whether a death brings the process's stages nearer to being given up.

        Not when it was somebody else's doing, when the stage has been of use since the last death and
        a request can be blamed for this one, or when the search for a deadly request gets on: then it
        ends by itself. Of several stages, those are asked that were computing: others may have been of use
        to nobody.
        """
        first = child.posts[0].stage
        running = frozenset(request for requests in exit.running.values() for request in requests)
        before, self._last_running[first] = self._last_running[first], running
        asked = exit.running or exit.finished
        worked = any(exit.finished.get(stage, 0) > self._last_finished[stage] for stage in asked)
        for stage, finished in exit.finished.items():
            self._last_finished[stage] = finished
        if worked:
            self._deaths[first].clear()
        if outside:
            return False
        # Fewer of the same requests, or the last one alone once more.
        return not running or not (worked or running <= before)

    def _scheduler_died(self, exit: Exit, now: float) -> Iterator[Instruction]:
        deaths = self._scheduler_deaths
        deaths.append(now)
        while deaths[0] < now - _SCHEDULER_WINDOW_S:
            deaths.popleft()
        if len(deaths) > _SCHEDULER_RESTARTS or self.phase is Phase.DRAINING:
            yield Log("error", f"the scheduler died: {exit.how}")
            yield from self._stop(1)
            return
        yield Log("error", f"the scheduler died ({exit.how}); started again with empty slots")
        self.epoch += 1
        self._damaged = False
        # New segments: a client of the old one may still write into a slot of the old ones.
        yield NewEpoch(self.epoch)
        yield self._spawn(Child(SCHEDULER, "scheduler"))
        yield from self._tell_broken()

    def _tell_broken(self) -> Iterator[Instruction]:
        """A scheduler that begins anew knows of no stage that was given up."""
        for stage in sorted(self._broken):
            yield Tell(SCHEDULER, StageBroken(stage, "its workers died too often"))
        # Nor of a worker that retires.
        for child in self.children.values():
            yield from [Tell(SCHEDULER, Retire(post.number)) for post in child.posts if child.retiring]
