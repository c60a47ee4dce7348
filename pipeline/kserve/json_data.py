"""A tensor's elements as JSON: lists of numbers, bools or strings to dense bytes, and back. Pure.

`data` is flat, in row-major order, or nested as the shape is. Nothing is narrowed: a number that does not fit the
datatype is an error, where Triton keeps its low bits. NaN, Infinity and -Infinity are written as Triton writes them,
as bare words that JSON does not have, and read so; as strings they are refused, as there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec
import numpy as np

from pipeline.errors import KserveError
from pipeline.kserve.datatypes import BYTES, Datatype, element_views, joined
from pipeline.wire.documents import document_value

__all__ = ["has_words", "loads_with_words", "read_data", "write_data"]

_WORDS = (b"NaN", b"Infinity")
_NO_JSON = ("FP16", "BF16")


def has_words(text: bytes) -> bool:
    """Whether NaN or Infinity may be in it, which msgspec does not read."""
    return any(word in text for word in _WORDS)


def loads_with_words(text: bytes) -> Any:
    """JSON in which NaN and Infinity may be numbers.

    Raises:
        ValueError: it is not JSON, or has half of a surrogate pair, which is no character.
        RecursionError: it is nested too deeply.
    """
    return document_value(text, words=True)


@lru_cache(maxsize=256)
def _decoder(element: type, rank: int) -> tuple[Any, msgspec.json.Decoder[Any]]:
    """For lists of lists of ... `element`, `rank` deep."""
    wanted: Any = element
    for _ in range(rank):
        wanted = list[wanted]
    return wanted, msgspec.json.Decoder(wanted)


def _element(kind: Datatype) -> type:
    if kind.name == BYTES:
        return str
    if kind.name == "BOOL":
        return bool
    return float if kind.name in ("FP32", "FP64") else int


def read_data(kind: Datatype, shape: Sequence[int], data: Any, tensor: str) -> bytes:
    """The bytes of a tensor whose elements came as JSON.

    Args:
        data: msgspec.Raw, or what `loads_with_words` has made of it.
        tensor: what has them, for the message.

    Raises:
        KserveError: another type of element, one that does not fit the datatype, or not as many as the shape has.
    """
    if kind.name in _NO_JSON:
        raise KserveError(
            f"receiving {kind.name} data via JSON is not supported. Please use the binary data format for {tensor}"
        )
    count = math.prod(shape)
    # Before a list is made of them: so many elements take at least that many bytes of text.
    if isinstance(data, msgspec.Raw) and bytes(memoryview(data)[:1]) == b"[":
        most = (len(memoryview(data)) - 1) // 2
        if count > most:
            raise KserveError(f"{tensor}: expected {count} elements in its data, as its shape says; found fewer")
        # Empty lists of lists have commas as well.
        commas = math.prod([max(extent, 1) for extent in shape])
        if kind.name != BYTES and bytes(data).count(b",") + 1 > commas:
            raise KserveError(f"{tensor}: expected {count} elements in its data, as its shape says; found more")
    elements = _flat(kind, shape, data, tensor)
    if len(elements) != count:
        raise KserveError(
            f"{tensor}: expected {count} elements in its data, flat or nested as its shape {list(shape)} says; found "
            f"{len(elements)}"
        )
    return _packed(kind, elements, tensor)


def _flat(kind: Datatype, shape: Sequence[int], data: Any, tensor: str) -> list[Any]:
    """All elements; if they are nested, as the shape says."""
    element = _element(kind)
    try:
        return list(_decoded(data, element, 1, tensor))
    except msgspec.ValidationError as error:
        flat = error
    try:
        level = _decoded(data, element, len(shape), tensor) if len(shape) > 1 else None
    except msgspec.ValidationError as error:
        # Whichever was meant: that of the nested form, if it is one.
        raise KserveError(f"{tensor}: in its data: {error}, or, were it flat: {flat}") from None
    if level is None:
        raise KserveError(f"{tensor}: in its data: {flat}")
    for axis, extent in enumerate(shape):
        if axis:
            level = list(chain.from_iterable(level))
        expected = math.prod(shape[: axis + 1])
        inner = all(len(row) == shape[axis + 1] for row in level) if axis + 1 < len(shape) else True
        if len(level) != expected or not inner:
            raise KserveError(
                f"{tensor}: expected its data flat or nested as its shape {list(shape)} says; found another number "
                f"than {extent if inner else shape[axis + 1]} along axis {axis if inner else axis + 1}"
            )
    return level


def _decoded(data: Any, element: type, rank: int, tensor: str) -> Any:
    """Lists, `rank` deep.

    Raises:
        msgspec.ValidationError: it is something else.
        KserveError: it has text that is not UTF-8.
    """
    wanted, decoder = _decoder(element, rank)
    if isinstance(data, msgspec.Raw):
        try:
            return decoder.decode(data)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError as error:
            # Text that was passed over until now is not read as UTF-8 before its type is known.
            raise KserveError(f"{tensor}: in its data: {error}") from None
    return msgspec.convert(data, wanted)


def _packed(kind: Datatype, elements: list[Any], tensor: str) -> bytes:
    if kind.name == BYTES:
        return joined([element.encode() for element in elements])
    dtype = np.dtype(kind.dtype)
    if dtype.kind in "iu" and elements:
        info = np.iinfo(dtype)
        # Checked here, since numpy before 2 wraps around.
        for extreme in (min(elements), max(elements)):
            if not info.min <= extreme <= info.max:
                raise KserveError(
                    f"{tensor}: expected numbers from {info.min} to {info.max} for {kind.name}, found {extreme}"
                )
    if kind.name == "FP32":
        wide = np.array(elements, np.float64)
        with np.errstate(over="ignore"):
            narrow = wide.astype("<f4")
        beyond = np.isinf(narrow) & np.isfinite(wide)
        if beyond.any():
            raise KserveError(f"{tensor}: expected numbers that fit FP32, found {wide[beyond][0]}")
        return narrow.tobytes()
    return np.array(elements, dtype.newbyteorder("<")).tobytes()


def write_data(kind: Datatype, shape: Sequence[int], data: memoryview, tensor: str) -> msgspec.Raw:
    """The reverse: flat, as Triton writes it.

    Raises:
        KserveError: FP16 or BF16, text that is not UTF-8, or bytes that are not as many as the shape has.
    """
    if kind.name in _NO_JSON:
        raise KserveError(
            f"sending {kind.name} data via JSON is not supported. Please use the binary data format for {tensor}"
        )
    if kind.name == BYTES:
        try:
            texts = [str(element, "utf-8") for element in element_views(data, math.prod(shape), tensor)]
        except UnicodeDecodeError as error:
            raise KserveError(
                f"{tensor}: expected UTF-8, which JSON needs; found other bytes. Please use the binary data format: "
                f"{error}"
            ) from None
        return msgspec.Raw(msgspec.json.encode(texts))
    array = np.frombuffer(data, np.dtype(kind.dtype).newbyteorder("<"))
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return msgspec.Raw(json.dumps(array.tolist(), separators=(",", ":")).encode())
    return msgspec.Raw(msgspec.json.encode(array.tolist()))
