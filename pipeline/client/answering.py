"""Answers: how one becomes its future's, by steps that may be repeated, and what it tells of the stages."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.client.connection import Connection, Lease
from pipeline.client.future import Future
from pipeline.wire.messages import Answer, SlotRef

__all__ = ["fill", "traces_of"]


def fill(future: Future | None, answer: Answer, connection: Connection, now: int) -> None:
    """Give an answer to its future, or its slots back where the future was dropped. Again: nothing.

    Whatever is raised in the middle of it: no slot is given back that the future will have, and none is forgotten.

    Args:
        now: monotonic nanoseconds.
    """
    if future is not None and future.done():
        return
    leases: dict[SlotRef, Lease] = {} if future is None else future.leases
    for handle in answer.outputs:
        if isinstance(handle, int):
            continue  # MISSING: the stage that makes it was skipped
        slot = SlotRef(handle.segment, handle.slot, handle.generation)
        if slot not in leases:
            leases[slot] = Lease(slot, connection)
    for lease in leases.values():
        # Not before the future has it: an armed lease that is dropped gives its slot back.
        connection.arm(lease)
    if future is not None and not answer.last:
        if answer.part == len(future.parts):
            # Its slot is the future's until the last part has come: the scheduler counts on that.
            future.parts.append(answer)
    elif future is not None:
        future.answer = answer
        # Last: now it is done.
        future.answered_ns = now


def traces_of(answer: Answer, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """For each stage that ran: queue_ms, compute_ms, batch, copied_bytes, runs (see `Result.stages`)."""
    stages: dict[str, dict[str, float]] = {}
    for trace in answer.trace:
        stage = stages.setdefault(
            names[trace.stage], {"queue_ms": 0.0, "compute_ms": 0.0, "batch": 0, "copied_bytes": 0, "runs": 0}
        )
        # Behind a stage that fans out, several times for one request.
        stage["queue_ms"] = max(stage["queue_ms"], trace.queue_us / 1000)
        stage["compute_ms"] += trace.compute_us / 1000
        stage["batch"] = max(stage["batch"], trace.batch)
        stage["copied_bytes"] += trace.copied
        stage["runs"] += 1
    return stages
