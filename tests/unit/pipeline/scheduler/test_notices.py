"""What workers say of their orders."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.wire.messages import MISSING, Answer, Fence, Fenced, Notices
from tests.unit.pipeline.scheduler.example import Example

Make = Callable[..., Example]


def test_a_slot_comes_back_when_its_last_reader_has_finished(example: Make) -> None:
    scheduler = example("diamond")
    scheduler.submit(1)
    scheduler.decide()
    slots = scheduler.plan.pools[1].slots
    scheduler.finish(0, 1)
    scheduler.decide()
    scheduler.finish(1, 1)
    assert scheduler.free("a") == slots - 1
    scheduler.finish(2, 1)
    assert scheduler.free("a") == slots


def test_notices_may_come_in_any_order(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(2, 1)
    assert scheduler.decide() == ["client 1: 1 OK"]
    # Those of `a` and `b` are late by now, and say nothing new.
    scheduler.finish(1, 1)
    scheduler.finish(0, 1)
    assert scheduler.decide() == []
    assert scheduler.scheduler.counts["late_notices"] == 2
    assert [worker.credits for worker in scheduler.scheduler.workers.values()] == [2, 2, 2]


def test_the_notice_of_a_stage_whose_output_is_answered_is_waited_for(example: Make) -> None:
    scheduler = example("early outputs")
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(2, 1)
    # c has run, so a and b have. But only a's notice says where its q is.
    assert scheduler.decide() == []
    scheduler.finish(0, 1)
    assert scheduler.decide() == ["client 1: 1 OK"]
    assert MISSING not in scheduler.answers[1, 1].outputs


def test_what_a_stage_says_went_wrong_is_the_answer_and_what_followed_is_fenced(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(0, 1, "BadInput")
    assert scheduler.decide() == ["worker 1: fence 1", "worker 2: fence 1", "client 1: 1 BadInput"]
    assert scheduler.answers[1, 1] == Answer(1, "BadInput", "why", (), b"", "")


def test_what_an_earlier_life_of_the_scheduler_ordered_counts_for_nothing(example: Make) -> None:
    scheduler = example(epoch=3)
    scheduler.submit(1)
    scheduler.decide()
    request = (3 << 40) + 1
    notice = scheduler.notice(2, request)
    scheduler.handle(Notices(2, 2, (notice,)))
    scheduler.handle(Fenced(2, 2, (Fence(request, 0),)))
    assert scheduler.decide() == []
    assert scheduler.scheduler.workers[2].credits == 1
    scheduler.handle(Notices(3, 2, (notice,)))
    assert scheduler.decide() == ["client 1: 1 OK"]


def test_what_comes_of_an_earlier_attempt_is_dropped(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    scheduler.decide()
    late = scheduler.notice(2, 1)
    scheduler.dies(1)
    assert scheduler.decide()[0] == "worker 2: fence 1"
    scheduler.fenced()
    scheduler.finish(0, 1)
    scheduler.ready(9, 1)
    assert scheduler.decide() == ["worker 9: order 1.1 b>c"]
    scheduler.handle(Notices(0, 2, (late,)))
    assert scheduler.decide() == []
    scheduler.finish(2, 1)
    assert scheduler.decide() == ["client 1: 1 OK"]


def test_a_worker_that_says_it_twice_is_heard_once(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    scheduler.decide()
    notice = scheduler.notice(0, 1)
    scheduler.handle(Notices(0, 0, (notice, notice)))
    assert scheduler.scheduler.workers[0].credits == 2
    assert scheduler.scheduler.counts["late_notices"] == 1


def test_a_stage_that_does_not_give_what_it_declares_has_failed(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(2, 1, outputs=())
    assert scheduler.decide()[-1] == "client 1: 1 StageFailed"
    assert scheduler.answers[1, 1].message == "stage c gave 0 tensors and 0 of many"


def test_outputs_of_many_must_be_equally_many(example: Make) -> None:
    scheduler = example("fan out")
    scheduler.submit(1)
    scheduler.decide()
    one = scheduler.notice(0, 1).children[0][:1]
    scheduler.finish(0, 1, children=(one, one))
    assert scheduler.decide() == ["client 1: 1 StageFailed"]
    assert scheduler.answers[1, 1].message == "stage a gave 1 tensors and 2 of many"


@pytest.mark.parametrize("code", ["StageFailed", "BadInput"])
def test_failures_that_a_stage_did_not_mean_are_shown(example: Make, code: str) -> None:
    scheduler = example()
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(0, 1, code)
    (kinds, *_) = (stage.failures for stage in scheduler.scheduler.status().stages)
    assert [kind.request for kind in kinds] == ["00001-1"] * (code == "StageFailed")
