"""InferTensorContents: a tensor's elements as fields of protobuf, typed, to dense bytes. Pure.

tritonclient sends raw bytes instead. Other clients and servers, such as MLServer, send these, so they are read; ours
writes raw bytes alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.errors import KserveError
from pipeline.kserve.datatypes import BYTES as STRINGS
from pipeline.kserve.datatypes import Datatype, joined
from pipeline.kserve.values import Limits
from pipeline.kserve.wireformat import BYTES, FIXED32, FIXED64, VARINT, fields, varint, varints

__all__ = ["Contents"]

#: Number -> name, and the wire type of an element that is a field of its own.
_FIELDS = {
    1: ("bool_contents", VARINT),
    2: ("int_contents", VARINT),
    3: ("int64_contents", VARINT),
    4: ("uint_contents", VARINT),
    5: ("uint64_contents", VARINT),
    6: ("fp32_contents", FIXED32),
    7: ("fp64_contents", FIXED64),
    8: ("bytes_contents", BYTES),
}


class Contents:
    """What a tensor's `contents` hold; a message in several pieces is one."""

    def __init__(self) -> None:
        #: By name of the field: payloads of packed elements, in order.
        self._packed: dict[str, list[bytes | memoryview]] = {}
        self._strings: list[memoryview] = []

    def read(self, view: memoryview, at: int, end: int, limits: Limits, alone: int) -> int:
        """Adds a piece of the message.

        Args:
            alone: how many elements of the request were fields of their own before.

        Returns:
            how many there are now.

        Raises:
            KserveError: it is no such message, or more elements are fields of their own than `limits` allow.
        """
        for field in fields(view, at, end):
            name, wire_type = _FIELDS.get(field.number, ("", -1))
            if field.wire_type == BYTES and name and name != "bytes_contents":
                self._packed.setdefault(name, []).append(view[field.value : field.end])
                continue
            if field.wire_type != wire_type:
                continue  # unknown, as protobuf has it
            alone += 1
            if alone > limits.elements:
                raise KserveError(
                    f"expected at most {limits.elements} elements that are fields of their own, found more; send them "
                    f"in raw_input_contents"
                )
            if name == "bytes_contents":
                self._strings.append(view[field.value : field.end])
            elif wire_type == VARINT:
                # The same bytes as of a packed field with one element.
                self._packed.setdefault(name, []).append(varint(field.value))
            else:
                self._packed.setdefault(name, []).append(view[field.value : field.end])
        return alone

    @property
    def names(self) -> list[str]:
        """The fields that have elements."""
        found = [name for name, parts in self._packed.items() if any(len(part) for part in parts)]
        return [*found, "bytes_contents"] if self._strings else found

    def packed(self, kind: Datatype, shape: Sequence[int], tensor: str) -> bytes:
        """The bytes of a tensor.

        Raises:
            KserveError: elements of another type than its datatype's, that do not fit it, or not as many as its shape.
        """
        if not kind.contents:
            raise KserveError(f"{tensor}: {kind.name} has no typed contents; expected it in raw_input_contents")
        if others := [name for name in self.names if name != kind.contents]:
            raise KserveError(
                f"{tensor}: expected the contents of {kind.name} in {kind.contents}, found {' and '.join(others)}"
            )
        if kind.name == STRINGS:
            self._check(len(self._strings), shape, tensor)
            return joined(self._strings)
        raw = b"".join(self._packed.get(kind.contents, ()))
        if kind.contents in ("fp32_contents", "fp64_contents"):
            if len(raw) % kind.itemsize:
                raise KserveError(f"{tensor}: expected {kind.contents} of {kind.itemsize} bytes each, found {len(raw)}")
            self._check(len(raw) // kind.itemsize, shape, tensor)
            return raw
        values = varints(memoryview(raw))
        self._check(values.size, shape, tensor)
        return _fitted(values, kind, tensor).tobytes()

    @staticmethod
    def _check(found: int, shape: Sequence[int], tensor: str) -> None:
        if found != math.prod(shape):
            raise KserveError(
                f"{tensor}: expected {math.prod(shape)} elements in its contents, as its shape says; found {found}"
            )


def _fitted(values: npt.NDArray[np.uint64], kind: Datatype, tensor: str) -> npt.NDArray[np.generic]:
    """As the datatype; the field itself keeps the low 32 bits of a number if it is of 32, as protobuf does."""
    if kind.name == "BOOL":
        return values.astype(np.bool_)
    if kind.contents == "int_contents":
        wide: npt.NDArray[np.generic] = values.astype(np.uint32).view(np.int32)
    elif kind.contents == "uint_contents":
        wide = values.astype(np.uint32)
    else:
        wide = values.view(np.int64) if kind.contents == "int64_contents" else values
    narrow: npt.NDArray[np.generic] = wide.astype(kind.dtype)
    if (narrow != wide).any():
        raise KserveError(f"{tensor}: expected numbers that fit {kind.name} in {kind.contents}, found others")
    return narrow
