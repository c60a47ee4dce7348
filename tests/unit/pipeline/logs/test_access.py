from __future__ import annotations

import json
from typing import Any

from pipeline.logs.access import access_json, access_text
from pipeline.wire.records import Ended, Trace
from pipeline.wire.traces import packed

MS = 1_000_000
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def ended(*traces: Trace, **more: Any) -> Ended:
    given: dict[str, Any] = {
        "label": "3fa9c-17 cat.jpg", "client": "app.py", "code": "", "message": "", "submitted": 0, "ended": 12 * MS,
        "started": 0, "attempt": 1, "traceparent": "", "traces": b"".join(map(packed, traces)), "steps": (),
    }  # fmt: skip
    return Ended(**given | more)


STAGES = ["resize", "detect"]
TWO = (Trace(0, 120, 340, 4, 0), Trace(1, 80, 9000, 8, 64))


def test_a_request_is_one_line_with_what_each_stage_did() -> None:
    assert access_text(ended(*TWO), STAGES) == (
        "access | 3fa9c-17 (cat.jpg) of app.py: OK in 12.00 ms; resize 120+340 us of 4, detect 80+9000 us of 8"
    )
    assert json.loads(access_json(ended(*TWO), STAGES, 0.0, "demo", "demo-7")) == {
        "time": "1970-01-01T00:00:00.000Z", "level": "info", "pipeline": "demo", "run": "demo-7", "process": "access",
        "request": "3fa9c-17", "name": "cat.jpg", "client": "app.py", "code": "OK", "total_ms": 12.0,
        "stages": {
            "resize": {"queue_us": 120, "compute_us": 340, "batch": 4},
            "detect": {"queue_us": 80, "compute_us": 9000, "batch": 8},
        },
    }  # fmt: skip


def test_what_went_wrong_and_whose_trace_it_is_are_told_if_there_is_anything_to_tell() -> None:
    failed = ended(
        label="3fa9c-17", client="", code="StageCrashed", message="killed\nby 9", attempt=2, traceparent=PARENT, rows=3
    )  # fmt: skip
    assert access_text(failed, STAGES) == (
        f"access | 3fa9c-17 of a client that has gone: StageCrashed in 12.00 ms; rows: 3; attempts: 2; {PARENT}; killed by 9"
    )
    found = json.loads(access_json(failed, STAGES, 0.0, "demo", "demo-7"))
    assert (found["code"], found["message"], found["attempts"], found["rows"]) == ("StageCrashed", "killed\nby 9", 2, 3)
    assert (found["traceparent"], found["stages"], "name" in found) == (PARENT, {}, False)


def test_of_the_children_of_a_stage_the_one_with_the_slowest_batch_is_told() -> None:
    line = access_text(ended(Trace(1, 1, 10, 1, 0), Trace(1, 2, 30, 2, 0), Trace(1, 3, 20, 3, 0)), STAGES)
    assert line.endswith("; detect 2+30 us of 2")
