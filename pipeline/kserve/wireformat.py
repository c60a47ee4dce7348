"""Protobuf's wire format, as far as the messages of inference need it. Pure.

A message is read field by field, without a copy of its bytes: the classes that protobuf generates would copy each
tensor. https://protobuf.dev/programming-guides/encoding/ has the format:

    tag (varint: number << 3 | wire type) | payload        wire type 0 varint, 1 eight bytes, 2 length and bytes,
                                                                      5 four bytes; 3 and 4, groups, are refused
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.errors import KserveError

__all__ = [
    "BYTES",
    "FIXED32",
    "FIXED64",
    "VARINT",
    "Field",
    "bytes_field",
    "few_varints",
    "fields",
    "signed",
    "text_of",
    "varint",
    "varints",
]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

_LONGEST = 10
"""Bytes of a varint of 64 bits."""
_MASK = 2**64 - 1


class Field(NamedTuple):
    """One field, as it lies in its frame."""

    number: int
    wire_type: int
    value: int
    """Of a varint; otherwise where the payload starts."""
    end: int
    """Where the field ends."""


def _read_varint(view: memoryview, at: int, end: int, most: int) -> tuple[int, int]:
    value = shift = 0
    for index in range(at, min(end, at + most)):
        byte = view[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, index + 1
        shift += 7
    raise KserveError(f"expected the end of a number of at most {most} bytes at byte {at} of the message, found none")


def fields(view: memoryview, at: int, end: int) -> Iterator[Field]:
    """The fields between two bytes of a frame.

    Args:
        view: the frame, of format "B".

    Raises:
        KserveError: it is no message: cut off, a length beyond the end, a group, or a tag of no field.
    """
    while at < end:
        # Most tags and lengths have one byte.
        tag = view[at]
        if tag < 0x80:
            start = at + 1
        else:
            tag, start = _read_varint(view, at, end, 5)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 2**29:
            raise KserveError(f"expected the tag of a field at byte {at} of the message, found {tag}")
        if kind == BYTES:
            if start < end and view[start] < 0x80:
                length, start = view[start], start + 1
            else:
                length, start = _read_varint(view, start, end, 5)
            stop = start + length
            value = start
        elif kind == VARINT:
            value, stop = _read_varint(view, start, end, _LONGEST)
        elif kind in (FIXED32, FIXED64):
            value, stop = start, start + (4 if kind == FIXED32 else 8)
        else:
            raise KserveError(f"expected a field at byte {at} of the message, found wire type {kind}")
        if stop > end:
            raise KserveError(
                f"field {number} at byte {at} of the message: expected {stop - start} bytes, found {end - start}"
            )
        yield Field(number, kind, value, stop)
        at = stop


def signed(value: int) -> int:
    """A varint as an int64."""
    return value - 2**64 if value >= 2**63 else value


def text_of(view: memoryview, field: Field, what: str) -> str:
    """The text of a field of type string.

    Raises:
        KserveError: it is not UTF-8.
    """
    try:
        return str(view[field.value : field.end], "utf-8")
    except UnicodeDecodeError:
        raise KserveError(f"expected {what} in UTF-8, found other bytes at byte {field.value} of the message") from None


def few_varints(view: memoryview, field: Field, most: int) -> list[int]:
    """The numbers of a packed field, one more than `most` at most. For a few, numpy would take longer.

    Raises:
        KserveError: the last has no end, or one is too long.
    """
    found: list[int] = []
    at = field.value
    while at < field.end and len(found) <= most:
        value, at = _read_varint(view, at, field.end, _LONGEST)
        found.append(value)
    return found


def varints(packed: memoryview) -> npt.NDArray[np.uint64]:
    """All numbers of a packed field. In steps of numpy, so that it takes no Python step for each.

    Raises:
        KserveError: the last has no end, or one is too long.
    """
    raw = np.frombuffer(packed, np.uint8)
    ends = np.flatnonzero(raw < 0x80)
    if raw.size and (not ends.size or ends[-1] != raw.size - 1):
        raise KserveError("expected the end of a packed number, found the end of its field")
    starts = np.concatenate((np.zeros(min(ends.size, 1), np.intp), ends[:-1] + 1))
    lengths = ends - starts + 1
    longest = int(lengths.max(initial=0))
    if longest > _LONGEST:
        raise KserveError(f"expected packed numbers of at most {_LONGEST} bytes, found one of {longest}")
    values = np.zeros(ends.size, np.uint64)
    for index in range(longest):
        there = lengths > index
        part = (raw[starts[there] + index] & 0x7F).astype(np.uint64)
        values[there] |= part << np.uint64(7 * index)
    return values


def varint(value: int) -> bytes:
    """A number of 64 bits; a negative one as ten bytes, as int32 and int64 have it."""
    if 0 <= value < 0x80:
        return bytes((value,))
    value &= _MASK
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def bytes_field(number: int, payload: bytes | memoryview | str) -> bytes:
    """A field of text, bytes or a message, with a copy of them; an empty one too."""
    data: Any = payload.encode() if isinstance(payload, str) else payload
    return b"".join((varint(number << 3 | BYTES), varint(len(data)), data))
