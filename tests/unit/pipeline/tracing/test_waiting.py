"""The queue before the collector: bounded, counted, and over at the end."""

from __future__ import annotations

import threading

from pipeline.tracing.spans import Span
from pipeline.tracing.waiting import BATCH, Waiting
from pipeline.wire.traceparent import Context


def spans(count: int) -> list[Span]:
    return [Span("infer", Context(1, number + 1, True), 0, 0, 1) for number in range(count)]


def test_spans_go_in_exports_of_bounded_size_in_their_order() -> None:
    waiting = Waiting(10_000, fill_s=0.0)
    made = spans(BATCH + 3)
    waiting.put(made)
    assert waiting.take() + waiting.take() == made
    assert waiting.left == BATCH + 3
    waiting.exported += BATCH
    waiting.failed += 3
    assert (waiting.left, waiting.counts) == (0, (BATCH, 0, 3, 0))


def test_a_request_for_whose_spans_there_is_no_room_is_dropped_whole_and_counted() -> None:
    waiting = Waiting(5, fill_s=0.0)
    waiting.put(spans(3))
    waiting.put(spans(3))
    waiting.put(spans(2))
    assert (waiting.dropped, len(waiting.take())) == (3, 5)


def test_an_export_waits_for_spans_and_the_end_lets_it_go() -> None:
    waiting = Waiting(100, fill_s=60.0)
    found: list[list[Span]] = []
    thread = threading.Thread(target=lambda: found.extend([waiting.take(), waiting.take()]))
    thread.start()
    waiting.put(spans(2))
    waiting.end()
    thread.join()
    assert [len(each) for each in found] == [2, 0]
