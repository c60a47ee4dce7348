"""Answering: how an answer gets to its future, by steps that may be repeated, and what it tells of the stages; and
whether its result is of views or of copies."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from pipeline.client.copies import KEPT, UNREAD
from pipeline.client.future import Pending
from pipeline.client.leases import Lease, Leases
from pipeline.client.result import COPIED_BYTES, Result
from pipeline.errors import InvalidRequest
from pipeline.wire.messages import OK, Answer, SlotRef
from pipeline.wire.traces import traces_in
from shm.errors import HandleRefused

__all__ = ["fill", "move", "result_of", "stages_of", "traces_of"]


def fill(future: Pending | None, answer: Answer, borrowed: Leases, now: int) -> None:
    """Give an answer to its future, or its slots back if the future was dropped. A second call does nothing.

    Whatever is raised in the middle of it, no slot is given back that the future will have, and none is forgotten.

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
            leases[slot] = Lease(slot, borrowed)
    for lease in leases.values():
        # Not before the future has it: an armed lease that is dropped gives its slot back.
        borrowed.arm(lease)
    if future is not None and not answer.last:
        # Its slot is the future's until the last part has come: the scheduler counts on that.
        future.received.setdefault(answer.part, answer)
    elif future is not None:
        future.answer = answer
        # Last: now it is done.
        future.answered_ns = now


def result_of(
    pending: Pending, copied_bytes: int = COPIED_BYTES, part: Answer | None = None, *, briefly: bool = False
) -> Result:
    """The outputs of an answered request: views, or copies if the client's results hold enough slots already.

    Args:
        part: of an answer that comes in parts, the one whose outputs are meant.
        copied_bytes: outputs of up to this many bytes are copied out of their slots.
        briefly: the result is dropped at once, so that it may hold its slots.

    Raises:
        HandleRefused: a slot of it is not what the answer says.
    """
    moved = pending.moved.get(None if part is None else part.part)
    if moved is not None:
        return moved
    reason = KEPT if not briefly and pending.borrowed.read_enough(pending.rows > 1) else None
    return _result(pending, copied_bytes, part, reason)


def _result(pending: Pending, copied_bytes: int, part: Answer | None, reason: str | None) -> Result:
    answer, table = part or pending.answer, pending.table
    assert answer is not None
    assert table is not None
    interface = pending.interface
    names = tuple([tensor.name for tensor in interface.outputs])
    stages = traces_of(answer, interface.stages)
    number = None if part is None else part.part
    outputs = answer.outputs
    if pending.rows == 1:
        outputs = tuple([h if isinstance(h, int) else h._replace(shape=(1, *h.shape)) for h in outputs])
    elif pending.rows:
        for lease in pending.leases.values():
            lease.several = True
    return Result(
        names, outputs, pending.leases, table, pending.borrowed, stages, copied_bytes, number, reason
    )  # fmt: skip


def move(pending: Pending) -> bool:
    """Copy the outputs of a request that is over into this process's memory, and give its slots back; whether it held
    any. Its results are made by that."""
    if not pending.leases or pending.table is None:
        return False
    parts: list[Answer | None] = [*pending.received.values()]
    if not parts:
        answer = pending.answer
        parts = [None] if answer is not None and answer.code == OK else []
    # A slot that is not what the answer says is told when the answer is read; and so is an encoding that is none.
    with suppress(HandleRefused, InvalidRequest):
        moved = {
            None if part is None else part.part: _result(pending, COPIED_BYTES, part, UNREAD) for part in parts
        }
        # In this order: whatever is raised in between, what is read later is one or the other.
        pending.moved = moved
        pending.give_back()
    return True


def stages_of(rows: Sequence[Result]) -> dict[str, dict[str, float]]:
    """As `traces_of`, of the requests of a batch together."""
    stages: dict[str, dict[str, float]] = {}
    for row in rows:
        for name, one in row.stages.items():
            stage = stages.setdefault(name, dict.fromkeys(one, 0))
            for field, value in one.items():
                stage[field] = max(stage[field], value) if field in ("queue_ms", "batch") else stage[field] + value
    return stages


def traces_of(answer: Answer, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """For each stage that ran: queue_ms, compute_ms, batch, copied_bytes, runs (see `Result.stages`)."""
    stages: dict[str, dict[str, float]] = {}
    for trace in traces_in(answer.trace):
        if trace.stage >= len(names):
            continue  # of no stage of this pipeline
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
