"""Supervision: which child runs, which is started again, and when it is over.

Pure: events and times in, a list of instructions out. `pipeline.supervisor.supervisor` carries it out, once the
transition is complete; it spawns, signals and waits, and nothing here does. What differs from one kind of child to
another is read from its row in `pipeline.supervisor.roles`.

                         interrupt / the feeder is done / replaced
              all ready                                                       drained / too late
    STARTING ───────────▶ RUNNING ───────────────────────────────▶ DRAINING ──────────────────▶ STOPPING
        │  a child fails, or an      a second interrupt, or the program is gone that has            │
        │  interrupt                 started the run: every child is killed at once                 │
        └───────────────────────────────────────────────────────────────────────────────────────────┤
                                                                             no child is left       ▼
                                                                                                 STOPPED
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from signal import SIGKILL
from typing import Any

from pipeline.errors import without_last_lines
from pipeline.graph.plan import Plan
from pipeline.supervisor.deaths import Deaths
from pipeline.supervisor.exits import Exit
from pipeline.supervisor.instructions import Child, Instruction, Interrupt, Kill, Log, NewEpoch, Spawn, Tell, end_of
from pipeline.supervisor.phase import Phase
from pipeline.supervisor.roles import DONE, ROLES, Place, Restart, Role
from pipeline.wire.address import SCHEDULER, Address
from pipeline.wire.messages import Drain, Retire, StageBroken, Stop, Trial, WorkerGone
from pipeline.wire.status import UnfinishedStatus

__all__ = ["ONE_REQUEST_S", "STOPPED_EARLY", "Exit", "Phase", "Supervision"]

STOPPED_EARLY = "stopped while it was starting"

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 10.0
_SPAWN_AGAIN_S = 1.0
_STOP_GRACE_S = 5.0
ONE_REQUEST_S = 0.1
"""Signals so close to each other are one request to stop; a person's second Ctrl-C comes later."""
_SCHEDULER_RESTARTS = 5
_SCHEDULER_WINDOW_S = 60.0


