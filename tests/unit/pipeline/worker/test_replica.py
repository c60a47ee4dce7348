"""Two workers of one process: what they hand to each other, what they say, and whose turn it is."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import astuple, replace

from pipeline.graph.plan import INGRESS, BatchPlan, Edge, Plan, PoolPlan, Post, StagePlan, WorkerPlan
from pipeline.wire.address import SCHEDULER, Address
from pipeline.wire.codec import MAX_FRAME_BYTES, encode
from pipeline.wire.columns import Columns, HopColumn, TensorColumn, longs
from pipeline.wire.links import listen
from pipeline.wire.messages import (
    Fence,
    Fenced,
    Fences,
    Hop,
    Known,
    Message,
    Notice,
    Notices,
    Order,
    Orders,
    PeerGone,
    WorkerReport,
)
from pipeline.wire.route import packed
from pipeline.worker.candidates import Waiting
from pipeline.worker.failures import LONGEST_MESSAGE, LONGEST_TRACEBACK
from pipeline.worker.filling import Filling
from pipeline.worker.flight import Flight
from pipeline.worker.forwarder import Forwarder
from pipeline.worker.recorder import RECORD_BYTES, Recorder
from pipeline.worker.replica import LATE_NS, Replica, may_begin
from shm import segments
from shm.handle import TensorHandle
from shm.pool import SlotPool
from shm.segment import SegmentSpec
from shm.view import SegmentTable
from stages.spec import TensorSpec
from stages.stage import Batch
from tests.unit.pipeline.wire.test_columns import u32, u64

X = TensorSpec("tensor", "uint8", (8,))
now = time.monotonic_ns


def relay(name: str, source: Edge, host: str, credits: int = 4) -> StagePlan:
    alias = TensorSpec("tensor", "uint8", (8,), alias_of="tensor")
    workers = (WorkerPlan("a+b", 0),)
    return StagePlan(
        name, "stages.relay:Relay", {"shape": [8]}, (X,), (source,), (), (alias,), (), BatchPlan(2), credits, workers,
        host=host,
    )  # fmt: skip


class Process:
    """The workers 4 (stage a) and 5 (stage b) of one process, and all that it speaks to."""

    def __init__(self, run_dir: Path) -> None:
        ingress = Edge(INGRESS, "tensor")
        self.plan = Plan(
            "demo", "demo.yaml", ".", (X,), (relay("a", ingress, "a"), relay("b", ingress, "a")), (("t", ingress),),
            (PoolPlan("ingress/0", 64, 256),),
        )  # fmt: skip
        self.segment = segments.create("local", SegmentSpec("unit", "ingress-0", 64, 256))
        self.pool = SlotPool(self.segment)
        table = SegmentTable()
        table.add(self.segment)
        self.table = table
        self.scheduler = listen(run_dir, SCHEDULER)
        self.elsewhere = listen(run_dir, Address.worker(9))
        self.forwarder = Forwarder(run_dir, 1)
        self.records = [Recorder(memoryview(bytearray(RECORD_BYTES))) for _ in range(2)]
        self.a, self.b = self.replicas = [
            Replica(self.plan, Post(4 + stage, stage, stage), 0, self.records[stage], table, self.forwarder)
            for stage in range(2)
        ]
        for replica in self.replicas:
            replica.set_up()

    def order(self, request: int, *workers: int, group: int = 0) -> Order:
        slot, generation = self.pool.loan()
        handle = TensorHandle(self.segment.number, slot, generation, 0, "uint8", (8,))
        hop = Hop(workers[0] - 4, workers[0], 0, 0, 0, False, (handle,), ())
        route = b"".join([packed(1, 0, worker, 0, 0, 0) for worker in workers[1:]])
        return Order(request, 0, 0, group, hop, b"", "", route=route, known=(Known(0, handle),))

    def columns(self, *requests: int) -> Columns:
        """Common orders of stage a."""
        loans = [self.pool.loan() for _ in requests]
        tensor = TensorColumn(
            0, self.segment.number, 0, "uint8", (8,), u32(*[slot for slot, _ in loans]), u64(*[made for _, made in loans])
        )
        labels, none = tuple([str(request) for request in requests]), u32(*[0] * len(requests))
        return Columns(u64(*requests), none, labels, (HopColumn(0, 4, 0, b"", b""),), (tensor,), ())

    def said(self) -> list[Message]:
        # Messages of one sender keep their order: what was sent before the mark is here once the mark is.
        mark = PeerGone(-1)
        self.forwarder.tell_scheduler(mark)
        found: list[Any] = []
        while mark not in found:
            found += self.scheduler.receive(1000)
        return found[:-1]

    def close(self) -> None:
        for replica in reversed(self.replicas):
            replica.close()
        self.forwarder.close()
        self.scheduler.close()
        self.elsewhere.close()
        self.table.close()
        self.segment.unlink()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path)
    yield made
    made.close()


def test_an_order_goes_from_one_worker_of_a_process_to_the_next_without_a_message(process: Process) -> None:
    process.a.add([process.order(7, 4, 5)])
    assert process.a.step(now())
    (waiting,) = process.b.batcher.take(now()).rows  # type: ignore[union-attr]
    assert (waiting.order.hop.worker, waiting.order.route) == (5, b"")
    assert process.said() == []
    assert process.elsewhere.receive() == []


def test_an_order_for_a_worker_elsewhere_is_sent_there(process: Process) -> None:
    process.a.add([process.order(7, 4, 9)])
    process.a.step(now())
    (orders,) = process.elsewhere.receive(5000)
    assert isinstance(orders, Orders)
    assert [order.request for order in orders.orders] == [7]
    assert len(process.b.batcher) == 0


def test_each_worker_says_what_it_has_done_under_its_own_number(process: Process) -> None:
    process.a.add([process.order(7, 4, 5), process.order(8, 4, 5)])
    assert process.a.step(now())
    assert process.b.step(now())
    # The notices of a do not hurry: they may come with others.
    (notices,) = process.said()
    assert isinstance(notices, Notices)
    assert (notices.worker, [passed.request for passed in notices.passed]) == (5, [7, 8])
    process.a.step(now() + LATE_NS)
    (late,) = process.said()
    assert isinstance(late, Notices)
    assert (late.worker, [passed.request for passed in late.passed]) == (4, [7, 8])
    for replica in process.replicas:
        replica.report()
        replica.report()
    reports = process.said()
    assert [astuple(report)[:4] for report in reports if isinstance(report, WorkerReport)] == [(4, 0, 1, 2), (5, 1, 1, 2)]
    told = [report for report in reports if isinstance(report, WorkerReport)]
    assert [report.sizes[:3] for report in told] == [(0, 1, 0)] * 2  # a batch of two
    assert [(sum(report.queue.buckets), sum(report.compute.buckets)) for report in told] == [(2, 2)] * 2
    assert [record.done for record in process.records] == [1, 1]


def test_what_is_over_is_not_told_late(process: Process) -> None:
    process.a.add([process.order(7, 4, 5), process.order(8, 4, 5)])
    process.a.step(now())
    process.a.settle(8)
    assert process.a._late_rows == 1
    process.a.step(now() + LATE_NS)
    (late,) = process.said()
    assert isinstance(late, Notices)
    assert [passed.request for passed in late.passed] == [8]


def reports(process: Process) -> list[tuple[int, ...]]:
    return [astuple(message)[:4] for message in process.said() if isinstance(message, WorkerReport)]


def test_a_worker_that_is_never_idle_reports_now_and_then_all_the_same(process: Process) -> None:
    later = now() + 10**10
    for request in range(3):
        process.a.add([process.order(request, 4)])
        process.a.step(later + request)
    assert reports(process) == [(4, 0, 1, 1)]
    process.a.add([process.order(3, 4)])
    process.a.step(later + 10**10)
    assert reports(process) == [(4, 0, 4, 4)]


def test_another_scheduler_is_told_what_was_done_before_it_came(process: Process) -> None:
    process.a.add([process.order(7, 4)])
    process.a.step(now())
    process.a.report()
    assert reports(process) == [(4, 0, 1, 1)]
    process.a.forget()
    process.a.report()
    assert reports(process) == [(4, 0, 1, 1)]


def test_a_fence_holds_for_an_order_that_is_still_with_the_worker_before(process: Process) -> None:
    process.a.add([process.order(7, 4, 5), process.order(8, 4, 5)])
    process.b.fence(Fences(1, 5, (Fence(7, 0),)))
    assert process.said() == [Fenced(1, 5, (Fence(7, 0),))]
    process.a.step(now())
    (waiting,) = process.b.batcher.take(now()).rows  # type: ignore[union-attr]
    assert waiting.order.request == 8


def test_a_batch_in_parts_without_an_end_ends_when_what_has_come_meanwhile_cancels_it(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless:
        def process(self, batch: Batch) -> Iterator[Any]:
            while True:
                yield {}

    monkeypatch.setattr(process.a._execution, "_stage", Endless())
    monkeypatch.setattr(process.a._execution, "parted", True)
    came: list[Message] = []
    looks = iter([(), (Fences(1, 5, (Fence(7, 0),)),), (Fences(1, 4, (Fence(7, 0),)),)])
    monkeypatch.setattr(process.a, "_came", lambda: [came.extend(next(looks)), came][1])
    process.a.add([process.order(7, 4)])
    assert process.a.step(now())
    assert len(came) == 2
    (said,) = [each for each in process.said() if isinstance(each, Notices)]
    assert [(notice.request, notice.code) for notice in said.notices] == [(7, "Cancelled")]


def test_what_another_scheduler_ordered_is_forgotten(process: Process) -> None:
    process.a.add([process.order(7, 4, 5)])
    process.a.step(now())
    for replica in process.replicas:
        replica.forget()
    assert not any(replica.step(now() + LATE_NS) for replica in process.replicas)
    assert process.said() == []


def test_a_batch_that_waits_for_the_one_before_it_is_not_counted_as_computed(process: Process) -> None:
    over: set[int] = set()

    class Later:
        inputs = outputs = (X,)
        concurrency = 2

        def start(self, batch: Batch) -> int:
            return id(batch)

        def done(self, token: int) -> bool:
            return token in over

        def process(self, batch: Batch) -> None:
            raise AssertionError

    replica, record = process.a, process.records[0]
    replica._execution._stage = Later()  # type: ignore[assignment]
    replica.concurrency = 2
    for request in (7, 8):
        replica.add([process.order(request, 4)])
        assert replica.step(now() + 10**9)
    first, second = replica.flights
    assert record.since == first.began
    over.add(first.token)
    landed = now()
    assert replica.step(now())
    assert (record.running, second.began < landed <= record.since) == ((8,), True)
    over.add(second.token)
    assert replica.step(now())
    assert record.running == ()


class Paced:
    """Many batches at once, which end when they are told to; counts which were asked for."""

    inputs = outputs = (X,)
    concurrency = 9

    def __init__(self) -> None:
        self.over: set[int] = set()
        self.begun: list[int] = []
        self.asked: list[int] = []

    def start(self, batch: Batch) -> int:
        self.begun.append(len(self.begun))
        return self.begun[-1]

    def done(self, token: int) -> bool:
        self.asked.append(token)
        return token in self.over

    def process(self, batch: Batch) -> None:
        raise AssertionError


@pytest.fixture
def paced(process: Process) -> Paced:
    """With nine batches under way in `process.a`."""
    stage = Paced()
    process.a._execution._stage = stage
    process.a.concurrency = stage.concurrency
    for request in range(9):
        process.a.add([process.order(request, 4)])
        assert process.a.step(now() + 10**9)
    stage.asked.clear()
    return stage


def test_while_there_is_work_few_are_asked_for_and_each_in_turn(process: Process, paced: Paced) -> None:
    for step in range(8):
        paced.over.add(step)
        process.a.add([process.order(20 + step, 4)])
        asked = len(paced.asked)
        assert process.a.step(now() + 10**9)
        assert len(paced.asked) - asked <= 3
    assert set(paced.asked) > set(range(9))


def test_a_batch_that_takes_long_does_not_hold_others_up(process: Process, paced: Paced) -> None:
    # All but the oldest end, while there is always something to begin.
    paced.over |= set(range(1, 200))
    for request in range(100, 140):
        process.a.add([process.order(request, 4)])
        assert process.a.step(now() + 10**9)
    assert process.a.flights[0].token == 0
    assert [flight.token for flight in process.a.flights[1:]] == list(range(41, 49))


def test_who_has_nothing_to_do_asks_all(process: Process, paced: Paced) -> None:
    assert not process.a.step(now())
    paced.over |= {3, 5, 8}
    paced.asked.clear()
    assert process.a.step(now())
    assert paced.asked == list(range(9))
    assert [flight.token for flight in process.a.flights] == [0, 1, 2, 4, 6, 7]


def test_memory_is_shown_to_the_stages_that_touch_it(process: Process) -> None:
    assert [process.a.touches(pool) for pool in ("ingress/0", "a", "b")] == [True, True, False]


def flight_of(group: int) -> Flight:
    """A batch in flight of one row."""
    batch = Batch(1, {}, {}, lambda *_: pytest.fail("allocated"), lambda *_: pytest.fail("allocated"))
    rows = [Waiting(Order(0, 0, 0, group, Hop(0, 0, 0, 0, 0, False, (), ()), b"", ""), 0)]
    return Flight(rows, (), Filling(SegmentTable(), {}, 0, rows), batch, 0)


@pytest.mark.parametrize(
    ("flying", "suspects", "expected"),
    [
        (([], []), (), True),
        (([0, 0], [0]), (), True),
        (([], []), (1,), True),
        (([0], []), (1,), False),
        (([], [0]), (0,), False),
        (([3], []), (), False),
        (([], [3]), (), False),
    ],
)
def test_suspects_are_computed_with_nothing_beside_them(
    process: Process, flying: tuple[list[int], list[int]], suspects: tuple[int, ...], expected: bool
) -> None:
    for replica, groups in zip(process.replicas, flying):
        replica.flights = [flight_of(group) for group in groups]
    for index in suspects:
        process.replicas[index].add([process.order(index, 4 + index, group=1)])
    assert may_begin(process.replicas) is expected


def test_columns_are_in_flight_beside_other_batches(process: Process) -> None:
    class Later:
        def __init__(self) -> None:
            self.over: set[int] = set()
            self.begun: list[int] = []

        def start(self, batch: Batch) -> int:
            self.begun.append(len(batch))
            return len(self.begun)

        def done(self, token: int) -> bool:
            return token in self.over

    stage = Later()
    process.a._lean._stage = process.a._execution._stage = stage  # type: ignore[assignment]
    process.a.concurrency = 2
    assert process.a.batcher.lean
    process.a.add_columns([process.columns(7, 8, 9)])
    assert [process.a.step(now()) for _ in range(3)] == [True, True, False]
    assert (stage.begun, [flight.requests for flight in process.a.flights]) == ([2, 1], [[7, 8], [9]])
    assert may_begin(process.replicas)
    process.b.add([process.order(1, 5, group=1)])
    assert not may_begin(process.replicas)
    stage.over = {1, 2}
    assert process.a.step(now())
    assert (process.a.flights, process.a.batcher.flying) == ([], 0)
    told = [each for message in process.said() for each in message.columns]  # type: ignore[union-attr]
    assert [longs(each.requests) for each in told] == [[7, 8], [9]]


def test_very_many_notices_are_several_messages_of_which_each_fits_a_frame(process: Process) -> None:
    text, traceback = "\U0001f4a5" * (LONGEST_MESSAGE + 100), "\U0001f4a5" * (LONGEST_TRACEBACK + 100)
    notices = [Notice(number, 0, "StageFailed", text, (), b"", (), 0, 0, 0, traceback) for number in range(300)]
    process.a.tell_late(notices)
    said = process.said()
    assert [notice for message in said for notice in message.notices] == notices  # type: ignore[union-attr]
    assert max(len(encode(message)) for message in said) < MAX_FRAME_BYTES


def test_what_a_stage_did_not_mean_to_raise_is_printed_before_its_answer_leaves(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails:
        def process(self, batch: Batch) -> None:
            raise ValueError("on purpose")

    class Stderr(io.StringIO):
        def write(self, text: str) -> int:
            heard.extend(process.scheduler.receive(20))
            return super().write(text)

    heard: list[Any] = []
    stderr = Stderr()
    monkeypatch.setattr(sys, "stderr", stderr)
    process.a._execution._stage = Fails()  # type: ignore[assignment]
    process.a.add([process.order(7, 4)])
    process.a.step(now())
    first = stderr.getvalue()
    assert "ValueError: on purpose" in first
    assert "Traceback (most recent call last):" in first
    assert heard == []
    assert [notice.code for notice in process.said()[0].notices] == ["StageFailed"]  # type: ignore[union-attr]
    for request in (8, 9):
        process.a.add([process.order(request, 4)])
        process.a.step(now())
    assert stderr.getvalue() == first
    process.a.close()
    assert "again, 2 times: ValueError (test_replica.py:" in stderr.getvalue()[len(first) :]


def test_a_teardown_that_fails_is_told_and_keeps_nothing_from_being_said(
    process: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fails:
        def teardown(self) -> None:
            raise ValueError("on purpose")

    process.a.add([process.order(7, 4)])
    process.a.step(now())
    process.a._stage = Fails()  # type: ignore[assignment]
    process.a.close()
    assert "stage a: teardown failed: ValueError: on purpose (test_replica.py:" in capsys.readouterr().err
    assert WorkerReport in [type(message) for message in process.said()]


def test_what_is_under_way_is_known_by_its_stage_and_labels(process: Process) -> None:
    assert process.a.under_way() == ("", [])
    order = replace(process.order(7, 4), label="3fa9c-7 cat.jpg")
    process.a._execution.under_way = [Waiting(order, 0)]
    assert process.a.under_way() == ("a", ["3fa9c-7 cat.jpg"])
