"""Messages to frames and back, strictly: a frame is a message of this version in every field, or a WireError.

Decoders are built once from the annotations in `messages`. The first check of a record compares the
types of all its fields with a set of allowed signatures in one step, which costs a fraction of
looking at them one by one; only fields that hold records are then descended into.

Nothing here evaluates, imports or unpickles what it reads.
"""

from __future__ import annotations

import itertools
import reprlib
import types
import typing
from collections.abc import Callable
from typing import Any

import msgpack

from pipeline.errors import WireError
from pipeline.wire.messages import MESSAGES, PROTOCOL, Message

__all__ = ["MAX_FRAME_BYTES", "decode", "encode"]

MAX_FRAME_BYTES = 4 * 1024 * 1024
"""A frame above this is refused before it is parsed. Welcome, the largest, holds a plan."""

_Decoder = Callable[[Any, str], Any]

_kinds: dict[type[Any], int] = {cls: kind for kind, cls in MESSAGES.items()}
_SHORT = reprlib.Repr()

_packer = msgpack.Packer(autoreset=True)

#: For text that is not Unicode, such as the name of a file: slower, and never refuses.
_lenient_packer = msgpack.Packer(autoreset=True, unicode_errors="backslashreplace")


def encode(message: Message) -> bytes:
    """The frame of `message`.

    Raises:
        OverflowError: an int of it has more than 64 bits.
    """
    # Records are tuples, which MessagePack packs as the arrays they are on the wire.
    body = (PROTOCOL, _kinds[type(message)], *message)
    try:
        frame: bytes = _packer.pack(body)
    except UnicodeEncodeError:
        frame = _lenient_packer.pack(body)
    return frame


def decode(frame: bytes | memoryview) -> Message:
    """The message in `frame`.

    Raises:
        WireError: the frame is too large, not MessagePack, of another protocol version, of an unknown
            kind, or a field of it is of the wrong type.
    """
    if len(frame) > MAX_FRAME_BYTES:
        raise WireError(f"frame of {len(frame)} bytes; expected at most {MAX_FRAME_BYTES}")
    try:
        body = msgpack.unpackb(frame, use_list=False, strict_map_key=True)
    except Exception as error:  # msgpack raises many types, and ValueError subclasses, on hostile bytes
        raise WireError(f"not a MessagePack document: {type(error).__name__}: {error}") from None
    if type(body) is not tuple or len(body) < 2:
        raise WireError(f"expected an array [protocol, kind, ...], found {_brief(body)}")
    if body[0] != PROTOCOL or type(body[0]) is not int:
        raise WireError(f"protocol {_brief(body[0])}; this process speaks {PROTOCOL}: start both ends from one version")
    decoder = _decoders.get(body[1]) if type(body[1]) is int else None
    if decoder is None:
        raise WireError(f"unknown kind of message {_brief(body[1])}")
    message: Message = decoder(body[2:], "")
    return message


def _brief(value: Any) -> str:
    # Not repr: of nesting that MessagePack allows, it runs out of stack.
    text = _SHORT.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _wire_types(annotation: Any) -> tuple[type, ...]:
    """The Python types that MessagePack may give for `annotation`."""
    if annotation in (int, str, bool):
        return (annotation,)
    origin = typing.get_origin(annotation)
    if origin is tuple or (isinstance(annotation, type) and issubclass(annotation, tuple)):
        return (tuple,)
    if origin is types.UnionType or origin is typing.Union:
        return tuple(t for member in typing.get_args(annotation) for t in _wire_types(member))
    raise TypeError(f"no wire form for {annotation!r}")


def _decoder(annotation: Any) -> _Decoder | None:
    """What turns a value of the right Python type into `annotation`; None where it is it already."""
    if annotation in (int, str, bool):
        return None
    origin = typing.get_origin(annotation)
    if origin is tuple:
        item, dots = typing.get_args(annotation)
        assert dots is Ellipsis
        return _sequence(item)
    if origin is types.UnionType or origin is typing.Union:
        (record,) = (member for member in typing.get_args(annotation) if _wire_types(member) == (tuple,))
        of_record = _decoder(record)
        assert of_record is not None

        def union(value: Any, path: str) -> Any:
            return of_record(value, path) if type(value) is tuple else value

        return union
    return _record(annotation)


def _sequence(item: Any) -> _Decoder:
    allowed = frozenset(_wire_types(item))
    inner = _decoder(item)
    expected = " or ".join(sorted(t.__name__ for t in allowed))

    def sequence(value: Any, path: str) -> Any:
        if not allowed.issuperset(map(type, value)):
            raise WireError(f"{path}: expected only {expected}, found {_brief(value)}")
        if inner is None:
            return value
        return tuple([inner(v, path) for v in value])

    return sequence


_records: dict[type[Any], _Decoder] = {}


def _record(cls: type[Any]) -> _Decoder:
    if cls in _records:
        return _records[cls]
    hints = typing.get_type_hints(cls)
    names: tuple[str, ...] = cls._fields
    signatures = frozenset(itertools.product(*(_wire_types(hints[name]) for name in names)))
    nested = tuple(
        (index, f"{cls.__name__}.{name}", inner)
        for index, name in enumerate(names)
        if (inner := _decoder(hints[name])) is not None
    )
    make = tuple.__new__

    def record(value: Any, path: str) -> Any:
        if tuple(map(type, value)) not in signatures:
            raise WireError(f"{_complaint(cls, names, hints, value, path)}")
        if not nested:
            return make(cls, value)
        fields = list(value)
        for index, where, inner in nested:
            fields[index] = inner(fields[index], where)
        return make(cls, fields)

    _records[cls] = record
    return record


def _complaint(cls: type[Any], names: tuple[str, ...], hints: dict[str, Any], value: Any, path: str) -> str:
    where = f"{path}: " if path else ""
    if len(value) != len(names):
        return f"{where}{cls.__name__} has {len(names)} fields {', '.join(names)}; found {len(value)}"
    for name, field in zip(names, value):
        allowed = _wire_types(hints[name])
        if type(field) not in allowed:
            expected = " or ".join(t.__name__ for t in allowed)
            return f"{where}{cls.__name__}.{name}: expected {expected}, found {_brief(field)}"
    return f"{where}{cls.__name__}: fields of the wrong types {_brief(value)}"


_decoders: dict[int, _Decoder] = {kind: _record(cls) for kind, cls in MESSAGES.items()}
