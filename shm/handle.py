"""TensorHandle: the value that travels instead of a tensor.

The process that fills a slot makes the handle; a process that reads it resolves it with
`shm.view.SegmentTable`. A handle never holds memory: it says where bytes are and which loan of the slot
they belong to.

    dtype            what lies at the handle's place                shape
    a numpy name     the numbers, row-major and dense               of the array
    "bfloat16"       the same; numpy knows it by ml_dtypes          of the array
    "json"           one JSON document in UTF-8                     (bytes,)
    "bytes"          elements, each after its length                of the elements, and one extent more: bytes of all
                     (`shm.elements`)                               of them, lengths included
"""

from __future__ import annotations

import ctypes
import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "BFLOAT16",
    "BYTES",
    "ENCODED",
    "JSON",
    "LENGTH_BYTES",
    "TensorHandle",
    "itemsize",
    "nbytes_of",
    "numpy_dtype",
]

#: The dtype of a tensor whose bytes are one UTF-8 JSON document: uint8 of shape (nbytes,) to numpy.
JSON: Final = "json"

#: The dtype of a tensor whose elements are bytes of any length: KServe's BYTES, and object arrays of bytes to numpy.
BYTES: Final = "bytes"

#: Bytes of the length before each of those elements.
LENGTH_BYTES: Final = 4

#: The dtype of the upper half of a float32. numpy has it from ml_dtypes, which is imported only if it is used.
BFLOAT16: Final = "bfloat16"

#: The dtypes whose tensors are no arrays in memory: a view of them has the bytes of their encoding.
ENCODED: Final = frozenset({JSON, BYTES})

#: Bytes of a C long double, of which numpy has a float and a complex number if it is longer than a double.
_LONG = ctypes.sizeof(ctypes.c_longdouble)

#: Every dtype that may travel: its bytes. A closed table: the text of a foreign handle is never parsed as a dtype.
#: bfloat16 is added when it is first used.
_ITEMSIZES: dict[str, int] = {
    JSON: 1, BYTES: 1, "bool": 1,
    "int8": 1, "int16": 2, "int32": 4, "int64": 8, "uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8,
    "float16": 2, "float32": 4, "float64": 8, "complex64": 8, "complex128": 16,
}  # fmt: skip
if _LONG > 8:
    _ITEMSIZES |= {f"float{8 * _LONG}": _LONG, f"complex{16 * _LONG}": 2 * _LONG}

#: Those as numpy sees them, once one was asked for.
_DTYPES: dict[str, np.dtype[Any]] = {}
#: Those whose shape says how many bytes a tensor takes.
_FIXED: dict[str, int] = {name: size for name, size in _ITEMSIZES.items() if name != BYTES}


def itemsize(dtype: str) -> int:
    """Bytes of one element of `dtype`: a numpy name ("uint8", "float32", ...), "bfloat16", "json" or "bytes".

    The last two are encodings, which can be cut at any byte: 1. After this call numpy knows `dtype` by its name, unless
    it is one of those two.

    Raises:
        TypeError: `dtype` is none of these (objects and fixed-size strings never travel), or it is bfloat16 and
            ml_dtypes is not installed.
    """
    # Canonical names only: one word for one thing, also as a key of view caches.
    size = _ITEMSIZES.get(dtype)
    if size is None:
        if dtype == BFLOAT16:
            return _add_bfloat16()
        raise TypeError(
            f"dtype {dtype!r} cannot lie in shared memory; expected a numpy name of a plain number "
            f"such as 'uint8', 'float32' or {BFLOAT16!r}, or {BYTES!r} or {JSON!r}"
        )
    return size


def _add_bfloat16() -> int:
    try:
        # From then on `np.dtype("bfloat16")` is known.
        import ml_dtypes  # noqa: F401
    except ImportError as error:
        raise TypeError(
            f"dtype {BFLOAT16!r} needs ml_dtypes, from which numpy has it: pip install ml_dtypes ({error})"
        ) from None
    _FIXED[BFLOAT16] = _ITEMSIZES[BFLOAT16] = 2
    return 2


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The dtype of a view of a tensor of `dtype`: uint8 if that is an encoding.

    Raises:
        TypeError: as `itemsize`.
    """
    found = _DTYPES.get(dtype)
    if found is None:
        itemsize(dtype)
        # Here: the scheduler and the supervisor never ask, and start in half the time.
        import numpy as np

        found = _DTYPES[dtype] = np.dtype("uint8" if dtype in ENCODED else dtype)
    return found


def nbytes_of(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor of `dtype`, if its handle has this shape.

    Raises:
        TypeError: as `itemsize`.
    """
    size = _FIXED.get(dtype)
    if size is not None:
        return size * math.prod(shape)
    if dtype == BYTES:
        return shape[-1] if shape else 0
    return itemsize(dtype) * math.prod(shape)


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
    """A numpy dtype name, "bfloat16", "json" or "bytes"."""
    shape: tuple[int, ...]
    """Extent of each axis, row-major and dense, without a batch axis. Of "json" it is (bytes,); of "bytes" one extent
    more follows, the bytes of all elements."""

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return nbytes_of(self.dtype, self.shape)
