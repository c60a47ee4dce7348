"""Rolling: the workers of one stage are replaced in the run that serves, one after the other. Pure.

What is new is the stage's code, its options and its model, as the planner reads them from the config; specs, batches
and memory stay as they were planned. `pipeline.supervisor.supervision` starts and retires the processes, and goes by
what is decided here.

    PLANNING ──▶ STARTING ──────────▶ TRYING ────────▶ LEAVING ──▶ STARTING of the next worker, or over
     a planner    a new worker is      its canary is    the new one gets requests, the old one
     reads the    started beside       answered, if     finishes what it has, and leaves
     config       the old one          there is one
        │             │                   │
        │             └─ it fails ────────┴──▶ GIVING_UP ──▶ those that were replaced so far are replaced by workers of
        └─ refused: over                        it leaves     the old version, in the same way but without a canary

A worker is not part of the run before it is let in: if it dies, no other one is started in its place, and no request of
a client has reached it. From then on it is one like any other, and is started again with what is new. An old one that
dies before its turn is started again as it was; one that dies in its turn is not, and what it had runs again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from pipeline.errors import without_last_lines
from pipeline.graph.plan import Plan, Post, records_of
from pipeline.supervisor.instructions import Instruction, Kill, Log, Report, Tell
from pipeline.supervisor.roles import PLANNER, ROLES, TRIAL, Place, Restart
from pipeline.supervisor.supervision import Phase, Supervision
from pipeline.wire.address import SCHEDULER, Address
from pipeline.wire.messages import Milestone, Planned, Reload, StageChange, Trial
from pipeline.wire.reloads import TRIAL as TRIAL_CLIENT

__all__ = ["Rolling", "State"]

_GIVE_UP_S = 5.0
"""How long a worker that is given up may take to finish its canary, before it is killed."""

_WORKER = next(role for role in ROLES if role.restart is Restart.STAGE)

_STOPPING = "the pipeline is stopping"


class State(Enum):
    """Where the replacement is; see the drawing above."""

    PLANNING = "planning"
    STARTING = "starting"
    TRYING = "trying"
    LEAVING = "leaving"
    GIVING_UP = "giving up"


@dataclass(slots=True)
class _Roll:
    """One replacement."""

    asked: Reload
    stages: tuple[int, ...]
    """Of the process: that of the stage, and those that share it."""
    before: Plan
    after: Plan
    state: State
    give_up_at: float
    """Of this state: monotonic seconds."""
    to_do: list[int] = field(default_factory=list)
    """Replicas."""
    done: list[int] = field(default_factory=list)
    planner: Address | None = None
    new: Address | None = None
    old: Address | None = None
    trial: Address | None = None
    failure: str = ""
    """Why it is given up; empty: it is not, so far."""
    goes_back: bool = False
    """It is given up after workers were replaced: these are replaced by workers of the old version."""
    stuck: int = 0
    """How many stay of the new version, since going back has failed too."""

    @property
    def plan(self) -> Plan:
        """What the next worker is started with."""
        return self.before if self.failure else self.after

    @property
    def replaced(self) -> int:
        """How many workers are of the new version."""
        return self.stuck or len(self.to_do if self.goes_back else self.done)

    @property
    def outcome(self) -> str:
        """How it ends, if it ends now."""
        if not self.failure:
            return "succeeded"
        return "mixed" if self.replaced else "rolled_back" if self.goes_back else "failed"

    @property
    def version(self) -> str:
        """Which version that is, for people."""
        return "old" if self.failure else "new"


class Rolling:
    """The replacement of a stage's workers, if one is under way. Each event gives a list of instructions.

    Args:
        supervision: of the run. It hears of each event first.
    """

    def __init__(self, supervision: Supervision) -> None:
        self._supervision = supervision
        self._roll: _Roll | None = None
        self._planners = 0

    @property
    def wake_at(self) -> float | None:
        """When `tick` has something to do: monotonic seconds."""
        return None if self._roll is None else self._roll.give_up_at

    @property
    def state(self) -> State | None:
        """Where it is; None: no stage's workers are being replaced."""
        return None if self._roll is None else self._roll.state

    # -- what is asked for ------------------------------------------------------------------------

    def begin(self, asked: Reload, now: float) -> list[Instruction]:
        """A process asks for new workers of a stage. `now`: monotonic seconds."""
        supervision, plan = self._supervision, self._supervision.plan
        index = next((at for at, stage in enumerate(plan.stages) if stage.name == asked.stage), None)
        if index is None:
            names = ", ".join(stage.name for stage in plan.stages)
            return [_refused(f"there is no stage {asked.stage}: expected one of {names}")]
        if self._roll is not None:
            return [_refused("another reload is under way: wait for its end")]
        if supervision.phase is not Phase.RUNNING:
            return [_refused("the pipeline is not ready yet, or ends: see `pipeline status`")]
        (stages,) = [stages for stages in plan.processes if index in stages]
        broken = [plan.stages[stage].name for stage in stages if supervision.is_broken(stage)]
        if broken:
            return [_refused(f"stage {broken[0]} was given up: reload the whole pipeline: pipeline reload {plan.name}")]
        self._roll = roll = _Roll(asked, stages, plan, plan, State.PLANNING, now + asked.limit_s)
        begun = supervision.beside(
            PLANNER, Place("planner", (), self._planners), plan,
            config=asked.config, assignments=asked.assignments, stages=stages,
        )  # fmt: skip
        roll.planner = Address(PLANNER.title, self._planners)
        self._planners += 1
        replicas = len(plan.stages[index].workers)
        workers = "1 worker is replaced" if replicas == 1 else f"{replicas} workers are replaced, one after the other"
        names = " and ".join(plan.stages[stage].name for stage in stages)
        report = self._report(Milestone.BEGUN, f"{names}: {workers}, as {asked.config} has them now")
        return [Log("info", f"reload of {names}: {workers}"), report, *begun]

    def planned(self, planned: Planned, now: float) -> list[Instruction]:
        """The planner has read the config."""
        roll = self._roll
        if roll is None or roll.state is not State.PLANNING or roll.planner is None:
            return []
        if planned.refusal:
            return self._fail(planned.refusal, now)
        roll.after = _changed(roll.before, planned.changes)
        roll.to_do = list(range(len(roll.before.stages[roll.stages[0]].workers)))
        noted: list[Instruction] = []
        if planned.note:
            noted = [Log("warning", planned.note), self._report(Milestone.BEGUN, planned.note)]
        return [*noted, *self._next(now)]

    # -- what becomes of it -----------------------------------------------------------------------

    def ready(self, address: Address, now: float) -> list[Instruction]:
        """A child has said that it is ready."""
        roll = self._roll
        if roll is None:
            return []
        if address == roll.new and roll.state is State.STARTING:
            if not self._tries(roll):
                return self._let_in(roll, "", now)
            roll.state, roll.give_up_at = State.TRYING, now + roll.asked.limit_s
            roll.trial = Address(TRIAL.title, address.number)
            place = Place("trial", (), address.number)
            return self._supervision.beside(TRIAL, place, roll.before, gates=True, once=True, name=TRIAL_CLIENT)
        if address == roll.trial and roll.state is State.TRYING:
            return self._let_in(roll, ", the canary was answered", now)
        return []

    def failed(self, address: Address, error: str, now: float) -> list[Instruction]:
        """A child says that it could not start; its exit follows."""
        if self._roll is not None and address == self._roll.new and self._roll.state is State.STARTING:
            return self._fail(f"{self._title(self._roll)} could not start: {error}", now)
        return []

    def gone(self, address: Address, how: str, now: float) -> list[Instruction]:
        """A child is dead, or was never born. `how`: for people."""
        roll = self._roll
        if roll is None:
            return []
        starts = roll.state in (State.STARTING, State.TRYING)
        if address == roll.planner:
            roll.planner = None
            if roll.state is State.PLANNING:
                return self._fail(f"the process that reads the config ended: {how}", now)
        elif address == roll.trial:
            roll.trial = None
            if roll.state is State.TRYING:
                return self._fail(f"the canary failed at the new {self._title(roll)}: {how}", now)
        elif address == roll.new and roll.state is not State.LEAVING:
            roll.new = None
            if starts:
                return self._fail(f"{self._title(roll)} died before it was let in: {how}", now)
        elif address == SCHEDULER and starts:
            return self._fail(f"the scheduler died meanwhile: {without_last_lines(how)}", now)
        return self._settle(now)

    def tick(self, now: float) -> list[Instruction]:
        """Time has passed, or the run has another phase."""
        roll = self._roll
        if roll is None:
            return []
        if self._supervision.phase is not Phase.RUNNING:
            stopped, self._roll = self._report(Milestone.FAILED, _STOPPING, "failed"), None
            left = [child for child in (roll.planner, roll.trial, self._outsider(roll)) if child is not None]
            return [*map(Kill, left), stopped]
        if now < roll.give_up_at:
            return self._settle(now)
        roll.give_up_at = now + _GIVE_UP_S
        if roll.state is State.LEAVING:
            late = [] if roll.trial is None else [Kill(roll.trial)]
            if roll.old not in self._supervision.children:
                return [*late]
            text = f"{self._title(roll)} has not finished within {roll.before.drain_s:g} s, and is replaced"
            return [*late, Log("warning", f"{text}: it is killed, and what it has runs again"), Kill(roll.old)]
        if roll.state is State.GIVING_UP:
            return [Kill(child) for child in (roll.planner, roll.new, roll.trial) if child is not None]
        reads = roll.state is State.PLANNING
        what = "the config was not read" if reads else f"the new {self._title(roll)} was not ready"
        return self._fail(f"{what} within {roll.asked.limit_s:g} s", now)

    # -- steps ------------------------------------------------------------------------------------

    def _next(self, now: float) -> list[Instruction]:
        """Start the next worker, or end."""
        roll = self._roll
        assert roll is not None
        if not roll.to_do:
            return self._over(roll)
        replica = roll.to_do[0]
        plan, first = roll.plan, roll.stages[0]
        in_use = self._supervision.records
        free = [record for record in range(records_of(plan)) if record not in in_use]
        posts = tuple(Post(at, *of_post) for at, of_post in enumerate(zip(roll.stages, free)))
        title = plan.stages[first].workers[replica].title
        roll.state, roll.give_up_at = State.STARTING, now + roll.asked.limit_s
        started = self._supervision.beside(_WORKER, Place(title, posts, replica), plan)
        (roll.new,) = [child.address for child in self._supervision.children.values() if child.newcomer and child.posts]
        number = roll.new.number
        told: list[Instruction] = []
        if self._tries(roll):
            told = [Tell(SCHEDULER, Trial(number + at, post.stage, False)) for at, post in enumerate(posts)]
        return [*told, *started, self._report(Milestone.STARTED, f"{title} starts beside the old one")]

    def _let_in(self, roll: _Roll, how: str, now: float) -> list[Instruction]:
        assert roll.new is not None
        title = self._title(roll)
        roll.state, roll.give_up_at = State.LEAVING, now + roll.before.drain_s
        roll.old = next(iter(self._supervision.beside_in_place(roll.new)), None)
        return [
            Log("info", f"{title} of the {roll.version} version is ready{how}: it takes the place of the other one"),
            self._report(Milestone.READY, f"{title} is ready{how}"),
            *self._supervision.let_in(roll.new),
            *self._settle(now),
        ]

    def _settle(self, now: float) -> list[Instruction]:
        """Go on, if all that was waited for is gone."""
        roll = self._roll
        assert roll is not None
        if roll.state is State.LEAVING and roll.trial is None and roll.old not in self._supervision.children:
            title = self._title(roll)
            roll.done.append(roll.to_do.pop(0))
            roll.new = roll.old = None
            return [self._report(Milestone.TOOK_OVER, f"{title} is of the {roll.version} version"), *self._next(now)]
        if roll.state is State.GIVING_UP and roll.planner is roll.new is roll.trial is None:
            roll.to_do, roll.done = roll.done[::-1], []
            roll.goes_back = roll.goes_back or bool(roll.to_do)
            return self._next(now)
        return []

    def _fail(self, why: str, now: float) -> list[Instruction]:
        roll = self._roll
        assert roll is not None
        given_up = f"the reload of {roll.asked.stage} is given up: {why}"
        if roll.failure:
            # Going back has failed as well. What runs goes on, and a person must look.
            left = "some workers are of the new version: mend it, and reload again"
            given_up = f"going back to the old version of {roll.asked.stage} has failed too: {why}; {left}"
            roll.failure += f"; going back has failed too: {why}; {left}"
            roll.stuck, roll.done = len(roll.to_do), []
        else:
            roll.failure = why
        roll.state, roll.give_up_at = State.GIVING_UP, now + _GIVE_UP_S
        instructions: list[Instruction] = [Log("error", given_up)]
        if roll.done:
            back = f"{given_up}; workers of the old version take their places again"
            instructions.append(self._report(Milestone.GOES_BACK, back))
        instructions += [Kill(child) for child in (roll.planner, roll.trial) if child is not None]
        newcomer = None if roll.new is None else self._supervision.children.get(roll.new)
        if newcomer is not None:
            leaves = self._supervision.retire(newcomer.address) if newcomer.ready else []
            instructions += leaves or [Kill(newcomer.address)]
        return [*instructions, *self._settle(now)]

    def _over(self, roll: _Roll) -> list[Instruction]:
        if roll.failure:
            failed = self._report(Milestone.FAILED, roll.failure, roll.outcome)
            self._roll = None
            if roll.outcome != "rolled_back":
                return [failed]
            back = f"every worker of {roll.asked.stage} is of the old version again"
            return [Log("info", back), failed]
        self._supervision.plan = roll.after
        done = f"every worker of {roll.asked.stage} is of the new version"
        over = self._report(Milestone.DRAINED, done, roll.outcome)
        self._roll = None
        return [Log("info", done), over]

    # -- what is known ----------------------------------------------------------------------------

    def _tries(self, roll: _Roll) -> bool:
        """Whether a new worker is tried. Not on the way back: what it does then is known."""
        return roll.before.canary is not None and not roll.failure

    def _report(self, step: str, text: str, outcome: str = "") -> Report:
        """How far it is."""
        roll = self._roll
        assert roll is not None
        return Report(step, text, roll.replaced, len(roll.before.stages[roll.stages[0]].workers), outcome)

    def _title(self, roll: _Roll) -> str:
        return roll.before.stages[roll.stages[0]].workers[roll.to_do[0]].title

    def _outsider(self, roll: _Roll) -> Address | None:
        """The new worker, if it was not let in."""
        child = None if roll.new is None else self._supervision.children.get(roll.new)
        return child.address if child is not None and child.newcomer else None


def _changed(plan: Plan, changes: tuple[StageChange, ...]) -> Plan:
    """The plan with what is new about some stages."""
    stages = list(plan.stages)
    for change in changes:
        options: Mapping[str, object] = json.loads(change.options)
        stages[change.stage] = replace(stages[change.stage], use=change.use, options=options)
    return replace(plan, stages=tuple(stages))


def _refused(why: str) -> Instruction:
    return Report(Milestone.FAILED, why, outcome="failed")
