"""The door: what comes in, and the order in which messages go out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.errors import WireError
from pipeline.scheduler.door import SUPERVISOR
from pipeline.wire.address import Address
from pipeline.wire.messages import (
    Again,
    Answers,
    Bye,
    Copied,
    Drain,
    Drained,
    Failed,
    Fence,
    Fences,
    Hello,
    Orders,
    PeerGone,
    Ready,
    StageBroken,
    Submit,
    WorkerReport,
)
from pipeline.wire.records import Spread
from pipeline.wire.status import UnfinishedStatus
from tests.unit.pipeline.scheduler.actors import MS
from tests.unit.pipeline.scheduler.example import Example

Make = Callable[..., Example]


def test_one_message_holds_all_that_is_for_a_worker_and_orders_go_before_fences(example: Make) -> None:
    scheduler = example(credits=2)
    scheduler.submit(1, deadline=scheduler.now + MS)
    scheduler.decide()
    scheduler.submit(2, 3)
    scheduler.decide(after_ms=1)
    assert [(receiver, type(message)) for receiver, message in scheduler.decided[:4]] == [
        (Address.worker(0), Orders), (Address.worker(0), Fences), (Address.worker(1), Fences), (Address.worker(2), Fences),
    ]  # fmt: skip
    assert scheduler.decided[1] == (Address.worker(0), Fences(0, 0, (Fence(1, 0),)))


def test_every_other_worker_hears_of_a_death(example: Make) -> None:
    scheduler = example()
    scheduler.dies(1)
    assert scheduler.decide() == ["disconnect worker 1", "worker 0: PeerGone", "worker 2: PeerGone"]
    assert scheduler.decided[1:] == [(Address.worker(0), PeerGone(1)), (Address.worker(2), PeerGone(1))]


@pytest.mark.parametrize(
    "ready", [Ready(9, 0, 0, 1, 1), Ready(9, 3, 0, 1, 0), Ready(9, -1, 0, 1, 0), Ready(0, 1, 0, 1, 0), Ready(9, 0, 1, 1, 0)],
    ids=["of another epoch", "of no stage", "of a negative stage", "of a known worker", "of no replica"],
)  # fmt: skip
def test_a_worker_that_does_not_belong_here_is_not_taken_in_and_nothing_is_sent_to_it(
    example: Make, ready: Ready
) -> None:
    scheduler = example()
    scheduler.handle(ready)
    assert scheduler.decide() == []
    assert {number: known.stage for number, known in scheduler.scheduler.workers.items()} == {0: 0, 1: 1, 2: 2}


@pytest.mark.parametrize(
    ("message", "count", "said"),
    [
        (Failed(1, "no", ""), "unexpected_messages", []),
        (PeerGone(1), "unexpected_messages", []),
        (WireError("x"), "refused_frames", ["shell 0: Log"]),
        (StageBroken(3, "there is no such stage"), "unexpected_messages", []),
        (StageBroken(-1, "nor this one"), "unexpected_messages", []),
        (WorkerReport(0, 0, 1 << 63, 7, (0, 0, 0, 0, 0), 0, ()), "unexpected_messages", []),
        (WorkerReport(0, 0, 1, -1, (0, 0, 0, 0, 0), 0, ()), "unexpected_messages", []),
        (WorkerReport(0, 0, 1, 1, (0, 0, 0, 0, 0), 0, (Copied("in", "x", "y", 1 << 60, 1),)), "unexpected_messages", []),
        (WorkerReport(0, 0, 1, 1, (0, 0, 0, 0, 0), 0, (), (-1,)), "unexpected_messages", []),
        (WorkerReport(0, 0, 1, 1, (0, 0, 0, 0, 0), 0, (), (1,), Spread((1,), 1 << 60)), "unexpected_messages", []),
    ],
)
def test_what_no_process_should_send_is_counted(example: Make, message: Any, count: str, said: list[str]) -> None:
    scheduler = example()
    scheduler.handle(message)
    assert scheduler.scheduler.counts[count] == 1
    assert scheduler.decide() == said


def test_a_drain_ends_when_all_is_answered_and_is_said_once(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    scheduler.decide()
    scheduler.handle(Drain(scheduler.now + 1000 * MS))
    assert scheduler.decide() == []
    scheduler.finish(2, 1)
    assert scheduler.decide() == ["client 1: 1 OK", "supervisor: Drained"]
    assert scheduler.decide() == []


def test_a_drain_does_not_wait_for_ever_and_says_what_was_left(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(0, 1)
    scheduler.handle(Drain(scheduler.now + 100 * MS))
    assert scheduler.decide(after_ms=99) == []
    assert scheduler.decide(after_ms=1)[-2:] == ["client 1: 1 Unavailable", "supervisor: Drained"]
    receiver, drained = scheduler.decided[-1]
    assert receiver == SUPERVISOR
    assert isinstance(drained, Drained)
    assert drained.status.unfinished == (UnfinishedStatus(1, "client 1", ("b", "c")),)


def away(scheduler: Example) -> list[tuple[int, str]]:
    """Which clients the last decision has sent away, and where."""
    return [
        (receiver.number, message.successor)
        for receiver, message in scheduler.decided
        if isinstance(message, Answers) and message.successor
    ]


def test_a_run_that_was_replaced_says_so_to_every_client_once_and_in_every_message_after(example: Make) -> None:
    scheduler = example(slots=8)
    scheduler.joins(2)
    scheduler.submit(1)
    scheduler.decide()
    scheduler.handle(Drain(scheduler.now + 1000 * MS, "demo-7"))
    scheduler.decide()
    assert away(scheduler) == [(1, "demo-7"), (2, "demo-7")]
    scheduler.decide()
    assert away(scheduler) == []
    scheduler.finish(2, 1)
    assert scheduler.decide() == ["client 1: 1 OK"]
    assert away(scheduler) == [(1, "demo-7")]
    # It is numbered as every other message, so it comes again if it was lost.
    scheduler.handle(Again(2, 3))
    scheduler.decide()
    assert away(scheduler) == [(2, "demo-7")]
    scheduler.handle(Hello(3, "late"))
    assert scheduler.decide() == ["connect client 3", "client 3: Welcome"]
    assert away(scheduler) == [(3, "demo-7")]


def test_a_run_that_was_replaced_refuses_nothing_and_ends_when_no_client_may_still_send(example: Make) -> None:
    scheduler = example(slots=8)
    scheduler.joins(2, slots=0)
    scheduler.handle(Drain(scheduler.now + 1000 * MS, "demo-7"))
    # Client 1 has slots: what it fills may be on its way.
    assert scheduler.decide() == []
    scheduler.submit(1)
    assert scheduler.decide() == ["worker 0: order 1 a>b>c"]
    scheduler.asks(2, wait=True)
    assert scheduler.decide() == ["client 2: a slot"]
    scheduler.finish(2, 1)
    assert "client 1: 1 OK" in scheduler.decide()
    scheduler.handle(Submit(1, 9, (), tuple(scheduler.granted[1])))
    assert scheduler.decide() == []
    scheduler.handle(Bye(2, ()))
    assert scheduler.decide() == ["disconnect client 2", "supervisor: Drained"]
    assert scheduler.decide() == []


def test_clients_that_stay_too_long_at_a_replaced_run_are_refused_as_in_any_drain(example: Make) -> None:
    scheduler = example()
    scheduler.handle(Drain(scheduler.now + 100 * MS, "demo-7"))
    assert scheduler.decide(after_ms=99) == []
    assert scheduler.scheduler.status().reasons[""].startswith("replaced by a new version")
    assert scheduler.decide(after_ms=1) == ["supervisor: Drained"]
    scheduler.submit(1)
    assert scheduler.decide() == ["client 1: 1 Unavailable"]
    assert scheduler.scheduler.status().reasons[""] == "stopping"


def test_reports_count_for_the_stage_of_their_worker(example: Make) -> None:
    scheduler = example()
    for stage, reporter in ((0, 0), (1, 0), (0, 9)):
        scheduler.handle(WorkerReport(reporter, stage, 2, 7, (2, 0, 0, 0, 0), 0, ()))
    assert [stage.batches for stage in scheduler.scheduler.status().stages] == [2, 0, 0]
