"""Spans: what OpenTelemetry is told of a request that has ended. Pure.

    detect                [--------------------------------------------]   the request; its parent is the caller's span
      resize                [-------]                                      a stage: from the arrival in a worker on
        resize queue        [--]                                           until its batch began
        resize compute         [----]  ◀─ link ─▶ the batch mates'         what the batch took
      infer                            [-----------]
        ...
    with retries          detect
                            attempt      [----x]                           with why it ended
                              resize ...
                            attempt            [-----------------------]
    with children         detect
                            child        [---------]                       of a stage that fans out, once for each
                              ocr ...

What is between the spans of two stages is the way from one worker to the next, or a wait in the scheduler. Names follow
OpenTelemetry's advice: few, so that they can be counted; what is special to one request is an attribute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from pipeline.wire.records import Ended, Note, Trace
from pipeline.wire.span_ids import REQUEST, SpanIds, compute, place_of
from pipeline.wire.traceparent import Context
from pipeline.wire.traces import traces_in
from stages.request import RequestInfo

__all__ = ["Batch", "Names", "Span", "spans_of"]

Value = str | int | bool


class Batch(NamedTuple):
    """One batch of a run: a stage begins no two at one time in one worker."""

    stage: int
    worker: int
    """-1: that is not known."""
    began: int


@dataclass(slots=True)
class Span:
    """One span. Times are monotonic nanoseconds."""

    name: str
    context: Context
    parent: int
    """The id of the parent; 0: there is none."""
    begin: int
    end: int
    attributes: dict[str, Value] = field(default_factory=dict)
    events: list[tuple[int, str]] = field(default_factory=list)
    """When, and what."""
    links: Sequence[Context] = ()
    error: str | None = None
    """Why it failed; None: it did not."""
    is_root: bool = False
    """It is the request itself, which the outside has asked for."""
    batch: Batch | None = None
    """Of a computation."""


@dataclass(frozen=True)
class Names:
    """What things are called."""

    pipeline: str
    stages: Sequence[str]
    processes: Mapping[int, str]
    """The titles of the processes, by the numbers of their workers."""


class _Computed(NamedTuple):
    """One stage's part of a request, or of a child."""

    trace: Trace
    worker: int
    child: int

    @property
    def arrived(self) -> int:
        return self.trace.began - self.trace.queue_us * 1000

    @property
    def ended(self) -> int:
        return self.trace.began + self.trace.compute_us * 1000


class _Attempt(NamedTuple):
    begin: int
    end: int
    why: str
    """Why it ended; empty: with the request."""


def spans_of(ended: Ended, ids: SpanIds, names: Names) -> list[Span]:
    """The spans of a request, its own first. Batch mates are not known here: no span has links.

    Args:
        ended: it.
        ids: of the run.
        names: of the run.
    """
    return list(_Spans(ended, ids, names).all())


