"""What an answer's traces say, stage by stage. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.wire.messages import Trace

__all__ = ["by_stage"]


def by_stage(traces: Iterable[Trace], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """For each stage that ran: queue_ms (the longest), compute_ms (of all runs), batch (the largest), copied_bytes and
    runs.

    Args:
        traces: of one answer; behind a stage that fans out there are several of one stage.
        names: of the plan's stages.
    """
    stages: dict[str, dict[str, float]] = {}
    for trace in traces:
        nothing = {"queue_ms": 0.0, "compute_ms": 0.0, "batch": 0, "copied_bytes": 0, "runs": 0}
        stage = stages.setdefault(names[trace.stage], nothing)
        stage["queue_ms"] = max(stage["queue_ms"], trace.queue_us / 1000)
        stage["compute_ms"] += trace.compute_us / 1000
        stage["batch"] = max(stage["batch"], trace.batch)
        stage["copied_bytes"] += trace.copied
        stage["runs"] += 1
    return stages
