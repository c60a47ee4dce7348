"""Trace events: what has ended in a run, as Chrome's trace event format has it, for Perfetto. Pure.

    requests    lane 1   [ 3fa9c-17 (cat.jpg) ----------------------------- ]
                          [queue resize][resize]   [queue infer][infer     ]
                                 \\ flow                 \\ flow
    resize/0    lane 1         [ batch of 4 ]
    infer/0     lane 1                                 [ batch of 8 ]

A process of the run is a process there, a batch a slice, a request a slice with arrows to its batches. Slices of one
lane never overlap: what runs side by side has lanes of its own.

The format: "Trace Event Format", Google, 2016, of chrome://tracing (events M, X, s, t, f, i).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.wire.records import Ended, Trace
from pipeline.wire.traces import traces_in
from stages.request import RequestInfo

__all__ = ["trace_of"]

_REQUESTS = 1
"""The process number of the requests."""


@dataclass(slots=True)
class _Batch:
    """What a worker computed in one call."""

    trace: Trace
    workers: Counter[int] = field(default_factory=Counter)
    """The workers that its requests name; it has been one."""
    requests: list[tuple[int, str]] = field(default_factory=list)
    """Of each its number here, and its id."""

    @property
    def worker(self) -> int:
        return self.workers.most_common(1)[0][0]


class _Lanes:
    """Gives each slice the first lane that is free; they come in the order of their beginnings."""

    def __init__(self) -> None:
        self._busy: list[tuple[float, int]] = []
        self._free: list[int] = []
        self.count = 0

    def lane(self, begin: float, end: float) -> int:
        while self._busy and self._busy[0][0] <= begin:
            heapq.heappush(self._free, heapq.heappop(self._busy)[1])
        if self._free:
            lane = heapq.heappop(self._free)
        else:
            self.count += 1
            lane = self.count
        heapq.heappush(self._busy, (end, lane))
        return lane


def trace_of(
    ended: Iterable[Ended], stages: Sequence[str], processes: Mapping[int, str], about: Mapping[str, Any]
) -> dict[str, Any]:
    """The document.

    Args:
        ended: the requests.
        stages: the names of the stages, in the plan's order.
        processes: the titles of the processes, by the numbers of their workers.
        about: what else the document says: the run, and what is missing.
    """
    requests = sorted(ended, key=lambda each: each.submitted)
    first = min([each.submitted for each in requests], default=0)
    batches = _batches_of(requests)
    events: list[dict[str, Any]] = []
    _add_requests(events, requests, stages, first)
    titles = sorted({processes.get(batch.worker, f"worker {batch.worker}") for batch in batches})
    numbers = {title: number for number, title in enumerate(titles, _REQUESTS + 1)}
    _add_batches(events, batches, stages, processes, numbers, first)
    _name(events, _REQUESTS, "requests", 0)
    for title, number in numbers.items():
        _name(events, number, title, number)
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": dict(about)}


def _us(at_ns: int, first: int) -> float:
    return (at_ns - first) / 1000


def _name(events: list[dict[str, Any]], pid: int, title: str, order: int) -> None:
    events.append({"ph": "M", "pid": pid, "tid": 0, "name": "process_name", "args": {"name": title}})
    events.append({"ph": "M", "pid": pid, "tid": 0, "name": "process_sort_index", "args": {"sort_index": order}})


def _computed(each: Ended) -> list[Trace]:
    """What was computed of a request, in the order of the beginnings."""
    return sorted([trace for trace in traces_in(each.traces) if trace.compute_us], key=lambda trace: trace.began)


def _batches_of(requests: Sequence[Ended]) -> list[_Batch]:
    """Every batch, with the requests of these that were in it. One batch of a worker begins at one time."""
    found: dict[tuple[int, int], _Batch] = {}
    for number, each in enumerate(requests):
        steps = sorted(each.steps, key=lambda step: step.at)
        for trace in _computed(each):
            batch = found.setdefault((trace.stage, trace.began), _Batch(trace))
            # The notice of a batch comes after its end; of several children the next one is most likely this one's.
            end = trace.began + trace.compute_us * 1000
            for at, step in enumerate(steps):
                if step.stage == trace.stage and (step.at >= end or not step.at):
                    batch.workers[step.worker] += 1
                    del steps[at]
                    break
            else:
                batch.workers[-1] += 0
            batch.requests.append((number, each.label.partition(" ")[0]))
    return sorted(found.values(), key=lambda batch: batch.trace.began)


def _add_requests(events: list[dict[str, Any]], requests: Sequence[Ended], stages: Sequence[str], first: int) -> None:
    lanes = _Lanes()
    for number, each in enumerate(requests):
        begin, end = _us(each.submitted, first), _us(each.ended, first)
        place = {"pid": _REQUESTS, "tid": lanes.lane(begin, end)}
        args: dict[str, Any] = {"client": each.client, "code": each.code or "OK", "attempts": each.attempt}
        if each.message:
            args["message"] = each.message
        if each.traceparent:
            args["traceparent"] = each.traceparent
        name = str(RequestInfo.parse(each.label))
        slice_ = {**place, "ph": "X", "cat": "request", "name": name, "ts": begin, "dur": end - begin}
        events.append({**slice_, "args": args})
        events += [{**place, **part, "ph": "X", "cat": "stage"} for part in _parts(each, stages, first)]
        if traces := _computed(each):
            events.append({**place, "ph": "s", "cat": "request", "name": "request", "id": number + 1, "ts": begin})
            last = _us(traces[-1].began, first)
            if last < end:
                events.append(
                    {**place, "ph": "f", "bp": "e", "cat": "request", "name": "request", "id": number + 1, "ts": end}
                )
        if each.code:
            events.append({**place, "ph": "i", "s": "t", "cat": "request", "name": each.code, "ts": end})
    for lane in range(1, lanes.count + 1):
        named = {"ph": "M", "pid": _REQUESTS, "tid": lane, "name": "thread_name"}
        events.append({**named, "args": {"name": f"requests {lane}"}})


def _parts(each: Ended, stages: Sequence[str], first: int) -> list[dict[str, Any]]:
    """What the stages did with a request, one after the other; of stages side by side those that overlap no other."""
    found: list[dict[str, Any]] = []
    free = _us(each.submitted, first)
    for trace in _computed(each):
        name, began = stages[trace.stage], _us(trace.began, first)
        ended = began + trace.compute_us
        if began < free or ended > _us(each.ended, first):
            continue
        waited = max(free, began - trace.queue_us)
        if waited < began:
            found.append({"name": f"queue {name}", "ts": waited, "dur": began - waited})
        args = {"batch": trace.batch, "copied_bytes": trace.copied}
        found.append({"name": name, "ts": began, "dur": float(trace.compute_us), "args": args})
        free = ended
    return found


def _add_batches(
    events: list[dict[str, Any]],
    batches: Sequence[_Batch],
    stages: Sequence[str],
    processes: Mapping[int, str],
    numbers: Mapping[str, int],
    first: int,
) -> None:
    lanes: dict[int, _Lanes] = {}
    for batch in batches:
        trace = batch.trace
        pid = numbers[processes.get(batch.worker, f"worker {batch.worker}")]
        begin = _us(trace.began, first)
        place = {"pid": pid, "tid": lanes.setdefault(pid, _Lanes()).lane(begin, begin + trace.compute_us)}
        args = {"stage": stages[trace.stage], "requests": [request for _, request in batch.requests]}
        events.append({
            **place, "ph": "X", "cat": "batch", "name": f"{stages[trace.stage]}: batch of {trace.batch}", "ts": begin,
            "dur": float(trace.compute_us), "args": args,
        })  # fmt: skip
        for number in dict.fromkeys(number for number, _ in batch.requests):
            flow = {**place, "ph": "t", "cat": "request", "name": "request", "id": number + 1}
            events.append({**flow, "ts": begin})
    for pid, used in lanes.items():
        for lane in range(1, used.count + 1):
            named = {"ph": "M", "pid": pid, "tid": lane, "name": "thread_name"}
            events.append({**named, "args": {"name": "batches" if lane == 1 else f"batches {lane}"}})
