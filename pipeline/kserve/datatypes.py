"""Datatypes: KServe's names of them, and ours. Pure.

What travels inside a pipeline has numpy's names, "bfloat16" and "bytes", and "json", which KServe does not have: one
JSON document is one element of BYTES.

BYTES travels in the form in which `shm.elements` lies in slots. There elements become objects of numpy; here they are
checked and cut into rows where they lie, as views.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline.errors import KserveError
from shm import handle
from shm.handle import LENGTH_BYTES

__all__ = [
    "BYTES",
    "DATATYPES",
    "OF_DTYPE",
    "Datatype",
    "datatype",
    "element_views",
    "expected_nbytes",
    "joined",
]

BYTES = "BYTES"


class Datatype(NamedTuple):
    """One datatype of KServe v2."""

    name: str
    dtype: str
    """Ours."""
    itemsize: int
    """Bytes of an element; 0: each element has its own length."""
    config: str
    """Its name in a model's config."""
    contents: str
    """The field of InferTensorContents that may hold it; empty: only raw bytes can."""


DATATYPES = {
    row.name: row
    for row in (
        Datatype("BOOL", "bool", 1, "TYPE_BOOL", "bool_contents"),
        Datatype("UINT8", "uint8", 1, "TYPE_UINT8", "uint_contents"),
        Datatype("UINT16", "uint16", 2, "TYPE_UINT16", "uint_contents"),
        Datatype("UINT32", "uint32", 4, "TYPE_UINT32", "uint_contents"),
        Datatype("UINT64", "uint64", 8, "TYPE_UINT64", "uint64_contents"),
        Datatype("INT8", "int8", 1, "TYPE_INT8", "int_contents"),
        Datatype("INT16", "int16", 2, "TYPE_INT16", "int_contents"),
        Datatype("INT32", "int32", 4, "TYPE_INT32", "int_contents"),
        Datatype("INT64", "int64", 8, "TYPE_INT64", "int64_contents"),
        Datatype("FP16", "float16", 2, "TYPE_FP16", ""),
        Datatype("BF16", handle.BFLOAT16, 2, "TYPE_BF16", ""),
        Datatype("FP32", "float32", 4, "TYPE_FP32", "fp32_contents"),
        Datatype("FP64", "float64", 8, "TYPE_FP64", "fp64_contents"),
        Datatype(BYTES, handle.BYTES, 0, "TYPE_STRING", "bytes_contents"),
    )
}

OF_DTYPE = {row.dtype: row for row in DATATYPES.values()} | {handle.JSON: DATATYPES[BYTES]}
"""By our name. Complex numbers and long doubles have none."""


def datatype(name: str, tensor: str) -> Datatype:
    """The row of that name.

    Args:
        tensor: what has it, for the message.

    Raises:
        KserveError: there is no such datatype.
    """
    found = DATATYPES.get(name)
    if found is None:
        raise KserveError(
            f"invalid datatype for {tensor}: expected one of {', '.join(DATATYPES)}, found {name[:100]!r}"
        )
    return found


def expected_nbytes(kind: Datatype, shape: Sequence[int]) -> int | None:
    """Bytes of a dense tensor; None if its elements say themselves how long they are."""
    return math.prod(shape) * kind.itemsize if kind.itemsize else None


_LENGTH = struct.Struct("<I")


def element_views(data: memoryview, count: int, tensor: str) -> list[memoryview]:
    """The elements of BYTES, as views.

    Args:
        count: how many there must be.
        tensor: what they belong to, for the message.

    Raises:
        KserveError: the lengths do not add up to the bytes, or there are more or fewer elements.
    """
    # Each element has at least its length: so a shape cannot ask for a longer list than there are bytes for.
    if count * LENGTH_BYTES > data.nbytes:
        raise KserveError(
            f"expected {count} string elements for {tensor}, found {data.nbytes} bytes, which hold at most "
            f"{data.nbytes // LENGTH_BYTES}"
        )
    elements: list[memoryview] = []
    at = 0
    while at < data.nbytes:
        if len(elements) == count:
            raise KserveError(
                f"unexpected number of string elements for {tensor}: expected {count}, found {data.nbytes - at} bytes "
                f"behind them"
            )
        if data.nbytes - at < LENGTH_BYTES:
            raise KserveError(
                f"incomplete string length for {tensor}: expected 4 bytes at {at}, found {data.nbytes - at}"
            )
        (length,) = _LENGTH.unpack_from(data, at)
        at += LENGTH_BYTES
        if length > data.nbytes - at:
            raise KserveError(
                f"incomplete string data for {tensor}: expected a string of {length} bytes at {at}, found "
                f"{data.nbytes - at}"
            )
        elements.append(data[at : at + length])
        at += length
    if len(elements) != count:
        raise KserveError(f"expected {count} string elements for {tensor}, found {len(elements)}")
    return elements


def joined(elements: Iterable[bytes | memoryview]) -> bytes:
    """The reverse of `element_views`. Each element has less than 4 GiB."""
    parts: list[bytes | memoryview] = []
    for element in elements:
        parts += _LENGTH.pack(len(element)), element
    return b"".join(parts)
