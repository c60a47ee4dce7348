from __future__ import annotations

from collections.abc import Iterable
from signal import SIGKILL, SIGSEGV
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from pipeline.graph.plan import BatchPlan, CanaryPlan, Plan, Post, StagePlan, WorkerPlan
from pipeline.supervisor import supervision as module
from pipeline.supervisor.instructions import Instruction, Interrupt, Kill, Log, NewEpoch, Spawn, Tell
from pipeline.supervisor.supervision import Exit, Phase, Supervision
from pipeline.wire.address import SCHEDULER, Address
from pipeline.wire.messages import Drain, StageBroken, Stop, WorkerGone
from pipeline.wire.status import UnfinishedStatus

FEEDER, CANARY = Address("feeder"), Address("canary")
W = [Address.worker(number) for number in range(100)]

SEGV = Exit("killed by signal 11 (SIGSEGV)", -SIGSEGV, {0: (7,)})
KILLED = Exit("killed by signal 9 (SIGKILL)", -SIGKILL, {0: (7,)})
CLEAN = Exit("exit code 0", 0)
NOTHING_LEFT = ()


def stage(name: str, replicas: int, host: str = "", process: str = "", **more: Any) -> StagePlan:
    workers = tuple(WorkerPlan(process or name, replica) for replica in range(replicas))
    return StagePlan(name, "m:C", {}, (), (), (), (), (), BatchPlan(), 4, workers, host=host or name, **more)


PLAN = Plan(
    "demo", "demo.yaml", ".", (), (stage("a", 2, max_restarts=2, restart_window_s=10.0), stage("b", 1)), (), (),
    drain_s=3.0,
)  # fmt: skip

CHAIN = replace(
    PLAN,
    stages=(
        stage("a", 2, process="a+c", max_restarts=2, restart_window_s=10.0),
        stage("b", 1),
        stage("c", 2, host="a", process="a+c", max_restarts=2, restart_window_s=10.0),
    ),
)
"""c runs in the workers of a: processes of two workers each, 0 and 1, 2 and 3; b has the number 4."""


def said(instructions: Iterable[Instruction], kind: type[Any]) -> list[Any]:
    return [instruction for instruction in instructions if isinstance(instruction, kind)]


def told(instructions: Iterable[Instruction]) -> list[tuple[Address, type[Any]]]:
    return [(tell.receiver, type(tell.message)) for tell in said(instructions, Tell)]


def running(plan: Plan = PLAN, *, feeder: bool = False) -> Supervision:
    supervision = Supervision(plan, feeder=feeder)
    supervision.start()
    for child in list(supervision.children):
        supervision.ready(child)
    assert supervision.phase is Phase.RUNNING
    return supervision


def end(supervision: Supervision, now: float = 100.0) -> None:
    """Every child that is left exits."""
    for child in list(supervision.children):
        supervision.exited(child, CLEAN, now)
    assert supervision.phase is Phase.STOPPED


# -- the start --------------------------------------------------------------------------------------


def test_all_children_are_started_at_once_and_each_worker_has_its_own_record() -> None:
    spawned = [spawn.child for spawn in said(Supervision(PLAN, feeder=True).start(), Spawn)]
    assert [child.title for child in spawned] == ["scheduler", "a/0", "a/1", "b/0", "feeder"]
    assert [post for child in spawned for post in child.posts] == [Post(0, 0, 0), Post(1, 0, 1), Post(2, 1, 2)]


def test_a_canary_sings_where_no_feeder_runs() -> None:
    plan = replace(PLAN, canary=CanaryPlan("x.jpg"))
    assert [s.child.address for s in said(Supervision(plan, feeder=False).start(), Spawn)][-1] == CANARY
    assert [s.child.address for s in said(Supervision(plan, feeder=True).start(), Spawn)][-1] == FEEDER


def test_it_runs_once_all_but_the_feeder_are_ready() -> None:
    supervision = Supervision(PLAN, feeder=True)
    supervision.start()
    for child in (SCHEDULER, W[0], W[1]):
        assert supervision.ready(child) == []
    assert supervision.ready(W[99]) == []
    assert supervision.ready(W[2]) == [Log("info", "ready")]
    assert supervision.phase is Phase.RUNNING


def test_a_child_that_cannot_start_ends_the_run_with_its_traceback() -> None:
    supervision = Supervision(PLAN, feeder=True)
    supervision.start()
    stopped = supervision.failed(W[1], "ModelError: no file", "Traceback ...\nModelError: no file\n")
    assert sorted(kill.child for kill in said(stopped, Kill)) == [FEEDER, SCHEDULER, W[0], W[1], W[2]]
    assert supervision.failure == "a/1 could not start: ModelError: no file\n\nTraceback ...\nModelError: no file"
    supervision.failed(W[2], "another", "")
    for child in list(supervision.children):
        supervision.exited(child, KILLED, 1.0)
    assert (supervision.phase, supervision.exit_code) == (Phase.STOPPED, 3)
    assert "no file" in supervision.failure


