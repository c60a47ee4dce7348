"""Joint: an order of several rows while its worker computes them, together or one by one. Pure.

    order of rows 0..n-1 ──▶ n rows of a batch, or of several ──▶ what came of each ──▶ what came of the order

A row is computed and judged like that of any other order. Only when the last one is settled is there something to say
of the order: all rows have outputs, one after the other in its slot, or one has failed, and the order with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pipeline.wire.messages import OK, Order
from shm.errors import HandleRefused
from shm.handle import TensorHandle, nbytes_of

__all__ = ["Joint", "RowResult", "rows_of"]


class RowResult(NamedTuple):
    """What came of one row: the last fields of its notice."""

    code: str
    message: str = ""
    outputs: tuple[TensorHandle, ...] = ()
    children: tuple[tuple[TensorHandle, ...], ...] = ()
    conditions: int = 0
    nbytes: int = 0
    """What the outputs need of a slot, if slots are of several sizes."""
    traceback: str = ""
    parted: bool = False


class Joint:
    """What becomes of the rows of an order.

    Args:
        order: of several rows.
        places: by output, the offset of its first row in the order's slot.
    """

    __slots__ = ("_failed", "_order", "_outputs", "_row", "began", "copied", "ended", "left", "places", "size")

    def __init__(self, order: Order, places: Mapping[str, int]) -> None:
        self._order = order
        self.places = places
        #: How many rows are not settled.
        self.left = order.rows
        #: When the first batch of them began and the last one ended, in monotonic nanoseconds; the size of the largest
        #: batch, and the bytes that were copied for all rows.
        self.began = self.ended = 0
        self.size = self.copied = 0
        #: The first row that has failed, and why; -1: none has.
        self._row = -1
        self._failed = RowResult(OK)
        #: Outputs of row 0.
        self._outputs: tuple[TensorHandle, ...] = ()

    def take(self, at: int, result: RowResult, began: int, ended: int, size: int, copied: int) -> bool:
        """A row is settled; whether it was the last one."""
        self.left -= 1
        self.began = min(self.began or began, began)
        self.ended = max(self.ended, ended)
        self.size = max(self.size, size)
        self.copied += copied
        if result.code != OK:
            if self._row < 0 or at < self._row:
                self._row, self._failed = at, result
        elif at == 0:
            self._outputs = result.outputs
        return not self.left

    def result(self) -> RowResult:
        """What came of the order, once all rows are settled."""
        rows = self._order.rows
        if self._row >= 0:
            return self._failed._replace(message=f"row {self._row} of {rows}: {self._failed.message}")
        return RowResult(OK, "", tuple([each._replace(shape=(rows, *each.shape)) for each in self._outputs]))


def rows_of(handle: TensorHandle | int, rows: int) -> list[TensorHandle]:
    """The handle of each row of a tensor of several.

    Raises:
        HandleRefused: it is no tensor of so many rows.
    """
    if isinstance(handle, int):
        raise HandleRefused(f"tensor {handle} was not filled in by the stage before")
    segment, slot, generation, offset, dtype, shape = handle
    if shape[:1] != (rows,):
        raise HandleRefused(f"{handle!r}: expected a tensor of {rows} rows")
    row = shape[1:]
    step = nbytes_of(dtype, row)
    return [TensorHandle(segment, slot, generation, offset + at * step, dtype, row) for at in range(rows)]
