"""Messages to frames and back, strictly: a frame is a message of this version in every field, or a WireError.

`msgpack` packs and unpacks; what comes out is held against the annotations in `messages` by
`msgspec.convert`, which checks every type and every length in C and builds the records (0.6 us for an
order of three hops; looking at each field in Python took 6). No value is coerced: a bool is not an int.

Nothing here evaluates, imports or unpickles what it reads.
"""

from __future__ import annotations

import re
import reprlib
import types
import typing
from typing import Any

import msgpack
import msgspec

from pipeline.errors import OtherProtocol, WireError
from pipeline.wire import versions
from pipeline.wire.messages import MESSAGES, PROTOCOL, Hello, Message, Refused, Welcome
from pipeline.wire.versions import OldHello, OldWelcome

__all__ = ["MAX_FRAME_BYTES", "Sent", "decode", "encode"]

Sent = Message | OldHello | OldWelcome
"""What can be sent. The last two are for ends of old versions, and are of no form of this one."""

MAX_FRAME_BYTES = 4 * 1024 * 1024
"""A frame above this is refused before it is parsed. The largest hold a hundred answers, or orders."""

_kinds: dict[type[Any], int] = {cls: kind for kind, cls in MESSAGES.items()}
_SHORT = reprlib.Repr()

_OTHER = f"protocol {{}}; this process speaks {PROTOCOL}: start both ends from one version"

_packer = msgpack.Packer(autoreset=True)

#: For text that is not Unicode, such as the name of a file: slower, and never refuses.
_lenient_packer = msgpack.Packer(autoreset=True, unicode_errors="backslashreplace")


#: Kinds that a client sends: the first field of each says which client.
_FROM_CLIENTS = frozenset(
    kind for kind, cls in MESSAGES.items() if cls is not Refused and cls._fields and cls._fields[0] == "client"
)


def encode(message: Sent) -> bytes:
    """The frame of `message`.

    Raises:
        OverflowError: an int of it has more than 64 bits.
    """
    # Records are tuples, which MessagePack packs as the arrays they are on the wire.
    kind = _kinds.get(type(message))
    body = versions.body_of(message) if kind is None else (PROTOCOL, kind, *message)  # type: ignore[arg-type]
    try:
        frame: bytes = _packer.pack(body)
    except UnicodeEncodeError:
        frame = _lenient_packer.pack(body)
    return frame


def decode(frame: bytes | memoryview) -> Message:
    """The message in `frame`.

    A refusal is read whichever version it is of.

    Raises:
        WireError: the frame is too large, not MessagePack, of another version, of an unknown kind, or a field of it is
            of the wrong type.
        OtherProtocol: it is a hello or a welcome of another version.
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
        return _foreign(body)
    kind = MESSAGES.get(body[1]) if type(body[1]) is int else None
    if kind is None:
        raise WireError(f"unknown kind of message {_brief(body[1])}")
    try:
        message: Message = msgspec.convert(body[2:], kind)
    except msgspec.ValidationError as error:
        refusal = WireError(_complaint(kind, str(error)))
        if body[1] in _FROM_CLIENTS and len(body) > 2 and type(body[2]) is int:
            refusal.client = body[2]
        raise refusal from None
    return message


def _foreign(body: tuple[Any, ...]) -> Message:
    """A refusal of another version. Of what else it may be, only a hello and a welcome are told apart."""
    protocol, kind = body[:2]
    if type(protocol) is not int or type(kind) is not int or MESSAGES.get(kind) not in (Hello, Welcome, Refused):
        raise WireError(_OTHER.format(_brief(protocol)))
    if kind == _kinds[Refused] and len(body) > 3 and type(body[2]) is int and type(body[3]) is str:
        return Refused(body[2], body[3], 0)
    other = OtherProtocol(_OTHER.format(protocol))
    other.protocol = protocol
    if kind == _kinds[Hello] and len(body) > 2 and type(body[2]) is int:
        other.client = body[2]
    raise other


def _complaint(kind: type[Any], text: str) -> str:
    """msgspec's "Expected `int`, got `str` - at `$[1][0]`" with the names of our fields in place of numbers."""
    what, _, path = text.partition(" - at `$")
    where, annotation = kind.__name__, kind
    for number in map(int, re.findall(r"\[(\d+)\]", path)):
        if hasattr(annotation, "_fields"):
            name = annotation._fields[number]
            where += f".{name}"
            annotation = typing.get_type_hints(annotation)[name]
        else:
            where += f"[{number}]"
            annotation = typing.get_args(annotation)[0]
            if typing.get_origin(annotation) is types.UnionType:
                annotation = next(member for member in typing.get_args(annotation) if hasattr(member, "_fields"))
    return f"{where}: {what.replace('`', '').replace('Expected', 'expected').replace('got', 'found')}"


def _brief(value: Any) -> str:
    # Never a whole hostile value: reprlib stops at a depth and at a length.
    text = _SHORT.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