class _Spans:
    def __init__(self, ended: Ended, ids: SpanIds, names: Names) -> None:
        self._ended, self._ids, self._names = ended, ids, names
        self._place = place_of(ended.label)
        self._caller = ids.context(ended.label, ended.traceparent)
        #: Of each thing that spans are of, how many there were: ids must differ.
        self._used: dict[tuple[str, str], int] = {}

    def all(self) -> Iterator[Span]:
        ended, info = self._ended, RequestInfo.parse(self._ended.label)
        begin = min(ended.started or ended.submitted, ended.submitted)
        root = self._span(self._names.pipeline, self._place, REQUEST, self._caller.span_id, begin, ended.ended)
        root.is_root = True
        root.attributes |= {"trtlab.request.id": info.id, "trtlab.client": ended.client, "trtlab.rows": ended.rows}
        if info.name:
            root.attributes["trtlab.request.name"] = info.name
        if begin < ended.submitted:
            root.events.append((ended.submitted, "submitted"))
        root.events += [(note.at, note.text) for note in ended.notes]
        if ended.code:
            root.attributes["error.type"] = ended.code
            root.error = ended.message
        yield root
        parts = _computed(ended)
        for child, own in groupby(sorted(parts, key=lambda part: part.child), key=lambda part: part.child):
            yield from self._family(root, child, list(own))

    def _family(self, root: Span, child: int, parts: list[_Computed]) -> Iterator[Span]:
        """What was computed of the request itself (-1), or of one child."""
        above, place = root, self._place
        if child >= 0:
            place = f"{place}/{child}"
            begin, end = min(part.arrived for part in parts), max(part.ended for part in parts)
            above = self._span("child", place, REQUEST, root.context.span_id, begin, end)
            above.attributes["trtlab.child"] = child
            yield above
        notes = [note for note in self._ended.notes if note.child == child]
        attempts = _attempts(notes, above.begin, max(above.end, above.begin))
        spans = []
        for number, each in enumerate(attempts):
            span = self._span("attempt", place, f"attempt {number}", above.context.span_id, each.begin, each.end)
            span.attributes["trtlab.attempt"] = number
            span.error = each.why or None
            spans.append(span)
        yield from spans
        for part in sorted(parts, key=lambda part: part.trace.began):
            within = [span for span in spans if span.begin <= part.trace.began]
            yield from self._stage(within[-1] if within else above, place, part)

    def _stage(self, above: Span, place: str, part: _Computed) -> Iterator[Span]:
        trace = part.trace
        name = self._names.stages[trace.stage]
        stage = self._span(name, place, f"stage {trace.stage}", above.context.span_id, part.arrived, part.ended)
        stage.attributes["trtlab.stage"] = name
        if part.worker >= 0:
            stage.attributes["trtlab.worker"] = self._names.processes.get(part.worker, f"worker {part.worker}")
        yield stage
        own = stage.context.span_id
        yield self._span(f"{name} queue", place, f"queue {trace.stage}", own, part.arrived, trace.began)
        computed = self._span(f"{name} compute", place, compute(trace.stage), own, trace.began, part.ended)
        computed.attributes |= {
            **stage.attributes, "trtlab.batch.size": trace.batch, "trtlab.copied_bytes": trace.copied,
        }  # fmt: skip
        computed.batch = Batch(trace.stage, part.worker, trace.began)
        yield computed

    def _span(self, name: str, place: str, what: str, parent: int, begin: int, end: int) -> Span:
        again = self._used.get((place, what), 0)
        self._used[place, what] = again + 1
        # The first is the one that a worker has handed on.
        span_id = self._ids.span(place, f"{what} again {again}" if again else what)
        return Span(name, self._caller._replace(span_id=span_id), parent, begin, max(begin, end))


def _computed(ended: Ended) -> list[_Computed]:
    """What was computed, each with its worker and child, as far as the scheduler has heard."""
    steps = sorted(ended.steps, key=lambda step: step.at)
    found = []
    for trace in sorted(traces_in(ended.traces), key=lambda trace: trace.began):
        if not trace.began:
            continue
        end = trace.began + trace.compute_us * 1000
        # The notice of a batch comes after its end; of several children the next one is most likely this one's.
        for at, step in enumerate(steps):
            if step.stage == trace.stage and (step.at >= end or not step.at):
                found.append(_Computed(trace, step.worker, step.child))
                del steps[at]
                break
        else:
            found.append(_Computed(trace, -1, -1))
    return found


def _attempts(notes: Sequence[Note], begin: int, end: int) -> list[_Attempt]:
    """The attempts of a request that was ordered again; none, if it was not."""
    found = []
    for again, same in groupby([note for note in notes if note.again], key=lambda note: note.again):
        said = list(same)
        found.append(_Attempt(begin, said[0].at, "; ".join(note.text for note in said)))
        begin = again
    return [*found, _Attempt(begin, end, "")] if found else []