class Supervision:
    """The children of one run. Each event gives a list of instructions, in the order in which they must be carried out.

    Args:
        plan: what runs.
        feeder: whether files are fed: a feeder process sends them, and the run ends with it.
        roles: the kinds of children.
        succeeds: the run is a new version of one that serves: ready means that it can take over from that.
    """

    def __init__(self, plan: Plan, *, feeder: bool, roles: Sequence[Role] = ROLES, succeeds: bool = False) -> None:
        self._succeeds = succeeds
        #: What runs now. A worker keeps the plan that it was started with, when it is started again too.
        self.plan = plan
        self._feeder = feeder
        self._roles = roles
        self.phase = Phase.STARTING
        self.epoch = 0
        #: Segments of this epoch are no longer whole, and are about to be replaced.
        self._damaged = False
        self.children: dict[Address, Child] = {}
        self._next_worker = 0
        self._deaths = Deaths(plan)
        self._broken: set[int] = set()
        self._scheduler_deaths: deque[float] = deque()
        #: (when, child) of those that will be started again.
        self._respawns: list[tuple[float, Child]] = []
        self._give_up_at: float | None = None
        #: When the signal came that a later one may only repeat.
        self._interrupted_at: float | None = None
        self._abandoned = False
        #: 0 finished, 1 some requests failed or something died, 3 could not start.
        self.exit_code = 0
        #: Why it could not start; for people.
        self.failure: str | None = None
        self._unexplained: Child | None = None

    # -- events ---------------------------------------------------------------------------------

    def start(self) -> list[Instruction]:
        """Begin: start every child at once; they find each other."""
        return [
            self._spawn(self._child(role, place))
            for role in self._roles
            for place in role.places(self.plan, self._feeder)
        ]

    def ready(self, address: Address) -> list[Instruction]:
        """A child has said that it is ready."""
        child = self.children.get(address)
        if child is None:
            return []
        child.ready = True
        if self.phase is Phase.STARTING and all(c.ready for c in self.children.values() if self.gates(c)):
            self.phase = Phase.RUNNING
            return [Log("info", "ready")]
        return []

    def failed(self, address: Address, error: str, traceback: str) -> list[Instruction]:
        """A child says that it could not start; its exit follows."""
        child = self.children.get(address)
        if late := (self._unexplained is not None and self._unexplained.address == address):
            # The news of its death have overtaken its last words.
            child, self._unexplained = self._unexplained, None
        title = child.title if child is not None else str(address)
        if late or self.phase is Phase.STARTING:
            if late or self.failure is None:
                self.failure = f"{title} could not start: {error}\n\n{traceback.rstrip()}"
            return [] if late else self._stop(3)
        if self.phase is Phase.STOPPING:
            return []
        if child is None or not (child.newcomer or self._outdated(child)):
            if child is not None:
                child.failure = error
            return [Log("error", f"{title} could not start again: {error}")]
        return []

    def exited(self, address: Address, exit: Exit, now: float) -> list[Instruction]:
        """A child is dead for certain. `now`: monotonic seconds."""
        child = self.children.pop(address, None)
        if child is None:
            return []
        instructions: list[Instruction] = []
        if child.role.ends_run:
            instructions = self._client_ended(child, exit, now)
        elif child.role.ends and exit.code in DONE:
            instructions = self._done(child, exit, now)
        elif self.phase is Phase.STARTING:
            if self.failure is None:
                self.failure, self._unexplained = f"{child.title} died while it was starting: {exit.how}", child
            instructions = self._stop(3)
        elif self.phase in (Phase.RUNNING, Phase.DRAINING):
            instructions = self._died(child, exit, now)
        self._end_without_children()
        return instructions

    def unborn(self, address: Address, why: str, now: float) -> list[Instruction]:
        """A child could not be started, for example for lack of descriptors: not its fault, and tried again."""
        child = self.children.pop(address, None)
        if child is None:
            return []
        if self.phase in (Phase.RUNNING, Phase.DRAINING) and not child.newcomer:
            self._respawns.append((now + _SPAWN_AGAIN_S, child))
            return [Log("error", f"{child.title}: {why}; tried again in {_SPAWN_AGAIN_S:g} s")]
        self._end_without_children()
        return []

    def overran(self, address: Address, stage: int, for_ms: float) -> list[Instruction]:
        """A process has been computing one batch for longer than its stage's `timeout_ms`."""
        child = self.children.get(address)
        if child is None or child.overran:
            return []
        child.overran = f"one batch{self._which(child, stage)} for {for_ms:.0f} ms"
        return [Log("warning", f"{child.title} has been computing {child.overran}; killed"), Kill(address)]

    def retire(self, address: Address) -> list[Instruction]:
        """A worker process must finish what it has, take nothing new, and leave."""
        child = self.children.get(address)
        if child is None or not child.posts or child.retiring or self.phase is not Phase.RUNNING:
            return []
        child.retiring = True
        retired = [Tell(SCHEDULER, Retire(post.number)) for post in child.posts]
        return [Log("info", f"{child.title} retires"), *retired]

    def beside(self, role: Role, place: Place, plan: Plan, **extra: Any) -> list[Instruction]:
        """A child is started beside those that the run has; no other one is started in its place when it dies.

        Args:
            plan: what it is told.
            extra: as in `Child`.
        """
        child = self._child(role, place, plan)
        child.newcomer, child.extra = True, extra
        return [self._spawn(child)]

    def let_in(self, address: Address) -> list[Instruction]:
        """A worker process that was started beside another one takes its place, which must retire or is gone."""
        newcomer = self.children[address]
        newcomer.newcomer = False
        self._deaths.forget(newcomer.posts[0].stage)
        instructions: list[Instruction] = [Tell(SCHEDULER, Trial(p.number, p.stage, True)) for p in newcomer.posts]
        self._respawns = [(at, child) for at, child in self._respawns if not child.shares_place(newcomer)]
        for old in self.beside_in_place(address):
            instructions += self.retire(old)
            if not self.children[old].ready:
                instructions.append(Kill(old))
        return instructions

    def beside_in_place(self, address: Address) -> list[Address]:
        """The other worker processes that are the same replica of the same stages."""
        mine = self.children[address]
        return [each.address for each in self.children.values() if each is not mine and each.shares_place(mine)]

    @property
    def records(self) -> set[int]:
        """The flight records that workers have, or will have once they are started again."""
        children = [*self.children.values(), *[child for _, child in self._respawns]]
        return {post.record for child in children for post in child.posts}

    def is_broken(self, stage: int) -> bool:
        """Whether the dead workers of a stage are not started again any more."""
        return stage in self._broken

    def damaged(self, why: str) -> list[Instruction]:
        """A segment was truncated or removed under us: all are replaced, as when the scheduler dies."""
        # Not in a drain: what is under way goes on where it is, and nothing else comes.
        if self.phase is not Phase.RUNNING or self._damaged:
            return []
        self._damaged = True
        return [Log("error", f"a segment is damaged, so all are replaced: {why}"), Kill(SCHEDULER)]

    def interrupted(self, now: float, *, hangup: bool = False) -> list[Instruction]:
        """A signal asks to stop: the first drains, or ends the start; the second stops at once.

        Some senders send several for one: a terminal that is closed, and its shell, a SIGHUP each; systemd SIGTERM and
        SIGHUP; timeout(1) SIGTERM to its child and to the group of it.

        Args:
            now: when it came, monotonic seconds.
            hangup: it is a SIGHUP, which is never taken for a second one; nor is one within 0.1 s of the first.
        """
        again = not hangup and self._interrupted_at is not None and now - self._interrupted_at >= ONE_REQUEST_S
        if not hangup and self._interrupted_at is None:
            self._interrupted_at = now
        if again:
            return self.interrupted_again()
        if self.phase is Phase.STARTING:
            # Nothing was served; but files that should have been run have no answers.
            return [Log("info", STOPPED_EARLY), *self._stop(1 if self._run_enders() else 0)]
        if self.phase is not Phase.RUNNING:
            return []
        enders = self._run_enders()
        if not enders:
            return self._drain(now)
        self.phase = Phase.DRAINING
        # These children finish first, then the scheduler: either may take long.
        self._give_up_at = now + 2 * self.plan.drain_s
        return [Log("note", "finishing what is under way; once more to stop at once"), *map(Interrupt, enders)]

    def interrupted_again(self) -> list[Instruction]:
        """The second of such signals, here or at the root."""
        return self._kill_all(Log("warning", "stopping at once"))

    def abandoned(self) -> list[Instruction]:
        """The program that has started the run is gone, or wants it to end now: it stops at once, whatever it does."""
        if self._abandoned:
            return []
        self._abandoned = True
        why = "the program that has started this run is gone, or has let go of it"
        return self._kill_all(Log("info", f"{why}; stopping at once"))

    def replaced(self, successor: str, now: float) -> list[Instruction]:
        """A new version has taken over: clients are sent to the folder `successor`, and the run drains.

        Args:
            successor: see `Drain`.
            now: monotonic seconds.
        """
        if self.phase is not Phase.RUNNING:
            return []
        # Their requests would keep it from its end, and it need not be known any more whether it is ready.
        soon = [child for child in self.children.values() if child.role.restart is Restart.SOON]
        ends = [end_of(child) for child in soon if not child.role.listens]
        return [*ends, *self._drain(now, successor)]

    def drained(self, unfinished: Sequence[UnfinishedStatus], now: float) -> list[Instruction]:
        """The scheduler has no request inside any more. `unfinished`: those that it did not wait for."""
        instructions: list[Instruction] = []
        for request in unfinished:
            self.exit_code = self.exit_code or 1
            which = f"request {request.request} of {request.client}, which waited for {', '.join(request.stages)}"
            instructions.append(Log("warning", f"not finished within {self.plan.drain_s:g} s: {which}"))
        return [*instructions, *self._stop(self.exit_code, now)]

    def tick(self, now: float) -> list[Instruction]:
        """Time has passed."""
        instructions: list[Instruction] = []
        # Before children are started again: a child that is about to be stopped must not be started first.
        if self._give_up_at is not None and now >= self._give_up_at:
            self._give_up_at = None
            left = ", ".join(child.title for child in self.children.values())
            if self.phase is Phase.DRAINING:
                self.exit_code = self.exit_code or 1
                instructions.append(Log("warning", f"not drained after {self.plan.drain_s:g} s; stopping: {left}"))
                instructions += self._stop(self.exit_code, now)
            else:
                instructions.append(Log("warning", f"killed, since it did not stop: {left}"))
                instructions += map(Kill, self.children)
        if self.phase in (Phase.RUNNING, Phase.DRAINING):
            due = [child for when, child in self._respawns if when <= now]
            if self.phase is Phase.DRAINING:
                due = [child for child in due if child.role.restart is not Restart.SOON]
            self._respawns = [respawn for respawn in self._respawns if respawn[0] > now]
            for child in due:
                instructions.append(self._spawn(child))
                if child.address == SCHEDULER:
                    instructions += self._tell_again()
        return instructions

    @property
    def wake_at(self) -> float | None:
        """When `tick` has something to do: monotonic seconds."""
        return min([at for at in (self._give_up_at, *[at for at, _ in self._respawns]) if at is not None], default=None)

    @property
    def answers(self) -> bool:
        """Whether it has a scheduler that must answer a `Ping`. One that has just been started must too."""
        return SCHEDULER in self.children and self.phase not in (Phase.STOPPING, Phase.STOPPED)

    # -- steps ----------------------------------------------------------------------------------

    def _child(self, role: Role, place: Place, plan: Plan | None = None) -> Child:
        """A new child in a place; a worker process gets numbers that no worker of this run has had."""
        number = place.replica
        if place.posts:
            number = self._next_worker
            self._next_worker += len(place.posts)
        posts = tuple(post._replace(number=number + at) for at, post in enumerate(place.posts))
        return Child(Address(role.title, number), role, place.title, plan or self.plan, posts, place.replica)

    def _successor(self, child: Child) -> Child:
        """A new child in the place of one that is dead."""
        plan = child.plan if child.posts else self.plan
        return self._child(child.role, Place(child.title, child.posts, child.replica), plan)

    def _which(self, child: Child, stage: int) -> str:
        """" of detect", if a process has several stages."""
        return f" of {self.plan.stages[stage].name}" if len(child.posts) > 1 else ""

    def _spawn(self, child: Child) -> Spawn:
        child.epoch = self.epoch
        self.children[child.address] = child
        return Spawn(child)

    def gates(self, child: Child) -> bool:
        """Whether the run, which starts, waits for this child."""
        role = child.role
        return self.phase is Phase.STARTING and (role.gates_ready or (self._succeeds and role.gates_takeover))

    def _run_enders(self) -> list[Address]:
        return [child.address for child in self.children.values() if child.role.ends_run]

    def _client_ended(self, child: Child, exit: Exit, now: float) -> list[Instruction]:
        """A child has ended that the run ends with."""
        if self.phase is Phase.STOPPING:
            # The supervisor has killed it, and the reason for that has set the run's exit code.
            return []
        instructions: list[Instruction] = []
        if exit.code not in (0, 1, 2):
            instructions.append(Log("error", f"the {child.title} died: {exit.how}"))
        self.exit_code = max(self.exit_code, exit.code if exit.code in (0, 2) else 1)
        if self._run_enders():
            return instructions
        if self.phase is Phase.STARTING:
            return instructions + self._stop(self.exit_code)
        return instructions + self._drain(now)

    def _done(self, child: Child, exit: Exit, now: float) -> list[Instruction]:
        if self.phase not in (Phase.STARTING, Phase.RUNNING) or not self.plan.ends_with_cameras:
            return []
        self.exit_code = max(self.exit_code, DONE[exit.code])
        if any(left.role.ends for left in (*self.children.values(), *[child for _, child in self._respawns])):
            return []
        return self._stop(self.exit_code) if self.phase is Phase.STARTING else self._drain(now)

    def _drain(self, now: float, successor: str = "") -> list[Instruction]:
        self.phase = Phase.DRAINING
        # The scheduler gives up first, and tells every client; this is in case it does not.
        self._give_up_at = now + self.plan.drain_s + _STOP_GRACE_S
        if SCHEDULER in self.children:
            return [Tell(SCHEDULER, Drain(int((now + self.plan.drain_s) * 1e9), successor))]
        return []

    def _kill_all(self, log: Log) -> list[Instruction]:
        """End the run now, with what is under way in it."""
        self.exit_code = self.exit_code or 1
        self.phase = Phase.STOPPING
        self._respawns.clear()
        self._end_without_children()
        return [log, *map(Kill, self.children)]

    def _stop(self, exit_code: int, now: float | None = None) -> list[Instruction]:
        """Tell every child to stop; at a failed start kill them, since they may not listen yet."""
        if self.phase in (Phase.STOPPING, Phase.STOPPED):
            return []
        at_once = self.phase is Phase.STARTING or now is None
        self.phase = Phase.STOPPING
        self.exit_code = exit_code
        self._respawns.clear()
        self._give_up_at = None if now is None else now + _STOP_GRACE_S
        self._end_without_children()
        return [
            Kill(child.address) if at_once else Tell(child.address, Stop()) if child.role.listens else end_of(child)
            for child in self.children.values()
        ]

    def _end_without_children(self) -> None:
        if not self.children and self.phase is Phase.STOPPING:
            self.phase = Phase.STOPPED
            self._give_up_at = None

    # -- deaths ---------------------------------------------------------------------------------

    def _died(self, child: Child, exit: Exit, now: float) -> list[Instruction]:
        restart = child.role.restart
        if restart is Restart.EPOCH:
            return self._scheduler_died(child, exit, now)
        if child.retiring or child.newcomer:
            return self._left(child, exit)
        if restart is Restart.STAGE:
            return self._worker_died(child, exit, now)
        if restart is not Restart.SOON:
            return [Log("error", f"the {child.title} died: {exit.how}")]
        if self.phase is Phase.DRAINING:
            return []
        self._respawns.append((now + _FIRST_DELAY_S, self._successor(child)))
        return [Log("warning", f"the {child.title} died ({exit.how}); started again")]

    def _left(self, child: Child, exit: Exit) -> list[Instruction]:
        """A worker process that nothing is started in the place of has left as it was asked to, or has died before."""
        instructions: list[Instruction] = []
        if child.retiring:
            died = f"{child.title} died before it had retired ({exit.how})"
            instructions.append(Log("warning", died) if exit.code else Log("info", f"{child.title} has retired"))
        for post in reversed(child.posts):
            running = exit.running.get(post.stage, ())
            beside = len(exit.running) > bool(running)
            instructions.append(Tell(SCHEDULER, WorkerGone(post.number, exit.how, running, False, beside)))
        return instructions

    def _worker_died(self, child: Child, exit: Exit, now: float) -> list[Instruction]:
        how = exit.how
        if child.overran:
            how = f"killed, since it had been computing {child.overran}"
        if self._outdated(child):
            how = "while it was starting, the segments were replaced"
        # A SIGKILL that neither the supervisor nor the kernel's out-of-memory killer has sent comes from a person or
        # from another program, and says nothing about what was being computed.
        killed = exit.code == -SIGKILL and not child.overran and not exit.out_of_memory
        outside = killed or self._outdated(child)
        instructions: list[Instruction] = []
        # The last stage first: what it was computing is suspect there, though an earlier stage's notice may be lost.
        for post in reversed(child.posts):
            running = exit.running.get(post.stage, ())
            beside = len(exit.running) > bool(running)
            gone = WorkerGone(post.number, how, running, outside, beside, exit.rows.get(post.stage, -1))
            instructions.append(Tell(SCHEDULER, gone))
        first = child.posts[0].stage
        plan = self.plan.stages[first]
        deaths = self._deaths.add(first, exit, outside, now)
        if deaths > plan.max_restarts:
            reason = f"its workers died {deaths} times within {plan.restart_window_s:g} s; the last: {how}"
            # The exit code of one that could not start says nothing to the person who reads why the stage is broken.
            reason += f", since it could not start: {child.failure}" if child.failure else ""
            for post in child.posts:
                if post.stage not in self._broken:
                    self._broken.add(post.stage)
                    text = f"stage {self.plan.stages[post.stage].name} is broken: {reason}"
                    instructions += [Log("error", text), Tell(SCHEDULER, StageBroken(post.stage, reason))]
            return instructions
        delay = min(_FIRST_DELAY_S * 2 ** (deaths - 2), _LONGEST_DELAY_S) if deaths > 1 else 0.0
        self._respawns.append((now + delay, self._successor(child)))
        # Its last lines were passed on when it printed them.
        text = f"{child.title} died ({without_last_lines(how)}); started again" + (f" in {delay:g} s" if delay else "")
        return [*instructions, Log("warning", text)]

    def _outdated(self, child: Child) -> bool:
        """Whether a worker that was starting looked for segments that are gone, or are about to be."""
        return not child.ready and (self._damaged or child.epoch != self.epoch)

    def _scheduler_died(self, child: Child, exit: Exit, now: float) -> list[Instruction]:
        deaths = self._scheduler_deaths
        deaths.append(now)
        while deaths[0] < now - _SCHEDULER_WINDOW_S:
            deaths.popleft()
        if len(deaths) > _SCHEDULER_RESTARTS or self.phase is Phase.DRAINING:
            return [Log("error", f"the scheduler died: {exit.how}"), *self._stop(1)]
        self.epoch += 1
        self._damaged = False
        return [
            Log("error", f"the scheduler died ({exit.how}); started again with empty slots"),
            # New segments: a client of the old one may still write into a slot of the old ones.
            NewEpoch(self.epoch),
            self._spawn(self._successor(child)),
            *self._tell_again(),
        ]

    def _tell_again(self) -> list[Instruction]:
        """Tell a scheduler that begins anew which stages were given up, and which workers retire."""
        broken = [Tell(SCHEDULER, StageBroken(stage, "its workers died too often")) for stage in sorted(self._broken)]
        retiring = [post for child in self.children.values() if child.retiring for post in child.posts]
        return [*broken, *[Tell(SCHEDULER, Retire(post.number)) for post in retiring]]
