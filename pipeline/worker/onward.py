"""Onward: an order as the worker of its next hop gets it. Pure.

    hop | first of route | rest of route, known
     │         │               │
     ▼         ▼               ▼
    outputs ─▶ hop ..........  route, known      the next hop reads what this one has made, and what is known

What is left of the route is handed on as it came.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.graph.compiled import CompiledStage
from pipeline.wire.messages import MISSING, Hop, Known, Order
from pipeline.wire.route import HOP_BYTES, first_of
from shm.handle import TensorHandle

__all__ = ["Onward"]


class Onward:
    """Makes the orders that a stage hands on.

    Args:
        stages: of the pipeline; none: orders have no route.
        base: the number of the stage's first tensor.
        fields: how many tensors it makes.
    """

    def __init__(self, stages: Sequence[CompiledStage], base: int, fields: int) -> None:
        self._stages = stages
        self._base = base
        #: For each stage that may be next: positions of the outputs that others read, too, or alone.
        self._carried = [
            tuple([at for at in range(fields) if _is_read(base + at, stages, but=following)])
            for following in range(len(stages))
        ]

    def order(self, order: Order, outputs: tuple[TensorHandle, ...], trace: bytes) -> Order:
        """What is left of an order that goes on.

        Args:
            order: as it came.
            outputs: what the stage has made.
            trace: what all its hops did so far.
        """
        known, route, hop = order.known, order.route[HOP_BYTES:], self._next(order, outputs)
        if route and outputs and (carried := self._carried[hop.stage]):
            known = (*known, *[Known(self._base + at, outputs[at]) for at in carried])
        # Without its group: a request that this stage has survived is no suspect for the next.
        return Order(
            order.request, order.attempt, order.deadline, 0, hop, trace, order.label, order.stream,
            order.sequence, order.started, order.traceparent, route, known, order.rows,
        )  # fmt: skip

    def _next(self, order: Order, outputs: tuple[TensorHandle, ...]) -> Hop:
        """The first hop of an order's route, with what its stage reads."""
        index, missing, worker, segment, slot, generation = first_of(order.route)
        stage = self._stages[index]
        base, end = self._base, self._base + len(outputs)
        inputs: list[TensorHandle | int] = []
        for tensor in stage.sources:
            if base <= tensor < end:
                inputs.append(outputs[tensor - base])
            else:
                inputs.append(_known(order, tensor))
        if missing:
            inputs = [MISSING if missing >> at & 1 else each for at, each in enumerate(inputs)]
        return Hop(index, worker, segment, slot, generation, stage.notifies_at_once, tuple(inputs), ())


def _is_read(tensor: int, stages: Sequence[CompiledStage], but: int) -> bool:
    """Whether another stage than one reads a tensor."""
    return any(tensor in stage.sources for stage in stages if stage.index != but)


def _known(order: Order, tensor: int) -> TensorHandle | int:
    """A tensor that was there before the stage ran. Its number if it was not: then the next worker fails the order."""
    for number, handle in order.known:
        if number == tensor:
            return handle
    return tensor
