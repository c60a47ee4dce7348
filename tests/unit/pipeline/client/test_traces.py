"""The traces of an answer, stage by stage."""

from __future__ import annotations

from pipeline.client.traces import by_stage
from pipeline.wire.messages import Trace


def test_the_runs_of_a_stage_are_put_together() -> None:
    traces = [Trace(0, 500, 2000, 1, 0), Trace(1, 300, 1000, 4, 10), Trace(1, 700, 3000, 2, 5)]
    assert by_stage(traces, ["split", "read", "skipped"]) == {
        "split": {"queue_ms": 0.5, "compute_ms": 2.0, "batch": 1, "copied_bytes": 0, "runs": 1},
        "read": {"queue_ms": 0.7, "compute_ms": 4.0, "batch": 4, "copied_bytes": 15, "runs": 2},
    }
