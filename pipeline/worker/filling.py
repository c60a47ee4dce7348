"""Filling: where the outputs of a batch are put."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipeline.graph.plan import Field
from pipeline.worker.candidates import Waiting
from pipeline.worker.packing import Packing, SlotTooSmall
from shm.handle import BYTES, TensorHandle, nbytes_of, numpy_dtype
from shm.view import SegmentTable
from stages.errors import SpecMismatch
from stages.request import RequestInfo
from stages.stage import Array

__all__ = ["Filling"]


Onwards = Callable[[str, str], str]
"""(the label of a request, its client's trace context) -> the one that the stage hands on to what it calls."""


def as_given(label: str, traceparent: str) -> str:
    """The client's, of a pipeline that exports no traces."""
    return traceparent


class Filling:
    """Where the outputs of a batch are put.

    Not closures: once compiled, those refer to each other, and every batch would be garbage that waits for the
    collector. The batch calls it for the user's stage, with numbers, names and shapes that it has looked at.

    Args:
        table: every segment of the run.
        fields: of the stage, by tensor.
        largest: bytes of the stage's largest slots, if its slots are of several sizes; else 0.
        rows: of the batch.
        parted: the stage gives its outputs in parts, one after the other in a row's slot.
        context: asked for the trace contexts of requests.
    """

    __slots__ = ("_context", "_fields", "_largest", "_parted", "_rows", "_table", "handles", "packings", "too_long")

    def __init__(
        self,
        table: SegmentTable,
        fields: Mapping[str, Field],
        largest: int,
        rows: Sequence[Waiting],
        parted: bool = False,
        context: Onwards = as_given,
    ) -> None:
        self._table = table
        self._fields = fields
        self._largest = largest
        self._rows = rows
        self.handles: list[dict[str, TensorHandle | tuple[TensorHandle, ...]]] = [{} for _ in rows]
        self._parted = parted
        self._context = context
        #: How a row's slot is filled, if it is smaller than the largest, or if outputs come in parts.
        self.packings: dict[int, Packing] = {}
        #: The rows whose parts do not fit their slot.
        self.too_long: dict[int, SpecMismatch] = {}

    def allocate(self, row: int, name: str, shape: tuple[int, ...]) -> Array:
        """The place of one row's output."""
        field = self._fields[name]
        waiting = self._rows[row]
        hop = waiting.order.hop
        offset = field.offset
        if waiting.joint is not None:
            offset = waiting.joint.places[name] + waiting.at * nbytes_of(field.spec.dtype, shape)
        elif self._parted:
            place = self._place_part(row, hop.segment, field, nbytes_of(field.spec.dtype, shape))
            if place is None:
                # Its row has failed. The others go on, so the stage is given memory to write to.
                dtype = field.spec.dtype
                return np.empty(shape[-1:] if dtype == BYTES else shape, numpy_dtype(dtype))
            offset = place
        elif self._largest:
            offset = self._offset_of(row, hop.segment, field, nbytes_of(field.spec.dtype, shape))
        handle = TensorHandle(hop.segment, hop.slot, hop.generation, offset, field.spec.dtype, shape)
        view = self._table.view(handle, writable=True)
        self.handles[row][name] = handle
        return view

    def allocate_many(self, row: int, name: str, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
        """The places of one row's output of many tensors."""
        field = self._fields[name]
        hop = self._rows[row].order.hop
        offsets = field.spec.offsets(shapes)
        dtype = field.spec.dtype
        nbytes = max([at + nbytes_of(dtype, shape) for at, shape in zip(offsets, shapes)], default=0)
        start = self._offset_of(row, hop.segment, field, nbytes) if self._largest else field.offset
        made = tuple(
            [
                TensorHandle(hop.segment, hop.slot, hop.generation, start + offset, field.spec.dtype, shape)
                for offset, shape in zip(offsets, shapes)
            ]
        )
        self.handles[row][name] = made
        return [self._table.view(handle, writable=True) for handle in made]

    def requests(self) -> list[RequestInfo]:
        """The request of each row."""
        return [
            RequestInfo.parse(each.label)._replace(
                stream=each.stream, sequence=each.sequence, deadline=each.deadline,
                traceparent=self._context(each.label, each.traceparent),
            )
            for each in [row.order for row in self._rows]
        ]  # fmt: skip

    def take_part(self, row: int) -> dict[str, TensorHandle | tuple[TensorHandle, ...]]:
        """The outputs of a row's part that is over; outputs that are asked for from now on are of the next part."""
        made, self.handles[row] = self.handles[row], {}
        if row in self.packings:
            self.packings[row].next_part()
        return made

    def _place_part(self, row: int, segment: int, field: Field, nbytes: int) -> int | None:
        """The offset of an output of a part; None if it does not fit its slot behind the parts before."""
        size = self._table.slot_bytes(segment)
        try:
            return self._packing(row, size).place(field.spec.name, nbytes)
        except SlotTooSmall:
            self.too_long[row] = SpecMismatch(
                f"output {field.spec.name!r}: the parts of one answer lie in one slot, which has {size} bytes, and "
                f"{nbytes} more do not fit behind those before; raise the output's `max`"
            )
            return None

    def _offset_of(self, row: int, segment: int, field: Field, nbytes: int) -> int:
        size = self._table.slot_bytes(segment)
        if size >= self._largest:
            return field.offset
        return self._packing(row, size).place(field.spec.name, nbytes)

    def _packing(self, row: int, size: int) -> Packing:
        """How the slot of a row, which has `size` bytes, is filled."""
        if row not in self.packings:
            self.packings[row] = Packing(size)
        return self.packings[row]
