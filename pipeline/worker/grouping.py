"""Grouping: which orders of a stage may share a batch, and which of them lie side by side. Pure.

Made out of the plan, for the worker's batcher:

    form     the shapes of an order's inputs, as the stage wants them to be equal; None if nothing can differ
    place    where its inputs and its output lie, and where its neighbour's would

    slot 4                slot 5                slot 6           one tensor a slot: the neighbour is the next slot
    |tensor............|  |tensor............|  |tensor...

    slot 2                                                       many tensors a slot: the neighbour is what follows
    |element....|element....|element....|element...

JSON, elements of bytes and inputs of many tensors count for neither form nor place: no stage takes them as one array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable

from pipeline.graph.compiled import CompiledPlan
from pipeline.graph.plan import Plan, StagePlan
from pipeline.wire.flattening import position_of
from pipeline.wire.messages import Order
from pipeline.worker.batcher import Batcher
from pipeline.worker.candidates import Place
from pipeline.worker.column_queue import ColumnQueue
from shm.handle import ENCODED, TensorHandle, itemsize
from shm.layout import round_up
from stages.spec import TensorSpec

__all__ = ["arrays_of", "batcher_of", "form_of", "place_of"]


def batcher_of(plan: Plan, index: int) -> Batcher:
    """The batcher of a worker of the stage with that index in the plan."""
    stage, compiled = plan.stages[index], CompiledPlan.of(plan).stages
    batch = stage.batch
    place = place_of(plan, stage)
    # The tensors of common orders are one a slot, so slots say where rows lie.
    read = [] if place is None else [compiled[index].sources[at] for at, _ in arrays_of(stage)]
    return Batcher(
        batch.max_size,
        int(batch.max_delay_ms * 1e6),
        stage.credits,
        form=form_of(stage),
        place=place,
        gather=batch.gather,
        stages=compiled,
        columns=ColumnQueue(read, place is not None and _fills(stage)),
    )


def form_of(stage: StagePlan) -> Callable[[Order], Hashable] | None:
    """What must be equal for orders of `stage` to share a batch; None if it always is."""
    # Rows of different shapes are never one view: without gathering, a ragged stage gains nothing from being ragged.
    if stage.batch.max_size == 1 or (stage.ragged and stage.batch.gather):
        return None
    counted = [(i, spec) for i, spec in arrays_of(stage) if spec.optional or not spec.is_static]
    if not counted:
        return None
    pad = stage.pad

    def form(order: Order) -> Hashable:
        hop = order.hop
        shapes: list[tuple[int, ...] | None] = []
        for index, spec in counted:
            handle = hop.inputs[position_of(index, hop.lengths)]
            if not isinstance(handle, TensorHandle):
                shapes.append(None)
            else:
                shapes.append(spec.padded(handle.shape, pad) if pad else handle.shape)
        return tuple(shapes)

    return form


def place_of(plan: Plan, stage: StagePlan) -> Callable[[Order], Place] | None:
    """Where the tensors of an order of `stage` lie; None if no two orders can be neighbours, or none need be."""
    fills = _fills(stage)
    # For each input: its index, and the bytes of an element if it is one of many in a slot, else 0.
    counted = [
        (i, itemsize(spec.dtype) if plan.output_spec(stage.edges[i]).many is not None else 0)
        for i, spec in arrays_of(stage)
    ]
    if stage.batch.max_size == 1 or (stage.ragged and stage.batch.gather) or not (fills or counted):
        return None

    def place(order: Order) -> Place:
        hop = order.hop
        if order.rows > 1:
            # Its rows lie side by side, at another distance than its slot and the next.
            return Place((-1, order.request, order.attempt), (-2, order.request, order.attempt))
        start: list[int] = []
        after: list[int] = []
        for index, width in counted:
            handle = hop.inputs[position_of(index, hop.lengths)]
            if not isinstance(handle, TensorHandle):
                start.append(handle)
                after.append(handle)
                continue
            segment, slot, _, offset, _, shape = handle
            start += (segment, slot, offset)
            if width:
                after += (segment, slot, offset + round_up(width * math.prod(shape)))
            else:
                after += (segment, slot + 1, offset)
        if fills:
            start += (hop.segment, hop.slot)
            after += (hop.segment, hop.slot + 1)
        return Place(tuple(start), tuple(after))

    return place


def _fills(stage: StagePlan) -> bool:
    """Whether the stage may fill an output of all rows as one array."""
    return any(field.spec.dtype not in ENCODED and field.spec.many is None for field in stage.fields)


def arrays_of(stage: StagePlan) -> list[tuple[int, TensorSpec]]:
    """The inputs that a stage may take as one array, with their index."""
    return [(i, spec) for i, spec in enumerate(stage.inputs) if spec.dtype not in ENCODED and spec.many is None]
