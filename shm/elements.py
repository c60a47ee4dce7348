"""Elements: tensors of dtype "bytes", whose elements are bytes of any length.

They lie one after the other, row-major, each behind its length; nothing is added at their end, and NULs are kept. It is
the form in which KServe's protocol sends BYTES:

    | u32 | bytes of the first element | u32 | bytes of the second | ...        u32: little endian, of any alignment

To numpy such a tensor is an array of objects, each of them a `bytes`. No array can be a view of it: it is decoded into
objects and encoded out of them. What is decoded may come from any process: each length is compared with what is left
before a byte behind it is read.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm.errors import MalformedElements
from shm.handle import LENGTH_BYTES

__all__ = ["Elements", "elements_of", "fill", "stored_shape"]

Array = NDArray[Any]

_LENGTH = struct.Struct("<I")
_LONGEST = (1 << 32) - 1


class Elements:
    """A tensor of dtype "bytes" as it lies in memory.

    Args:
        raw: uint8 (nbytes,), the encoding.
        shape: of the elements.
    """

    __slots__ = ("raw", "shape")

    def __init__(self, raw: Array, shape: tuple[int, ...]) -> None:
        self.raw = raw
        self.shape = shape

    @classmethod
    def of(cls, array: Array) -> Elements:
        """Elements in memory of their own.

        Args:
            array: as of `elements_of`.
        """
        raw = np.empty(stored_shape(array)[-1], np.uint8)
        fill(raw, array)
        return cls(raw, array.shape)

    def decode(self) -> Array:
        """The elements: a read-only array of objects (*shape), each of them a `bytes`.

        Raises:
            MalformedElements: a length leads over the end, or the elements do not take all bytes.
        """
        memory, count = self.raw.data, math.prod(self.shape)
        end = len(memory)
        if count * LENGTH_BYTES > end:
            # Before anything is made: a shape may have extents that no memory holds.
            raise MalformedElements(f"{count} elements with a length of {LENGTH_BYTES} bytes each, in {end} bytes")
        found: list[bytes] = []
        at = 0
        for number in range(count):
            start = at + LENGTH_BYTES
            if start > end:
                left = f"{end - at} bytes are left of {end}"
                raise MalformedElements(f"element {number} of {count} has no length: {left}")
            # Read once: another process may still write there.
            length = _LENGTH.unpack_from(memory, at)[0]
            at = start + length
            if at > end:
                raise MalformedElements(
                    f"element {number} of {count} has a length of {length} bytes, but {end - start} are left of {end}"
                )
            found.append(memory[start:at].tobytes())
        if at != end:
            raise MalformedElements(f"{count} elements end after {at} bytes of {end}")
        array = _objects(found, self.shape)
        array.flags.writeable = False
        return array


def elements_of(value: Any) -> Array:
    """An array of objects, each of them a `bytes`, of what numpy users have in place of it.

    Args:
        value: bytes or a text, nested lists of them, or an array of objects, of "S" or of "U". Texts become UTF-8.

    Raises:
        TypeError: something in it is neither bytes nor a text, or the lists are of different lengths.
        ValueError: a text has no form in UTF-8, or an element has 4 GiB or more.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "OSU":
            raise TypeError(f"expected elements of bytes, found {value.dtype.name}")
        array = value
    elif isinstance(value, (bytes, bytearray, memoryview, str)):
        array = _objects([value], ())
    else:
        # As objects, and never as "S", of which numpy cuts the NULs at the end.
        array = np.array(value, dtype=object)
    items = array.ravel().tolist()
    if array.dtype.kind != "O" or any(type(item) is not bytes for item in items):
        array = _objects([_element(item) for item in items], array.shape)
        items = array.ravel().tolist()
    if max(map(len, items), default=0) > _LONGEST:
        raise ValueError(f"an element has {max(map(len, items))} bytes; expected at most {_LONGEST}")
    return array


def _element(item: Any) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, (bytes, bytearray, memoryview)):
        return bytes(item)
    raise TypeError(f"expected elements of bytes, or texts, found {type(item).__name__}")


def _objects(items: Iterable[Any], shape: tuple[int, ...]) -> Array:
    # An item at a time: a list that is assigned at once is taken for an array, whose NULs numpy may cut.
    array = np.empty(math.prod(shape), object)
    for number, item in enumerate(items):
        array[number] = item
    return array.reshape(shape)


def stored_shape(array: Array) -> tuple[int, ...]:
    """The shape that the handle of these elements has: theirs, and the bytes of their encoding."""
    return (*array.shape, sum(map(len, array.ravel().tolist())) + LENGTH_BYTES * array.size)


def fill(raw: Array, array: Array) -> None:
    """Encode elements into their place.

    Args:
        raw: writable uint8 (nbytes,), of exactly the bytes that `stored_shape` says.
        array: as of `elements_of`.
    """
    memory, at = raw.data, 0
    for item in array.ravel().tolist():
        start = at + LENGTH_BYTES
        _LENGTH.pack_into(memory, at, len(item))
        at = start + len(item)
        memory[start:at] = item
