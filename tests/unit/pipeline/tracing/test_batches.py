"""Spans are held for a second, so that batch mates are linked both ways; and how many are held is bounded."""

from __future__ import annotations

import pytest

from pipeline.tracing import batches
from pipeline.tracing.batches import HELD_NS, MOST_LINKS, Batches
from pipeline.tracing.spans import Batch, Span
from pipeline.wire.traceparent import Context

BATCH = Batch(0, 4, 1000)


def computed(number: int, batch: Batch | None = BATCH) -> list[Span]:
    return [Span("infer compute", Context(number, number, True), 0, 0, 1, batch=batch)]


def links(spans: list[Span]) -> list[int]:
    return [link.trace_id for link in spans[0].links]


def test_mates_that_end_within_a_second_are_linked_both_ways_and_a_late_one_to_those_before_it() -> None:
    held = Batches()
    one, two, late = computed(1), computed(2), computed(3)
    held.hold(one, 0)
    held.hold(two, HELD_NS // 2)
    assert list(held.due(HELD_NS - 1)) == []
    assert list(held.due(HELD_NS)) == [one]
    held.hold(late, HELD_NS + 1)
    assert list(held.due(3 * HELD_NS)) == [two, late]
    assert (links(one), links(two), links(late)) == ([2], [1, 3], [1, 2])


def test_another_batch_is_no_mate_nor_is_what_is_no_computation() -> None:
    held = Batches()
    for spans in (computed(1), computed(2, Batch(0, 5, 1000)), computed(3, None)):
        held.hold(spans, 0)
    assert [links(list(spans)) for spans in held.rest()] == [[], [], []]


def test_links_held_requests_and_batches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Batches()
    for number in range(1, 100):
        held.hold(computed(number), 0)
    assert {len(spans[0].links) for spans in held.rest()} == {MOST_LINKS}
    monkeypatch.setattr(batches, "MOST_HELD", 2)
    monkeypatch.setattr(batches, "_MOST_BATCHES", 1)
    for number in range(1, 5):
        held.hold(computed(number, Batch(0, 4, number)), 0)
    assert len(list(held.due(0))) == 2
    held.hold(computed(9, Batch(0, 4, 1)), 0)
    # Its batch was forgotten: a mate that comes so late is not linked.
    assert [links(list(spans)) for spans in held.rest()][-1] == []
