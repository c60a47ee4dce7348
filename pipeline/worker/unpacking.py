"""Unpacking: columns as the orders that they stand for. Pure.

Whatever is not common takes the way of single orders: a batch whose stage has raised, a fence among its rows, a row
that is late. So what columns mean is defined here, by orders, and `pipeline.worker.lean` is only quicker.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.graph.compiled import CompiledStage
from pipeline.wire.columns import Columns, TensorColumn, integers, longs, trace_of
from pipeline.wire.messages import Hop, Known, Order
from pipeline.wire.route import packed
from shm.handle import TensorHandle

__all__ = ["handles_of", "misfit", "orders_of"]


def misfit(columns: Columns, stage: int, stages: Sequence[CompiledStage]) -> str | None:
    """Why a worker of a stage cannot take columns; None if it can."""
    found = [hop.stage for hop in columns.hops]
    if found[0] != stage or not 0 <= min(found) <= max(found) < len(stages):
        return f"expected orders of stage {stage}, found a way through the stages {found}"
    return None


def orders_of(columns: Columns, stages: Sequence[CompiledStage]) -> list[Order]:
    """The orders that columns stand for, one for each row."""
    first, later = columns.hops[0], columns.hops[1:]
    tensors = {column.tensor: handles_of(column) for column in columns.tensors}
    sources = stages[first.stage].sources
    known = dict.fromkeys([t for hop in later for t in stages[hop.stage].sources if t in tensors])
    requests, attempts = longs(columns.requests), integers(columns.attempts)
    slots = [_slots_of(hop.slots, hop.generations, len(requests)) for hop in columns.hops]
    deadlines, started = longs(columns.deadlines), longs(columns.started)
    orders = []
    for row, request in enumerate(requests):
        inputs = tuple([tensors[t][row] if t in tensors else t for t in sources])
        hop = Hop(
            first.stage, first.worker, first.segment, *slots[0][row], stages[first.stage].notifies_at_once, inputs, ()
        )
        route = [packed(hop.stage, 0, hop.worker, hop.segment, *slots[at][row]) for at, hop in enumerate(later, 1)]
        orders.append(
            Order(
                request,
                attempts[row],
                deadlines[row] if deadlines else 0,
                0,
                hop,
                trace_of(columns.traces, row) if columns.traces else b"",
                columns.labels[row],
                started=started[row] if started else 0,
                traceparent=columns.traceparents[row] if columns.traceparents else "",
                route=b"".join(route),
                known=tuple([Known(t, tensors[t][row]) for t in known]),
            )
        )
    return orders


def handles_of(column: TensorColumn) -> list[TensorHandle]:
    """The handle of each row."""
    segment, offset, dtype, shape = column.segment, column.offset, column.dtype, column.shape
    return [
        TensorHandle(segment, slot, generation, offset, dtype, shape)
        for slot, generation in zip(integers(column.slots), longs(column.generations))
    ]


def _slots_of(slots: bytes, generations: bytes, rows: int) -> list[tuple[int, int]]:
    return list(zip(integers(slots), longs(generations))) if slots else [(0, 0)] * rows