def test_a_child_that_dies_at_the_start_ends_the_run_and_is_not_killed_again() -> None:
    supervision = Supervision(PLAN, feeder=False)
    supervision.start()
    stopped = supervision.exited(W[0], SEGV, 0.0)
    assert sorted(kill.child for kill in said(stopped, Kill)) == [SCHEDULER, W[1], W[2]]
    assert supervision.failure == "a/0 died while it was starting: killed by signal 11 (SIGSEGV)"
    # Its last words may come behind the news of its death; those of others do not change why.
    for child in (W[0], W[1]):
        assert supervision.failed(child, f"no file of {child}", "...") == []
    assert supervision.failure == f"a/0 could not start: no file of {W[0]}\n\n..."
    end(supervision)
    assert supervision.exit_code == 3


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (2, 2), (-SIGSEGV, 1)])
def test_a_feeder_that_ends_before_the_start_ends_the_run_with_its_code(code: int, expected: int) -> None:
    supervision = Supervision(PLAN, feeder=True)
    supervision.start()
    stopped = supervision.exited(FEEDER, Exit("ended", code), 0.0)
    assert sorted(kill.child for kill in said(stopped, Kill)) == [SCHEDULER, W[0], W[1], W[2]]
    end(supervision)
    assert supervision.exit_code == expected


# -- workers that die -------------------------------------------------------------------------------


def test_the_scheduler_hears_of_a_death_before_the_worker_is_started_again_under_another_number() -> None:
    supervision = running()
    told_first = supervision.exited(W[0], SEGV, 5.0)
    assert said(told_first, Tell) == [Tell(SCHEDULER, WorkerGone(0, SEGV.how, (7,), False, False))]
    assert said(told_first, Spawn) == []
    assert supervision.wake_at == 5.0
    (spawn,) = said(supervision.tick(5.0), Spawn)
    assert (spawn.child.address, spawn.child.title, spawn.child.posts) == (W[3], "a/0", (Post(3, 0, 0),))
    assert supervision.wake_at is None
    assert supervision.exited(W[0], SEGV, 6.0) == []


@pytest.mark.parametrize(
    ("exit", "overran", "outside"),
    [
        (SEGV, False, False),
        (Exit("exit code 0", 0), False, False),
        (KILLED, False, True),
        (KILLED, True, False),
        (replace(KILLED, out_of_memory=True), False, False),
    ],
    ids=["crash", "exit", "killed", "too slow", "out of memory"],
)
def test_only_a_kill_that_did_not_come_from_the_run_is_from_outside(exit: Exit, overran: bool, outside: bool) -> None:
    supervision = running()
    if overran:
        assert said(supervision.overran(W[0], 0, 1500.0), Kill) == [Kill(W[0])]
        assert supervision.overran(W[0], 0, 1600.0) == []
    (tell,) = said(supervision.exited(W[0], exit, 1.0), Tell)
    assert tell.message.outside is outside
    assert ("for 1500 ms" in tell.message.how) is overran


def test_what_overran_and_is_gone_is_not_killed() -> None:
    supervision = running()
    supervision.exited(W[0], SEGV, 1.0)
    assert supervision.overran(W[0], 0, 100.0) == []


def die(supervision: Supervision, now: float, exit: Exit) -> list[Instruction]:
    """The latest worker of stage a dies, after it was started."""
    supervision.tick(now)
    latest = max(at for at, child in supervision.children.items() if child.posts and child.posts[0].stage == 0)
    return supervision.exited(latest, exit, now)


def test_restarts_come_later_and_later_and_then_the_stage_is_broken() -> None:
    supervision = running()
    nothing = Exit("exit code 1", 1)
    die(supervision, 1.0, nothing)
    assert supervision.wake_at == 1.0
    die(supervision, 2.0, nothing)
    assert supervision.wake_at == pytest.approx(2.1)
    last = die(supervision, 3.0, nothing)
    assert told(last) == [(SCHEDULER, WorkerGone), (SCHEDULER, StageBroken)]
    (broken,) = [tell.message for tell in said(last, Tell) if isinstance(tell.message, StageBroken)]
    assert broken.stage == 0
    assert "died 3 times within 10 s; the last: exit code 1" in broken.reason
    assert supervision.wake_at is None


