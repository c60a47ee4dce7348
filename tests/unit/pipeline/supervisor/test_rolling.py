"""The workers of one stage are replaced, one after the other; or all is as it was before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.graph.plan import CanaryPlan, Plan, records_of
from pipeline.supervisor.instructions import Child, Instruction, Kill, Log, Report, Spawn, Tell
from pipeline.supervisor.phase import Phase
from pipeline.supervisor.rolling import Rolling, State
from pipeline.wire.address import SCHEDULER, Address
from pipeline.wire.messages import Milestone, Planned, Reload, Retire, StageChange, Trial
from tests.unit.pipeline.supervisor.test_supervision import CHAIN, CLEAN, KILLED, PLAN, SEGV, running, said

WITH_CANARY = replace(PLAN, canary=CanaryPlan("x.jpg"))
LIMIT_S = 60.0


class Example:
    """A run whose processes do what they are told; its stages are a (2 workers) and b."""

    def __init__(self, plan: Plan = PLAN) -> None:
        self.supervision = running(plan)
        self.rolling = Rolling(self.supervision)
        self.now = 100.0
        #: All that was decided, in its order.
        self.all: list[Instruction] = []

    def note(self, instructions: Iterable[Instruction]) -> list[Instruction]:
        found = list(instructions)
        self.all += found
        return found

    def begin(self, stage: str = "a") -> list[Instruction]:
        return self.note(self.rolling.begin(Reload(7, "/demo.yaml", ("x=1",), LIMIT_S, stage), self.now))

    def planned(self, *changes: StageChange, **more: Any) -> list[Instruction]:
        return self.note(self.rolling.planned(Planned(changes or (StageChange(0, "new:A", '{"x": 1}'),), **more), self.now))

    def begun(self) -> Child:
        """Begin, and plan; the first new worker process."""
        self.begin()
        self.planned()
        self.exits("planner")
        return self.newcomer()

    def newcomer(self) -> Child:
        (child,) = [child for child in self.supervision.children.values() if child.newcomer and child.posts]
        return child

    def child(self, kind: str) -> Child:
        (child,) = [child for child in self.supervision.children.values() if child.address.kind == kind]
        return child

    def ready(self, address: Address) -> list[Instruction]:
        return self.note([*self.supervision.ready(address), *self.rolling.ready(address, self.now)])

    def exits(self, which: str | Address, exit: Any = CLEAN) -> list[Instruction]:
        address = self.child(which).address if isinstance(which, str) else which
        gone = self.supervision.exited(address, exit, self.now)
        return self.note([*gone, *self.rolling.gone(address, exit.how, self.now)])

    def retiring(self) -> list[Address]:
        return [child.address for child in self.supervision.children.values() if child.retiring]

    def tick(self, after: float) -> list[Instruction]:
        self.now += after
        return self.note([*self.supervision.tick(self.now), *self.rolling.tick(self.now)])

    def uses(self) -> list[str]:
        """What the workers of a run, by replica."""
        living = [child for child in self.supervision.children.values() if child.posts and child.posts[0].stage == 0]
        return [child.plan.stages[0].use for child in sorted(living, key=lambda child: child.replica)]

    @property
    def last(self) -> tuple[str, str]:
        report = said(self.all, Report)[-1]
        return report.step, report.text


# -- how it goes well ---------------------------------------------------------------------------------


def test_each_worker_is_replaced_once_the_new_one_is_ready_and_the_next_one_once_the_old_one_has_left() -> None:
    run = Example()
    new = run.begun()
    assert (new.title, new.replica, new.posts[0].number, new.plan.stages[0].use) == ("a/0", 0, 3, "new:A")
    assert new.plan.stages[0].options == {"x": 1}
    assert run.retiring() == []
    let_in = run.ready(new.address)
    assert [tell.message for tell in said(let_in, Tell)] == [Trial(3, 0, True), Retire(0)]
    assert run.retiring() == [Address.worker(0)]
    assert said(run.exits(Address.worker(0)), Spawn)
    second = run.newcomer()
    assert (second.title, second.replica) == ("a/1", 1)
    run.ready(second.address)
    run.exits(Address.worker(1))
    assert run.uses() == ["new:A", "new:A"]
    assert run.last == (Milestone.DRAINED, "every worker of a is of the new version")
    assert [report.step for report in said(run.all, Report)] == [
        "begun", "started", "ready", "took over", "started", "ready", "took over", "drained",
    ]  # fmt: skip
    assert [report.replaced for report in said(run.all, Report)] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert {report.workers for report in said(run.all, Report)} == {2}
    assert said(run.all, Report)[-1].outcome == "succeeded"
    assert run.supervision.plan.stages[0].use == "new:A"
    assert run.rolling.state is None


def test_no_two_workers_that_live_share_a_flight_record_however_often_they_are_replaced() -> None:
    run = Example(CHAIN)
    for _ in range(3):
        run.begin("c")
        run.planned(StageChange(0, "new:A", "{}"), StageChange(2, "new:C", "{}"))
        run.exits("planner")
        for replica in range(2):
            new = run.newcomer()
            assert [post.stage for post in new.posts] == [0, 2]
            records = [post.record for child in run.supervision.children.values() for post in child.posts]
            assert len(records) == len(set(records))
            assert max(records) < records_of(CHAIN)
            (old,) = [c for c in run.supervision.children.values() if c.replica == replica and c.posts and c.shares_place(new) and c is not new]
            run.ready(new.address)
            run.exits(old.address)
        assert run.last[0] == Milestone.DRAINED


def test_what_was_let_in_is_started_again_with_what_is_new_and_others_as_they_were() -> None:
    run = Example()
    new = run.begun()
    run.ready(new.address)
    run.exits(Address.worker(0))
    run.exits(new.address, SEGV)
    run.exits(Address.worker(1), KILLED)
    # The third: the new worker that is to take the place of a/1.
    assert sorted(child.plan.stages[0].use for child in [s.child for s in said(run.tick(0.0), Spawn)]) == ["m:C", "new:A"]
    run.ready(run.newcomer().address)
    # The old one was starting: it has nothing to finish.
    assert len(said(run.all, Kill)) == 1


def test_deaths_of_the_code_that_was_replaced_do_not_count_against_the_new_one() -> None:
    run = Example()
    useless = replace(SEGV, running={})
    for new in (False, True):
        if new:
            run.ready(run.begun().address)
        # One more would be one too many: a stage is given up at the third within its window.
        for _ in range(PLAN.stages[0].max_restarts):
            (worker,) = [c for c in run.supervision.children.values() if c.title == "a/1" and not c.newcomer]
            run.exits(worker.address, useless)
            run.tick(5.0)
    assert not run.supervision.is_broken(0)


def test_an_old_worker_that_dies_in_its_turn_is_not_started_again() -> None:
    run = Example()
    new = run.begun()
    run.exits(Address.worker(0), SEGV)
    # Its successor is due, and is not started: the new one takes the place first.
    run.ready(new.address)
    run.tick(0.0)
    assert run.newcomer().title == "a/1"
    assert [child.address for child in run.supervision.children.values() if child.title == "a/0"] == [new.address]


def test_with_a_canary_the_scheduler_is_told_of_the_trial_before_the_worker_is_started_and_it_is_let_in_once_answered() -> None:
    run = Example(WITH_CANARY)
    run.begin()
    started = run.planned()
    assert [type(each) for each in started] == [Tell, Spawn, Report]
    assert started[0] == Tell(SCHEDULER, Trial(3, 0, False))
    new = run.newcomer()
    (canary,) = said(run.ready(new.address), Spawn)
    assert canary.child.extra == {"gates": True, "once": True, "name": "trial canary"}
    assert run.retiring() == []
    assert said(run.ready(canary.child.address), Tell) == [Tell(SCHEDULER, Trial(3, 0, True)), Tell(SCHEDULER, Retire(0))]
    # Both must be gone.
    assert said(run.exits(Address.worker(0)), Spawn) == []
    assert said(run.exits(canary.child.address), Spawn)


# -- how it fails -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stage", "why"), [("c", "there is no stage c: expected one of a, b"), ("a", "under way")])
def test_what_cannot_begin_is_refused_and_changes_nothing(stage: str, why: str) -> None:
    run = Example()
    run.begin()
    (refused,) = run.begin(stage)
    assert isinstance(refused, Report)
    assert refused.step == Milestone.FAILED
    assert why in refused.text
    assert run.rolling.state is State.PLANNING


def test_a_stage_that_was_given_up_and_a_run_that_ends_are_refused() -> None:
    run = Example()
    for at in range(3):
        for child in [c for c in run.supervision.children.values() if c.title == "a/0"]:
            run.supervision.exited(child.address, replace(SEGV, running={}), 100.0 + at / 10)
        run.supervision.tick(200.0)
    run.begin()
    assert run.last == (Milestone.FAILED, "stage a was given up: reload the whole pipeline: pipeline reload demo")
    run.supervision.interrupted(300.0)
    run.begin("b")
    assert "or ends" in run.last[1]


def test_what_the_planner_refuses_and_its_own_death_end_it() -> None:
    for refused in (True, False):
        run = Example()
        run.begin()
        if refused:
            run.planned(refusal="stage a: batch changed")
        run.exits("planner", SEGV)
        assert run.last[0] == Milestone.FAILED
        assert ("batch changed" if refused else "the process that reads the config ended: killed") in run.last[1]
        assert run.uses() == ["m:C", "m:C"]
        assert run.rolling.state is None


def test_a_worker_that_says_why_it_cannot_start_is_given_up_and_no_other_one_is_started() -> None:
    run = Example()
    new = run.begun()
    run.note(run.rolling.failed(new.address, "ValueError: no weights", run.now))
    run.exits(new.address, SEGV)
    assert run.last == (Milestone.FAILED, "a/0 could not start: ValueError: no weights")
    assert (said(run.all, Report)[-1].outcome, said(run.all, Report)[-1].replaced) == ("failed", 0)
    assert said(run.tick(1000.0), Spawn) == []
    assert run.uses() == ["m:C", "m:C"]


def test_a_worker_whose_canary_fails_finishes_and_leaves() -> None:
    run = Example(WITH_CANARY)
    new = run.begun()
    run.ready(new.address)
    failed = run.exits("trial", SEGV)
    assert said(failed, Tell) == [Tell(SCHEDULER, Retire(3))]
    assert run.rolling.state is State.GIVING_UP
    assert said(run.tick(5.0), Kill) == [Kill(new.address)]
    run.exits(new.address, KILLED)
    assert run.last[0] == Milestone.FAILED
    assert "the canary failed at the new a/0" in run.last[1]


def test_a_worker_that_dies_with_the_canary_is_given_up_and_so_is_the_canary() -> None:
    run = Example(WITH_CANARY)
    new = run.begun()
    run.ready(new.address)
    canary = run.child("trial").address
    assert Kill(canary) in run.exits(new.address, SEGV)
    assert run.rolling.state is State.GIVING_UP
    run.exits(canary, KILLED)
    assert "a/0 died before it was let in: killed by signal 11" in run.last[1]


def test_what_takes_too_long_is_given_up() -> None:
    run = Example()
    run.begin()
    assert said(run.tick(LIMIT_S), Kill) == [Kill(run.child("planner").address)]
    run.exits("planner", KILLED)
    assert run.last == (Milestone.FAILED, "the config was not read within 60 s")
    new = run.begun()
    assert said(run.tick(LIMIT_S), Kill) == [Kill(new.address)]
    run.exits(new.address, KILLED)
    assert run.last == (Milestone.FAILED, "the new a/0 was not ready within 60 s")


def test_an_old_worker_that_does_not_leave_is_killed_after_drain_s() -> None:
    run = Example()
    run.ready(run.begun().address)
    assert said(run.tick(2.9), Kill) == []
    assert said(run.tick(0.2), Kill) == [Kill(Address.worker(0))]


def test_if_a_later_worker_fails_those_before_it_go_back_without_a_canary() -> None:
    run = Example(WITH_CANARY)
    new = run.begun()
    run.ready(new.address)
    run.ready(run.child("trial").address)
    run.exits("trial")
    run.exits(Address.worker(0))
    second = run.newcomer()
    run.exits(second.address, SEGV)
    back = run.newcomer()
    assert (back.title, back.plan.stages[0].use) == ("a/0", "m:C")
    run.ready(back.address)
    run.exits(new.address)
    assert run.uses() == ["m:C", "m:C"]
    assert run.last[0] == Milestone.FAILED
    assert "a/1 died before it was let in" in run.last[1]
    told = [(report.step, report.replaced) for report in said(run.all, Report)][-5:]
    assert told == [("goes back", 1), ("started", 1), ("ready", 1), ("took over", 0), ("failed", 0)]
    assert said(run.all, Report)[-1].outcome == "rolled_back"
    assert "every worker of a is of the old version again" in [log.text for log in said(run.all, Log)]
    assert run.supervision.plan.stages[0].use == "m:C"


def test_if_going_back_fails_too_what_runs_goes_on_and_the_message_says_so() -> None:
    run = Example()
    new = run.begun()
    run.ready(new.address)
    run.exits(Address.worker(0))
    run.exits(run.newcomer().address, SEGV)
    run.exits(run.newcomer().address, SEGV)
    assert run.uses() == ["new:A", "m:C"]
    assert "going back has failed too" in run.last[1]
    assert "some workers are of the new version" in run.last[1]
    assert (said(run.all, Report)[-1].outcome, said(run.all, Report)[-1].replaced) == ("mixed", 1)
    assert run.rolling.state is None


def test_the_death_of_the_scheduler_ends_it_before_the_worker_is_let_in_and_not_afterwards() -> None:
    run = Example()
    new = run.begun()
    run.exits(SCHEDULER, SEGV)
    run.exits(new.address, KILLED)
    assert "the scheduler died meanwhile" in run.last[1]
    new = run.begun()
    run.ready(new.address)
    run.exits(run.child("scheduler").address, SEGV)
    assert run.rolling.state is State.LEAVING


def test_a_run_that_ends_meanwhile_kills_what_was_not_let_in() -> None:
    run = Example()
    new = run.begun()
    run.supervision.interrupted(run.now)
    assert run.supervision.phase is Phase.DRAINING
    ended = run.tick(0.0)
    assert Kill(new.address) in ended
    assert run.last == (Milestone.FAILED, "the pipeline is stopping")
    run.exits(new.address, KILLED)
    assert said(run.tick(1.0), Spawn) == []
