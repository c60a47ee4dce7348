"""The spans of a request: which there are, below which, and when."""

from __future__ import annotations

from typing import Any

from pipeline.tracing.spans import Batch, Names, Span, spans_of
from pipeline.wire.records import Ended, Note, Step, Trace
from pipeline.wire.span_ids import SpanIds
from pipeline.wire.traces import packed

MS = 1_000_000
IDS = SpanIds("seed", 1.0)
NAMES = Names("detect", ["resize", "infer"], {4: "resize/0", 5: "infer/0"})
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def ran(stage: int, began: int, took: int, queue: int = 0, batch: int = 1) -> Trace:
    """Times are milliseconds."""
    return Trace(stage, queue * 1000, took * 1000, batch, 12, 0, began * MS)


def ended(*traces: Trace, children: tuple[int, ...] = (), **more: Any) -> Ended:
    """Of a request that came after 10 ms and was answered after 100; a trace of stage s is worker 4 + s's."""
    of = children or (-1,) * len(traces)
    steps = tuple(
        Step(t.stage, 4 + t.stage, child, t.began + t.compute_us * 1000 + 1) for t, child in zip(traces, of)
    )
    given: dict[str, Any] = {"code": "", "message": "", "started": 0, "attempt": 0, "traceparent": "", "steps": steps} | more
    return Ended(
        "3fa9c-17 cat.jpg", "app.py", submitted=10 * MS, ended=100 * MS, traces=b"".join(map(packed, traces)), **given
    )


def made(*traces: Trace, **more: Any) -> list[Span]:
    spans = spans_of(ended(*traces, **more), IDS, NAMES)
    # An id is one span's, and every parent is among them or outside.
    assert len({span.context.span_id for span in spans}) == len(spans)
    known = {span.context.span_id for span in spans}
    assert all(span.parent in known for span in spans[1:])
    assert all(span.begin <= span.end for span in spans)
    return spans


def parent_of(span: Span, spans: list[Span]) -> str:
    return next(each.name for each in spans if each.context.span_id == span.parent)


def test_a_request_is_a_span_with_its_stages_below_and_their_queues_and_computations_below_those() -> None:
    spans = made(ran(0, 20, 5, queue=3), ran(1, 40, 30, queue=10, batch=4))
    assert [(span.name, span.begin // MS, span.end // MS) for span in spans] == [
        ("detect", 10, 100),
        ("resize", 17, 25), ("resize queue", 17, 20), ("resize compute", 20, 25),
        ("infer", 30, 70), ("infer queue", 30, 40), ("infer compute", 40, 70),
    ]  # fmt: skip
    assert [parent_of(span, spans) for span in spans[1:]] == [
        "detect", "resize", "resize", "detect", "infer", "infer",
    ]  # fmt: skip
    assert spans[0].parent == 0
    assert [span.is_root for span in spans] == [True] + [False] * 6
    assert spans[0].attributes == {
        "trtlab.request.id": "3fa9c-17", "trtlab.request.name": "cat.jpg", "trtlab.client": "app.py", "trtlab.rows": 1,
    }  # fmt: skip
    assert spans[6].attributes == {
        "trtlab.stage": "infer", "trtlab.worker": "infer/0", "trtlab.batch.size": 4, "trtlab.copied_bytes": 12,
    }  # fmt: skip
    assert spans[6].batch == Batch(1, 5, 40 * MS)


def test_its_span_is_a_child_of_the_callers() -> None:
    root, *_ = made(ran(0, 20, 5), traceparent=TRACEPARENT)
    assert (root.context.trace_id, root.parent) == (0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331)


def test_a_stage_hands_on_the_id_of_the_span_of_its_computation() -> None:
    spans = made(ran(0, 20, 5), ran(1, 40, 5), traceparent=TRACEPARENT)
    onward = IDS.onward("3fa9c-17 cat.jpg", TRACEPARENT, 1)
    assert str(next(span for span in spans if span.name == "infer compute").context) == onward
    child = made(ran(1, 40, 5), children=(3,))
    assert str(child[-1].context) == IDS.onward("3fa9c-17/3 cat.jpg", "", 1)


def test_it_begins_when_its_client_began_with_it() -> None:
    root, *_ = made(started=4 * MS)
    assert (root.begin, root.events) == (4 * MS, [(10 * MS, "submitted")])


def test_a_request_that_failed_has_the_code_and_why() -> None:
    (root,) = made(code="Overloaded", message="too many wait")
    assert (root.attributes["error.type"], root.error) == ("Overloaded", "too many wait")


def test_each_child_has_a_span_with_what_was_computed_of_it_and_none_has_the_id_of_another() -> None:
    spans = made(ran(0, 20, 5), ran(1, 40, 5), ran(1, 50, 8), children=(-1, 0, 1))
    children = [span for span in spans if span.name == "child"]
    assert [(span.attributes["trtlab.child"], span.begin // MS, span.end // MS) for span in children] == [
        (0, 40, 45), (1, 50, 58),
    ]  # fmt: skip
    assert [parent_of(span, spans) for span in spans if span.name == "infer"] == ["child", "child"]
    # Of children of children the positions may be the same.
    made(ran(1, 40, 5), ran(1, 50, 8), children=(0, 0))


def test_attempts_are_spans_once_there_are_several_and_say_why_each_ended() -> None:
    notes = (Note(50 * MS, "suspected", -1, 60 * MS), Note(50 * MS, "worker 4 died", -1, 60 * MS))
    spans = made(ran(0, 20, 5), ran(1, 65, 5), notes=notes)
    first, second = [span for span in spans if span.name == "attempt"]
    assert (first.begin // MS, first.end // MS, first.error) == (10, 50, "suspected; worker 4 died")
    assert (second.begin // MS, second.end // MS, second.error) == (60, 100, None)
    stages = {span.name: span.parent for span in spans if span.name in ("resize", "infer")}
    assert stages == {"resize": first.context.span_id, "infer": second.context.span_id}
    assert spans[0].events == [(50 * MS, "suspected"), (50 * MS, "worker 4 died")]


def test_a_note_after_which_nothing_was_ordered_begins_no_attempt() -> None:
    assert [span.name for span in made(notes=(Note(50 * MS, "worker 4 died", -1, 0),))] == ["detect"]


def test_a_worker_that_is_not_known_is_called_by_its_number_and_one_that_was_not_told_is_left_out() -> None:
    spans = made(ran(0, 20, 5), steps=(Step(0, 77, -1, 30 * MS),))
    assert spans[1].attributes["trtlab.worker"] == "worker 77"
    spans = made(ran(0, 20, 5), steps=())
    assert "trtlab.worker" not in spans[1].attributes