def test_a_stage_that_is_given_up_says_why_its_last_worker_could_not_start() -> None:
    supervision = running()
    for now in (1.0, 2.0):
        die(supervision, now, Exit("exit code 1", 1))
    supervision.tick(3.0)
    worker = max(at for at, child in supervision.children.items() if child.posts and child.posts[0].stage == 0)
    supervision.failed(worker, "FileNotFoundError: w.onnx", "Traceback ...")
    last = supervision.exited(worker, Exit("exit code 1", 1), 3.0)
    (broken,) = [tell.message for tell in said(last, Tell) if isinstance(tell.message, StageBroken)]
    assert broken.reason.endswith("the last: exit code 1, since it could not start: FileNotFoundError: w.onnx")


def test_a_stage_is_given_up_once_though_its_other_worker_dies_too() -> None:
    supervision = running()
    for now in (1.0, 2.0, 3.0):
        die(supervision, now, Exit("exit code 1", 1))
    last = supervision.exited(Address.worker(0), Exit("exit code 1", 1), 4.0)
    assert told(last) == [(SCHEDULER, WorkerGone)]
    assert said(last, Log) == []


def test_old_deaths_are_forgotten() -> None:
    supervision = running()
    for death in range(10):
        instructions = die(supervision, 20.0 * death, Exit("exit code 1", 1))
        assert told(instructions) == [(SCHEDULER, WorkerGone)]


def test_deaths_from_outside_never_break_a_stage() -> None:
    supervision = running()
    for death in range(10):
        assert told(die(supervision, float(death), KILLED)) == [(SCHEDULER, WorkerGone)]


def test_a_worker_that_cannot_start_again_is_told_and_its_exit_counts() -> None:
    supervision = running()
    assert supervision.failed(W[0], "ModelError: gone", "...") == [Log("error", "a/0 could not start again: ModelError: gone")]
    assert told(supervision.exited(W[0], Exit("exit code 1", 1), 1.0)) == [(SCHEDULER, WorkerGone)]


def test_a_worker_that_was_starting_when_the_segments_were_replaced_is_started_again_for_nothing() -> None:
    supervision = running()
    supervision.exited(W[1], KILLED, 1.0)
    supervision.tick(2.0)
    (starting,) = (number for number, child in supervision.children.items() if not child.ready)
    supervision.exited(SCHEDULER, SEGV, 2.0)
    for epoch in range(1, 4):
        # It looks for segments that are gone: neither an error, nor a reason to give a stage up after two deaths.
        assert supervision.failed(starting, "SegmentNotFound: gone", "...") == []
        assert told(supervision.exited(starting, Exit("exit code 1", 1), 2.0 + epoch)) == [(SCHEDULER, WorkerGone)]
        (spawn,) = said(supervision.tick(3.0 + epoch), Spawn)
        starting = spawn.child.address
        if epoch < 3:
            supervision.exited(SCHEDULER, SEGV, 3.0 + epoch)
    # It has been told of the new ones: now it would be an error.
    assert said(supervision.failed(starting, "ModelError: gone", "..."), Log)


def test_damaged_segments_are_replaced_once_and_cost_no_stage_anything() -> None:
    supervision = running()
    supervision.exited(W[0], KILLED, 1.0)
    (spawn,) = said(supervision.tick(2.0), Spawn)
    damaged = supervision.damaged("truncated")
    assert said(damaged, Kill) == [Kill(SCHEDULER)]
    assert "truncated" in said(damaged, Log)[0].text
    # The scheduler is not dead yet: a worker that starts meanwhile cannot attach them, and is not to blame.
    assert supervision.damaged("truncated") == []
    for death in range(5):
        assert supervision.failed(spawn.child.address, "SegmentCorrupt: truncated", "...") == []
        assert told(supervision.exited(spawn.child.address, Exit("exit code 1", 1), 2.0 + death)) == [(SCHEDULER, WorkerGone)]
        (spawn,) = said(supervision.tick(3.0 + death), Spawn)
    assert said(supervision.exited(SCHEDULER, KILLED, 9.0), NewEpoch) == [NewEpoch(1)]
    assert said(supervision.damaged("again"), Kill) == [Kill(SCHEDULER)]


def test_damage_changes_nothing_while_it_drains() -> None:
    supervision = running()
    supervision.interrupted(1.0)
    assert supervision.damaged("removed") == []


