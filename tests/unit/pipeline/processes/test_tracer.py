"""Which requests the tracer makes spans of, and what it knows of their workers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from pipeline.graph.plan import Plan, TracingPlan
from pipeline.processes.tracer import Tracer
from pipeline.tracing.batches import HELD_NS
from pipeline.tracing.waiting import Waiting
from pipeline.wire.messages import Observed
from pipeline.wire.records import Ended, Step, Trace
from pipeline.wire.traces import packed

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0{}"


def ended(number: int, traceparent: str = "") -> Ended:
    trace = Trace(0, 1, 2, 1, 0, 0, 1000)
    return Ended(f"a-{number}", "app.py", "", "", 500, 9000, 0, 0, traceparent, packed(trace), (Step(0, 4, -1, 8000),))


def tracer(sample: float) -> tuple[Tracer, Waiting]:
    waiting = Waiting(1000, fill_s=0.0)
    fields: dict[str, Any] = {
        "name": "detect", "stages": (SimpleNamespace(name="infer"),), "tracing": TracingPlan(sample=sample, seed="seed"),
    }  # fmt: skip
    return Tracer(cast("Plan", SimpleNamespace(**fields)), waiting), waiting


def test_only_sampled_requests_have_spans_and_they_are_held_for_a_second() -> None:
    made, waiting = tracer(0.0)
    made.take(Observed(1, (ended(1), ended(2, TRACEPARENT.format(0)), ended(3, TRACEPARENT.format(1))), 5), now=0)
    made.pass_on(HELD_NS - 1)
    assert waiting.left == 0
    made.pass_on(HELD_NS)
    spans = waiting.take()
    assert [span.name for span in spans] == ["detect", "infer", "infer queue", "infer compute"]
    assert spans[0].attributes["trtlab.request.id"] == "a-3"
    assert waiting.missed == 5


def test_at_the_end_nothing_is_held_back() -> None:
    made, waiting = tracer(1.0)
    made.take(Observed(1, (ended(1),), 0), now=0)
    made.pass_on(0, everything=True)
    assert len(waiting.take()) == 4


def test_a_worker_that_is_new_is_asked_for_once() -> None:
    made, waiting = tracer(1.0)
    found = Observed(1, (ended(1),), 0)
    assert made.is_new(found)
    made.learn({4: "infer/0"})
    assert not made.is_new(found)
    made.take(found, now=0)
    made.pass_on(0, everything=True)
    assert waiting.take()[1].attributes["trtlab.worker"] == "infer/0"
