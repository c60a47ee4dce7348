"""A worker on trial gets the requests of the trial canary and no others, until the trial is over."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.scheduler.door import ClientGone
from pipeline.wire.messages import Hello, Retire, Trial
from pipeline.wire.reloads import TRIAL
from tests.unit.pipeline.scheduler.example import Example

Make = Callable[..., Example]


def tried(example: Make, stage: int = 0) -> Example:
    """Worker 3 is on trial in a stage; client 2 is the trial canary."""
    scheduler = example(slots=8)
    scheduler.handle(Trial(3, stage, False))
    scheduler.ready(3, stage)
    scheduler.handle(Hello(2, TRIAL))
    scheduler.decide()
    scheduler.asks(2)
    scheduler.decide()
    return scheduler


def test_it_gets_the_canary_alone_and_its_stage_s_other_workers_all_else(example: Make) -> None:
    scheduler = tried(example)
    scheduler.submit(1)
    scheduler.submit(9, client=2)
    assert sorted(scheduler.decide()) == ["worker 0: order 1 a>b>c", "worker 3: order 2 a>b>c"]
    scheduler.scheduler.validate()
    assert [worker.worker for worker in scheduler.scheduler.status().stages[0].workers] == [0]


def test_in_a_later_stage_the_canary_is_forwarded_to_it(example: Make) -> None:
    scheduler = tried(example, 1)
    scheduler.submit(1)
    scheduler.submit(9, client=2)
    assert sorted(scheduler.decide()) == ["worker 0: order 1 a>b>c", "worker 0: order 2 a>b>c"]
    assert {number for number, worker in scheduler.scheduler.workers.items() if worker.orders} == {0, 1, 2, 3}


def test_the_canary_waits_for_a_worker_that_is_not_ready_yet(example: Make) -> None:
    scheduler = example(slots=8)
    scheduler.handle(Trial(3, 0, False))
    scheduler.handle(Hello(2, TRIAL))
    scheduler.decide()
    scheduler.asks(2)
    scheduler.decide()
    scheduler.submit(9, client=2)
    assert scheduler.decide() == []
    scheduler.ready(3, 0)
    assert scheduler.decide() == ["worker 3: order 1 a>b>c"]


def test_once_the_trial_is_over_it_is_a_worker_like_any_other(example: Make) -> None:
    scheduler = tried(example)
    scheduler.handle(Trial(3, 0, True))
    scheduler.handle(Retire(0))
    scheduler.submit(1)
    assert sorted(scheduler.decide()) == ["worker 0: Retire", "worker 3: order 1 a>b>c"]
    scheduler.scheduler.validate()


def test_a_trial_that_is_over_before_the_scheduler_heard_of_the_worker_costs_nothing(example: Make) -> None:
    scheduler = example(slots=8)
    scheduler.handle(Trial(3, 0, False))
    scheduler.handle(Trial(3, 0, True))
    scheduler.ready(3, 0)
    scheduler.handle(Retire(0))
    scheduler.submit(1)
    scheduler.decide()
    assert scheduler.scheduler.workers[3].orders
    scheduler.scheduler.validate()


def test_one_that_dies_fails_the_canary_and_nothing_waits_for_it(example: Make) -> None:
    scheduler = tried(example)
    scheduler.submit(9, client=2)
    scheduler.decide()
    scheduler.dies(3, 1)
    assert "client 2: 9 StreamBroken" in scheduler.decide()
    scheduler.scheduler.validate()
    # Its number says nothing of a later one, which is no trial.
    scheduler.ready(4, 0)
    scheduler.handle(Retire(0))
    scheduler.submit(1)
    scheduler.decide()
    assert scheduler.scheduler.workers[4].orders


def test_one_that_died_before_it_was_ready_is_forgotten(example: Make) -> None:
    scheduler = example(slots=8)
    scheduler.handle(Trial(3, 0, False))
    scheduler.dies(3)
    scheduler.handle(Hello(2, TRIAL))
    scheduler.decide()
    scheduler.asks(2)
    scheduler.decide()
    scheduler.submit(9, client=2)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c"]


def test_one_that_was_found_wrong_retires_and_a_canary_that_was_killed_leaves_nothing(example: Make) -> None:
    scheduler = tried(example)
    scheduler.handle(Retire(3))
    scheduler.handle(ClientGone(2))
    assert "worker 3: Retire" in scheduler.decide()
    scheduler.dies(3)
    scheduler.decide()
    assert scheduler.scheduler.counts["retired_workers"] == 1
    scheduler.scheduler.validate()


def test_a_trial_in_no_stage_is_refused(example: Make) -> None:
    scheduler = example(slots=8)
    scheduler.handle(Trial(3, 99, False))
    assert scheduler.scheduler.counts["unexpected_messages"] == 1