def test_a_dead_scheduler_is_started_with_new_segments_a_few_times() -> None:
    supervision = running()
    for epoch in range(1, 6):
        instructions = supervision.exited(SCHEDULER, SEGV, float(epoch))
        assert said(instructions, NewEpoch) == [NewEpoch(epoch)]
        assert [spawn.child.address for spawn in said(instructions, Spawn)] == [SCHEDULER]
        assert instructions.index(NewEpoch(epoch)) < [type(i) for i in instructions].index(Spawn)
    last = supervision.exited(SCHEDULER, SEGV, 6.0)
    assert sorted(kill.child for kill in said(last, Kill)) == [W[0], W[1], W[2]]
    end(supervision)
    assert supervision.exit_code == 1


def test_the_next_scheduler_is_started_before_it_is_told_of_broken_stages() -> None:
    supervision = running()
    for now in (1.0, 2.0, 3.0):
        die(supervision, now, Exit("exit code 1", 1))
    instructions = supervision.exited(SCHEDULER, SEGV, 4.0)
    assert [type(instruction) for instruction in instructions] == [Log, NewEpoch, Spawn, Tell]


def test_a_transition_is_complete_before_any_of_its_instructions_is_carried_out() -> None:
    supervision = running()
    instructions = supervision.exited(SCHEDULER, SEGV, 1.0)
    # If the shell fails at the first instruction, the supervision knows of the next scheduler all the same.
    assert isinstance(instructions, list)
    assert (supervision.epoch, supervision.children[SCHEDULER].epoch) == (1, 1)
    assert [type(instruction) for instruction in instructions] == [Log, NewEpoch, Spawn]


# -- the end ----------------------------------------------------------------------------------------


def test_the_first_interrupt_drains_and_the_second_kills() -> None:
    supervision = running()
    assert supervision.interrupted(10.0) == [Tell(SCHEDULER, Drain(13_000_000_000))]
    assert supervision.phase is Phase.DRAINING
    assert sorted(kill.child for kill in said(supervision.interrupted(11.0), Kill)) == [SCHEDULER, W[0], W[1], W[2]]
    end(supervision)
    assert supervision.exit_code == 1


def test_a_drained_run_stops_all_children_and_ends_well() -> None:
    supervision = running()
    supervision.interrupted(10.0)
    stopped = supervision.drained(NOTHING_LEFT, 11.0)
    assert told(stopped) == [(number, Stop) for number in (SCHEDULER, W[0], W[1], W[2])]
    end(supervision)
    assert supervision.exit_code == 0


def test_what_was_not_finished_is_named_and_the_run_ends_with_1() -> None:
    supervision = running()
    supervision.interrupted(10.0)
    (log, *_) = supervision.drained([UnfinishedStatus(4, "app", ("a", "b"))], 13.0)
    assert log == Log("warning", "not finished within 3 s: request 4 of app, which waited for a, b")
    end(supervision)
    assert supervision.exit_code == 1


def test_an_interrupt_lets_the_feeder_finish_first() -> None:
    supervision = running(feeder=True)
    assert said(supervision.interrupted(10.0), Interrupt) == [Interrupt(FEEDER)]
    assert told(supervision.exited(FEEDER, Exit("exit code 1", 1), 11.0)) == [(SCHEDULER, Drain)]
    supervision.drained(NOTHING_LEFT, 12.0)
    end(supervision)
    assert supervision.exit_code == 1


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (2, 2), (-SIGSEGV, 1), (3, 1)])
def test_the_run_ends_with_its_feeder_and_its_code(code: int, expected: int) -> None:
    supervision = running(feeder=True)
    instructions = supervision.exited(FEEDER, Exit("how", code), 10.0)
    assert told(instructions) == [(SCHEDULER, Drain)]
    assert bool(said(instructions, Log)) is (code not in (0, 1, 2))
    supervision.drained(NOTHING_LEFT, 11.0)
    end(supervision)
    assert supervision.exit_code == expected


def test_the_death_of_a_feeder_that_was_killed_changes_nothing_and_is_no_news() -> None:
    supervision = running(feeder=True)
    supervision.interrupted(10.0)
    supervision.interrupted(11.0)
    assert supervision.exited(FEEDER, CLEAN, 12.0) == []
    end(supervision)
    assert supervision.exit_code == 1


def test_a_drain_that_takes_too_long_is_given_up_and_what_does_not_stop_is_killed() -> None:
    supervision = running()
    supervision.interrupted(10.0)
    wake = supervision.wake_at
    assert wake is not None
    assert supervision.tick(wake - 0.001) == []
    given_up = supervision.tick(wake)
    assert told(given_up) == [(number, Stop) for number in (SCHEDULER, W[0], W[1], W[2])]
    assert "not drained" in said(given_up, Log)[0].text
    supervision.exited(W[1], CLEAN, wake)
    later = supervision.wake_at
    assert later is not None
    assert [kill.child for kill in said(supervision.tick(later), Kill)] == [SCHEDULER, W[0], W[2]]
    end(supervision)
    assert supervision.exit_code == 1


