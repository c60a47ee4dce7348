"""The document that Perfetto opens: each event as the format has it, and no two slices of a lane overlap."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from pipeline.watching.trace_events import trace_of
from pipeline.wire.records import Ended, Step, Trace
from pipeline.wire.traces import packed

MS = 1_000_000
NEEDED = {
    "M": {"name", "pid", "tid", "args"}, "X": {"name", "cat", "pid", "tid", "ts", "dur"},
    "s": {"name", "cat", "pid", "tid", "ts", "id"}, "t": {"name", "cat", "pid", "tid", "ts", "id"},
    "f": {"name", "cat", "pid", "tid", "ts", "id", "bp"}, "i": {"name", "pid", "tid", "ts", "s"},
}  # fmt: skip
PROCESSES = {4: "resize/0", 5: "infer/0"}


def request(tag: int, submitted: int, ended: int, *traces: Trace, **more: Any) -> Ended:
    """Times are milliseconds; a trace of stage s is worker 4 + s's."""
    steps = tuple(Step(t.stage, 4 + t.stage, -1, t.began + t.compute_us * 1000 + 1) for t in traces)
    given: dict[str, Any] = {"code": "", "message": "", "attempt": 1, "traceparent": "", "steps": steps} | more
    return Ended(
        f"a-{tag} {tag}.jpg", "app.py", submitted=submitted * MS, ended=ended * MS, started=0,
        traces=b"".join(map(packed, traces)), **given,
    )  # fmt: skip


def ran(stage: int, began_ms: int, took_ms: int, batch: int = 1, queue_ms: int = 0) -> Trace:
    return Trace(stage, queue_ms * 1000, took_ms * 1000, batch, 0, 0, began_ms * MS)


def checked(*ended: Ended) -> list[dict[str, Any]]:
    document = trace_of(ended, ["resize", "infer"], PROCESSES, {"run": "demo-7"})
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    events: list[dict[str, Any]] = document["traceEvents"]
    slices = defaultdict(list)
    for event in events:
        assert NEEDED[event["ph"]] <= event.keys(), event
        assert event.get("ts", 0) >= 0
        assert event.get("dur", 0) >= 0
        if event["ph"] == "X":
            slices[event["pid"], event["tid"]].append((event["ts"], -event["dur"]))
    for each in slices.values():
        # Within a lane a slice is within the one that is open, or behind it.
        open_until: list[float] = []
        for begin, minus in sorted(each):
            while open_until and open_until[-1] <= begin:
                open_until.pop()
            assert not open_until or begin - minus <= open_until[-1] + 1e-6
            open_until.append(begin - minus)
    for event in events:
        if event["ph"] in "stf":
            # An arrow needs a slice to be bound to.
            there = slices[event["pid"], event["tid"]]
            assert any(begin <= event["ts"] <= begin - minus for begin, minus in there), event
    return events


def named(events: list[dict[str, Any]], kind: str, name: str) -> list[dict[str, Any]]:
    return [event for event in events if event["ph"] == kind and event["name"] == name]


def test_processes_are_tracks_batches_slices_and_requests_flow_through_them() -> None:
    together = ran(1, 30, 10, batch=2, queue_ms=5)
    events = checked(
        request(1, 0, 41, ran(0, 2, 3, queue_ms=1), together), request(2, 10, 42, ran(0, 12, 3), together)
    )
    tracks = {event["args"]["name"]: event["pid"] for event in named(events, "M", "process_name")}
    assert list(tracks) == ["requests", "infer/0", "resize/0"]
    (batch,) = named(events, "X", "infer: batch of 2")
    assert (batch["pid"], batch["ts"], batch["dur"]) == (tracks["infer/0"], 30_000, 10_000)
    assert batch["args"]["requests"] == ["a-1", "a-2"]
    assert len(named(events, "X", "resize: batch of 1")) == 2
    first, second = named(events, "X", "a-1 (1.jpg)"), named(events, "X", "a-2 (2.jpg)")
    assert {first[0]["tid"], second[0]["tid"]} == {1, 2}
    flows = [(event["ph"], event["pid"], event["ts"]) for event in events if event.get("id") == 1]
    assert sorted(flows, key=lambda flow: flow[2]) == [
        ("s", 1, 0), ("t", tracks["resize/0"], 2_000), ("t", tracks["infer/0"], 30_000), ("f", 1, 41_000),
    ]  # fmt: skip
    assert [(event["ts"], event["dur"]) for event in named(events, "X", "queue infer")] == [(25_000, 5_000)] * 2


def test_batches_and_stages_that_run_side_by_side_have_lanes_of_their_own_or_none() -> None:
    events = checked(request(1, 0, 50, ran(0, 10, 20), ran(0, 15, 20), ran(1, 20, 5)))
    lanes = {event["ts"]: event["tid"] for event in named(events, "X", "resize: batch of 1")}
    assert lanes == {10_000: 1, 15_000: 2}
    assert len(named(events, "X", "resize")) == 1


def test_a_request_that_failed_says_so_and_one_that_was_not_computed_is_a_slice_alone() -> None:
    events = checked(request(1, 0, 5, code="Overloaded", message="too many", traceparent="00-a"))
    (slice_,) = [event for event in events if event["ph"] == "X"]
    assert slice_["args"] == {
        "client": "app.py", "code": "Overloaded", "attempts": 1, "message": "too many", "traceparent": "00-a",
    }  # fmt: skip
    assert len(named(events, "i", "Overloaded")) == 1
    assert not [event for event in events if event["ph"] in "stf"]


def test_a_worker_that_is_not_known_any_more_has_a_track_too() -> None:
    events = checked(request(1, 0, 9, ran(0, 1, 2), steps=(Step(0, 77, -1, 5 * MS),)), request(2, 0, 9, ran(0, 3, 2), steps=()))
    titles = [event["args"]["name"] for event in named(events, "M", "process_name")]
    assert titles == ["requests", "worker -1", "worker 77"]


def test_nothing_that_has_ended_is_a_document_too() -> None:
    assert [event["ph"] for event in checked()] == ["M", "M"]
