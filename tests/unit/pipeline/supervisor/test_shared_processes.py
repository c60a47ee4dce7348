"""Processes of several stages: one child to the supervisor, a worker a stage to the scheduler."""

from __future__ import annotations

from msgspec.structs import replace

from pipeline.graph.plan import Post
from pipeline.supervisor.instructions import Kill, Log, Spawn, Tell
from pipeline.supervisor.supervision import Exit, Supervision
from pipeline.wire.address import SCHEDULER
from pipeline.wire.messages import StageBroken, Stop, WorkerGone
from tests.unit.pipeline.supervisor.test_supervision import (
    CHAIN,
    KILLED,
    NOTHING_LEFT,
    SEGV,
    W,
    die,
    end,
    running,
    said,
    told,
)


def test_a_process_of_several_stages_has_a_worker_number_and_a_record_for_each() -> None:
    spawned = [spawn.child for spawn in said(Supervision(CHAIN, feeder=False).start(), Spawn)]
    assert [(child.address, child.title, child.posts) for child in spawned[1:]] == [
        (W[0], "a+c/0", (Post(0, 0, 0), Post(1, 2, 1))),
        (W[2], "a+c/1", (Post(2, 0, 2), Post(3, 2, 3))),
        (W[4], "b/0", (Post(4, 1, 4),)),
    ]


def test_it_is_told_to_stop_and_killed_once() -> None:
    supervision = running(CHAIN)
    supervision.interrupted(1.0)
    assert told(supervision.drained(NOTHING_LEFT, 2.0)) == [(number, Stop) for number in (SCHEDULER, W[0], W[2], W[4])]
    assert [kill.child for kill in said(supervision.interrupted(3.0), Kill)] == [SCHEDULER, W[0], W[2], W[4]]
    end(supervision)


def test_each_of_its_workers_is_gone_the_last_stage_first_and_only_who_was_computing_has_suspects() -> None:
    supervision = running(CHAIN)
    instructions = supervision.exited(W[2], replace(SEGV, running={2: (7, 8)}), 1.0)
    assert [tell.message for tell in said(instructions, Tell)] == [
        WorkerGone(3, SEGV.how, (7, 8), False, False),
        WorkerGone(2, SEGV.how, (), False, True),
    ]
    (spawn,) = said(supervision.tick(1.0), Spawn)
    assert (spawn.child.title, spawn.child.posts) == ("a+c/1", (Post(5, 0, 2), Post(6, 2, 3)))


def test_where_several_of_its_workers_were_computing_each_may_blame_the_other() -> None:
    supervision = running(CHAIN)
    instructions = supervision.exited(W[0], replace(SEGV, running={0: (7,), 2: (8,)}), 1.0)
    assert [(gone.worker, gone.running, gone.beside) for gone in (tell.message for tell in said(instructions, Tell))] == [
        (1, (8,), True),
        (0, (7,), True),
    ]


def test_the_stage_that_takes_too_long_is_named() -> None:
    supervision = running(CHAIN)
    log, kill = supervision.overran(W[0], 2, 1500.0)
    assert log == Log("warning", "a+c/0 has been computing one batch of c for 1500 ms; killed")
    assert kill == Kill(W[0])
    (gone, _) = said(supervision.exited(W[0], replace(KILLED, running={2: (7,)}), 1.0), Tell)
    assert gone.message.how == "killed, since it had been computing one batch of c for 1500 ms"


def test_all_stages_of_a_process_break_together() -> None:
    supervision = running(CHAIN)
    for now in (1.0, 2.0):
        assert (SCHEDULER, StageBroken) not in told(die(supervision, now, Exit("exit code 1", 1)))
    broken = [tell.message for tell in said(die(supervision, 3.0, Exit("exit code 1", 1)), Tell)][2:]
    assert [message.stage for message in broken] == [0, 2]
    # And the next scheduler hears of both.
    (again, as_well) = said(supervision.exited(SCHEDULER, SEGV, 4.0), Tell)
    assert (again.message.stage, as_well.message.stage) == (0, 2)


def test_a_stage_that_only_ever_dies_breaks_though_another_one_of_its_process_works() -> None:
    supervision = running(CHAIN)
    for death in range(1, 4):
        instructions = die(supervision, float(death), Exit("exit code 1", 1, {2: (death,)}, {0: 100 * death, 2: 0}))
    assert (SCHEDULER, StageBroken) in told(instructions)