def test_a_drain_that_is_given_up_starts_nothing_again_in_the_same_moment() -> None:
    supervision = running()
    supervision.interrupted(10.0)
    supervision.exited(W[2], SEGV, 10.5)
    wake = 10.0 + PLAN.drain_s + 5.0
    given_up = supervision.tick(wake)
    assert said(given_up, Spawn) == []
    assert told(given_up) == [(child, Stop) for child in (SCHEDULER, W[0], W[1])]


def test_a_worker_that_dies_in_a_drain_is_started_again() -> None:
    supervision = running()
    supervision.interrupted(10.0)
    supervision.exited(W[2], SEGV, 10.5)
    assert [spawn.child.title for spawn in said(supervision.tick(10.5), Spawn)] == ["b/0"]


def test_nothing_is_started_again_once_it_stops() -> None:
    for drained in (True, False):
        supervision = running()
        supervision.interrupted(1.0)
        supervision.exited(W[0], SEGV, 2.0)
        if drained:
            supervision.drained(NOTHING_LEFT, 3.0)
        else:
            supervision.interrupted(3.0)
        assert said(supervision.tick(1000.0), Spawn) == []
        assert supervision.wake_at is None or supervision.wake_at > 3.0


class SupervisionMachine(RuleBasedStateMachine):
    """Whatever happens: no dead child is spoken to, and two interrupts and all exits end it."""

    def __init__(self) -> None:
        super().__init__()
        self.supervision = Supervision(replace(CHAIN, canary=CanaryPlan("x")), feeder=False)
        self.alive: set[Address] = set()
        self.now = 0.0
        self.carry_out(self.supervision.start())

    def carry_out(self, instructions: Iterable[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Spawn):
                assert instruction.child.address not in self.alive
                assert self.supervision.phase not in (Phase.STOPPING, Phase.STOPPED)
                self.alive.add(instruction.child.address)
            elif isinstance(instruction, Tell):
                assert instruction.receiver in self.alive, f"{instruction} for the dead"
            elif isinstance(instruction, (Kill, Interrupt)):
                assert instruction.child in self.alive, f"{instruction} for the dead"

    def one(self, pick: int) -> Address:
        return sorted(self.alive)[pick % len(self.alive)]

    @precondition(lambda self: self.alive)
    @rule(pick=st.integers(0, 9))
    def ready(self, pick: int) -> None:
        self.carry_out(self.supervision.ready(self.one(pick)))

    @rule()
    def all_ready(self) -> None:
        for child in sorted(self.alive):
            self.carry_out(self.supervision.ready(child))

    @precondition(lambda self: self.alive)
    @rule(pick=st.integers(0, 9))
    def failed(self, pick: int) -> None:
        self.carry_out(self.supervision.failed(self.one(pick), "error", "traceback"))

    @precondition(lambda self: self.alive)
    @rule(pick=st.integers(0, 9), exit=st.sampled_from([CLEAN, SEGV, KILLED, Exit("exit code 1", 1)]))
    def exited(self, pick: int, exit: Exit) -> None:
        child = self.one(pick)
        self.alive.remove(child)
        self.carry_out(self.supervision.exited(child, exit, self.now))

    @precondition(lambda self: self.alive)
    @rule(pick=st.integers(0, 9))
    def overran(self, pick: int) -> None:
        self.carry_out(self.supervision.overran(self.one(pick), 0, 100.0))

    @rule()
    def interrupted(self) -> None:
        self.carry_out(self.supervision.interrupted(self.now))

    @precondition(lambda self: self.supervision.phase is Phase.DRAINING)
    @rule()
    def drained(self) -> None:
        self.carry_out(self.supervision.drained(NOTHING_LEFT, self.now))

    @rule(passed=st.sampled_from([0.0, 0.1, 1.0, 20.0]))
    def tick(self, passed: float) -> None:
        self.now += passed
        self.carry_out(self.supervision.tick(self.now))
        wake = self.supervision.wake_at
        assert wake is None or wake > self.now, "it would spin"

    @invariant()
    def children_are_those_alive(self) -> None:
        assert set(self.supervision.children) == self.alive

    def teardown(self) -> None:
        self.interrupted()
        self.interrupted()
        while self.alive:
            self.exited(0, CLEAN)
        assert self.supervision.phase is Phase.STOPPED


TestSupervisionMachine = SupervisionMachine.TestCase


def test_the_drawing_names_every_phase() -> None:
    assert [phase for phase in Phase if phase.name not in str(module.__doc__)] == []
