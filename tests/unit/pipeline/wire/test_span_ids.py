"""Which trace a request is part of, and whether that is exported; ids that two processes compute alike."""

from __future__ import annotations

from pipeline.wire.span_ids import REQUEST, SpanIds, compute
from pipeline.wire.traceparent import Context, context_of

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0{}"


def test_what_the_caller_has_decided_holds_whatever_the_sample_is() -> None:
    for sample in (0.0, 1.0):
        ids = SpanIds("seed", sample)
        assert ids.context("a-1", TRACEPARENT.format(1)).sampled
        assert not ids.context("a-1", TRACEPARENT.format(0)).sampled


def test_of_the_traces_that_begin_here_about_the_sample_is_exported_and_children_go_with_their_request() -> None:
    ids = SpanIds("seed", 0.25)
    found = [ids.context(f"a-{number} name", "") for number in range(4000)]
    assert 800 < sum(each.sampled for each in found) < 1200
    assert len({each.trace_id for each in found}) == 4000
    assert ids.context("a-7/3/1 name", "") == found[7]
    assert [SpanIds("seed", sample).context("a-1", "").sampled for sample in (0.0, 1.0)] == [False, True]


def test_ids_are_the_same_in_two_processes_of_a_run_and_others_in_another_run() -> None:
    one, two, other = SpanIds("seed", 1.0), SpanIds("seed", 1.0), SpanIds("another", 1.0)
    assert one.span("a-1", compute(0)) == two.span("a-1", compute(0)) != other.span("a-1", compute(0))
    assert one.context("a-1", "").trace_id != other.context("a-1", "").trace_id
    assert len({one.span(place, what) for place in ("a-1", "a-1/0") for what in (REQUEST, compute(0), compute(1))}) == 6


def test_a_stage_hands_on_its_own_span_in_the_trace_of_its_request() -> None:
    ids = SpanIds("seed", 0.0)
    onward = context_of(ids.onward("a-1 name", TRACEPARENT.format(1), 2))
    assert onward == Context(0x0AF7651916CD43DD8448EB211C80319C, ids.span("a-1", compute(2)), True)
    begun = context_of(ids.onward("a-1 name", "", 2))
    assert begun == ids.context("a-1", "")._replace(span_id=ids.span("a-1", compute(2)))
