"""Workers die: which requests run again, which are suspected of it, and which are condemned."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.wire.address import SUPERVISOR
from pipeline.wire.messages import Kept, Relic, StageBroken, WorkerGone
from shm.handle import TensorHandle
from tests.unit.pipeline.scheduler.example import Example

Make = Callable[..., Example]


def computed(make: Make, *tags: int, **more: int) -> Example:
    """Requests that have passed `a` and are with `b`, which is worker 1, in one batch."""
    scheduler = make(**{"credits": 4, "max_batch": 4, **more})
    scheduler.submit(*tags)
    scheduler.decide()
    for tag in tags:
        scheduler.finish(0, tag)
    scheduler.decide()
    return scheduler


def dies(scheduler: Example, worker: int, *running: int, **how: bool) -> list[str]:
    """A worker dies, fences are answered, and a new worker of `b` comes, 10 higher. Returns what that is ordered."""
    scheduler.dies(worker, *running, **how)
    scheduler.decide()
    scheduler.fenced()
    scheduler.ready(worker + 10, 1)
    return [line.partition("order ")[2] for line in scheduler.decide() if f"worker {worker + 10}: order" in line]


def test_what_a_dead_worker_had_runs_again_as_the_next_attempt_and_what_followed_is_fenced(example: Make) -> None:
    scheduler = computed(example, 1)
    before = scheduler.free("b")
    scheduler.dies(1)
    assert scheduler.decide() == ["worker 2: fence 1", "disconnect worker 1", "worker 0: PeerGone", "worker 2: PeerGone"]
    # Its slot of `b` comes back when `c` has said that it will not read it.
    assert scheduler.free("b") == before
    scheduler.ready(9, 1)
    assert scheduler.decide() == ["worker 9: order 1.1 b>c"]


def test_a_retried_request_keeps_its_place(example: Make) -> None:
    scheduler = computed(example, 1, 2)
    scheduler.dies(1)
    scheduler.decide()
    scheduler.fenced()
    scheduler.submit(3)
    scheduler.decide()
    scheduler.finish(0, 3)
    scheduler.decide()
    # A third waits for `b` by now; and what is retried once more comes before all again.
    scheduler.ready(9, 1)
    scheduler.dies(9)
    scheduler.ready(10, 1)
    assert scheduler.decide()[:3] == ["worker 10: order 1.1 b>c", "worker 10: order 2.1 b>c", "worker 10: order 3 b>c"]
    scheduler.dies(10)
    scheduler.decide()
    scheduler.fenced()
    scheduler.ready(11, 1)
    assert scheduler.decide() == ["worker 11: order 1.2 b>c", "worker 11: order 2.2 b>c", "worker 11: order 3.1 b>c"]


def test_a_retried_request_is_served_before_those_that_waited_behind_it(example: Make) -> None:
    scheduler = example(credits=1)
    scheduler.submit(1, 2)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c"]
    scheduler.dies(0)
    scheduler.decide()
    scheduler.fenced()
    scheduler.ready(9, 0)
    assert scheduler.decide() == ["worker 9: order 1.1 a>b>c"]


def test_what_merely_waited_in_a_dead_worker_is_not_suspected(example: Make) -> None:
    scheduler = computed(example, 1, 2)
    assert dies(scheduler, 1, 1) == ["1.1 b>c group 2", "2.1 b>c"]


def test_suspects_run_in_halves(example: Make) -> None:
    scheduler = computed(example, 1, 2, 3)
    assert dies(scheduler, 1, 1, 2, 3) == ["1.1 b>c group 1", "2.1 b>c group 2", "3.1 b>c group 2"]
    assert dies(scheduler, 11, 2, 3) == ["1.2 b>c group 1", "2.2 b>c group 3", "3.2 b>c group 4"]


def test_a_request_that_has_died_alone_twice_is_condemned_and_its_inputs_are_kept(example: Make) -> None:
    scheduler = computed(example, 1)
    assert dies(scheduler, 1, 1) == ["1.1 b>c group 2"]
    assert dies(scheduler, 11, 1) == []
    inputs = (TensorHandle(101, 0, 1, 0, "uint8", (16,)),)
    assert scheduler.decided == [(SUPERVISOR, Relic(1, "00001-1", 1, "killed", inputs, ()))]
    # When the supervisor has read its slots, it is answered, and they come back.
    assert scheduler.free("a") == scheduler.plan.pools[1].slots - 1
    scheduler.handle(Kept(1, "capsule.npz"))
    assert scheduler.decide() == ["client 1: 1 StageCrashed"]
    answer = scheduler.answers[1, 1]
    assert answer.message == "stage b: killed; its inputs are in capsule.npz: pipeline replay capsule.npz"
    assert scheduler.free("a") == scheduler.plan.pools[1].slots


def test_kills_from_outside_weigh_less(example: Make) -> None:
    scheduler = computed(example, 1)
    assert dies(scheduler, 1, 1, outside=True) == ["1.1 b>c group 2"]
    assert dies(scheduler, 11, 1, outside=True) == ["1.2 b>c group 4"]
    assert dies(scheduler, 21, 1, outside=True) == []
    assert [type(message) for _, message in scheduler.decided] == [Relic]


def test_a_request_that_did_not_die_alone_is_not_charged(example: Make) -> None:
    scheduler = computed(example, 1)
    for worker, attempt in ((1, 1), (11, 2), (21, 3), (31, 4)):
        assert dies(scheduler, worker, 1, beside=True) == [f"1.{attempt} b>c group {2 * attempt}"]


def test_what_is_left_of_a_batch_of_several_is_not_charged(example: Make) -> None:
    scheduler = computed(example, 1, 2)
    # The other request has failed meanwhile, and may be guilty.
    scheduler.finish(1, 2, "BadInput")
    for worker, attempt in ((1, 1), (11, 2), (21, 3)):
        assert dies(scheduler, worker, 1, 2) == [f"1.{attempt} b>c group {2 * attempt}"]


def test_a_suspect_that_survives_is_a_suspect_no_more(example: Make) -> None:
    scheduler = computed(example, 1)
    assert dies(scheduler, 1, 1) == ["1.1 b>c group 2"]
    scheduler.finish(11, 1)
    # If it kills `c` now, that is its first death, and in `c` it shares batches with others again.
    scheduler.dies(2)
    scheduler.ready(9, 2)
    assert scheduler.decide()[0] == "worker 9: order 1.2 c"
    scheduler.dies(9, 1)
    scheduler.ready(10, 2)
    assert scheduler.decide()[0] == "worker 10: order 1.3 c group 6"


def test_a_suspect_is_not_forwarded_to_the_stage_that_it_is_suspected_in(example: Make) -> None:
    # Both stages are of one process: the notice of the first has died with it.
    scheduler = example("chain", credits=4, processes=1)
    scheduler.submit(1)
    scheduler.decide()
    scheduler.handle(WorkerGone(2, "killed", (), False, False))
    scheduler.handle(WorkerGone(1, "killed", (1,), False, False))
    scheduler.handle(WorkerGone(0, "killed", (), False, False))
    for stage in range(3):
        scheduler.ready(10 + stage, stage)
    assert scheduler.decide()[0] == "worker 10: order 1.3 a group 4"
    scheduler.finish(10, 1)
    # To survive `a` once more does not acquit it.
    assert scheduler.decide() == ["worker 11: order 1.3 b>c group 4"]


def test_what_a_dead_worker_had_to_forward_runs_again(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    scheduler.decide()
    # Its notice has come, and what it sent on may have died with it.
    scheduler.finish(0, 1)
    scheduler.dies(0)
    assert scheduler.decide()[:2] == ["worker 1: order 1.1 b>c", "worker 1: fence 1"]


def test_the_dead_do_not_come_back(example: Make) -> None:
    scheduler = example()
    scheduler.dies(0)
    scheduler.ready(0, 0)
    scheduler.submit(1)
    assert [line for line in scheduler.decide() if "order" in line] == []
    assert 0 not in scheduler.scheduler.workers


def test_if_a_stage_is_given_up_its_requests_fail_when_its_last_worker_is_dead(example: Make) -> None:
    scheduler = computed(example, 1)
    scheduler.ready(9, 1)
    scheduler.handle(StageBroken(1, "it died 5 times"))
    scheduler.dies(1)
    assert scheduler.decide()[0] == "worker 9: order 1.1 b>c"
    scheduler.dies(9)
    assert scheduler.decide()[-1] == "client 1: 1 StageUnavailable"
    assert scheduler.answers[1, 1].message == "stage b: it died 5 times"


def test_requests_that_have_passed_a_broken_stage_do_not_fail(example: Make) -> None:
    scheduler = computed(example, 1)
    scheduler.finish(1, 1)
    scheduler.handle(StageBroken(0, "it died 5 times"))
    scheduler.dies(0)
    scheduler.finish(2, 1)
    assert "client 1: 1 OK" in scheduler.decide()
