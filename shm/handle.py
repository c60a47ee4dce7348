"""TensorHandle: the value that travels instead of a tensor.

The process that fills a slot makes the handle; a process that reads it resolves it with
`shm.view.SegmentTable`. A handle never holds memory: it says where bytes are and which loan of the slot
they belong to.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

__all__ = ["JSON", "TensorHandle", "itemsize"]

#: The dtype of a tensor whose bytes are one UTF-8 JSON document: uint8 of shape (nbytes,) to numpy.
JSON = "json"

#: Every dtype that may travel. A closed table: the text of a foreign handle is never parsed as a dtype.
_ITEMSIZES: dict[str, int] = {JSON: 1} | {
    dtype.name: dtype.itemsize for dtype in map(np.dtype, np.typecodes["All"]) if dtype.kind in "biufc"
}


def itemsize(dtype: str) -> int:
    """Bytes of one element of `dtype`: a numpy name ("uint8", "float32", ...) or "json".

    Raises:
        TypeError: `dtype` is not a fixed-size plain dtype (objects and strings never travel).
    """
    # Canonical names only: one word for one thing, also as a key of view caches.
    size = _ITEMSIZES.get(dtype)
    if size is None:
        raise TypeError(
            f"dtype {dtype!r} cannot lie in shared memory; expected a numpy name of a plain number "
            f"such as 'uint8' or 'float32', or {JSON!r}"
        )
    return size


class TensorHandle(NamedTuple):
    """The place of one tensor.

    In MessagePack it is a plain array of its fields, in this order.
    """

    segment: int
    """Random 32-bit number in the segment's header; the handle is foreign if no segment of that number is attached."""
    slot: int
    """Index of the slot within the segment."""
    generation: int
    """The loan of the slot to which the bytes belong; odd while the slot is out."""
    offset: int
    """Bytes from the start of the slot to the first element."""
    dtype: str
    """A numpy dtype name, or "json"."""
    shape: tuple[int, ...]
    """Extent of each axis, row-major and dense; without a batch axis."""

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return itemsize(self.dtype) * math.prod(self.shape)
