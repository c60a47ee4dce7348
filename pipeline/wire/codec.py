"""Messages to frames and back, strictly: a frame is a message of this version in every field, or a WireError.

`msgspec` encodes, and decodes into the classes of `messages` and `records`: it checks every type and every length in C.
No value is coerced: a bool is not an int.

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

_SHORT = reprlib.Repr()

_OTHER = f"protocol {{}}; this process speaks {PROTOCOL}: start both ends from one version"

#: The kinds whose frame begins with [PROTOCOL, kind, ...], so that every version can read it.
_FROZEN: dict[type[Any], int] = {cls: kind for kind, cls in MESSAGES.items() if cls in (Hello, Refused)}

_FROM_256 = {kind: cls for kind, cls in MESSAGES.items() if cls not in _FROZEN}

_encoder = msgspec.msgpack.Encoder()

_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(typing.Union[tuple(_FROM_256.values())])  # noqa: UP007

#: For text that is not Unicode, such as the name of a file: slower, and never refuses.
_lenient_packer = msgpack.Packer(autoreset=True, unicode_errors="backslashreplace")


def encode(message: Sent) -> bytes:
    """The frame of `message`.

    Raises:
        OverflowError: an int of it has more than 64 bits.
    """
    body: Any = message
    if not isinstance(message, Message):
        body = versions.body_of(message)
    elif (kind := _FROZEN.get(type(message))) is not None:
        body = (PROTOCOL, kind, *msgspec.structs.astuple(message))
    try:
        return _encoder.encode(body)
    except UnicodeEncodeError:
        frame: bytes = _lenient_packer.pack(msgspec.to_builtins(body, builtin_types=(bytes,)))
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
        return _decoder.decode(frame)
    except msgspec.ValidationError as error:
        what = str(error)
    except Exception as error:  # msgspec raises several types on hostile bytes, RecursionError among them
        raise _no_document(error) from None
    # A hello, a refusal, or no message of this version: all of them are rare.
    try:
        body = msgspec.msgpack.decode(frame)
    except Exception as error:
        raise _no_document(error) from None
    if type(body) is not list or not body or (type(body[0]) is int and body[0] < 256 and len(body) < 2):
        raise WireError(f"expected an array [tag, field, ...] or [protocol, kind, field, ...], found {_brief(body)}")
    first = body[0]
    if type(first) is not int:
        raise WireError(_OTHER.format(_brief(first)))
    if first < 256:
        return _frozen(*body)
    protocol, number = divmod(first, 256)
    if protocol != PROTOCOL:
        raise WireError(_OTHER.format(_brief(protocol)))
    if number not in _FROM_256:
        raise WireError(f"unknown kind of message {number}")
    raise _refusal(_FROM_256[number], what, body)


def _frozen(protocol: int, kind: Any, *fields: Any) -> Message:
    """A hello or a refusal. Of another version, only a refusal, a hello and a welcome are told apart."""
    cls = MESSAGES.get(kind) if type(kind) is int else None
    if protocol != PROTOCOL:
        if cls not in (Hello, Welcome, Refused):
            raise WireError(_OTHER.format(_brief(protocol)))
        if cls is Refused and len(fields) > 1 and type(fields[0]) is int and type(fields[1]) is str:
            return Refused(fields[0], fields[1], 0)
        other = OtherProtocol(_OTHER.format(protocol))
        other.protocol = protocol
        if cls is Hello and fields and type(fields[0]) is int:
            other.client = fields[0]
            other.asks_only = len(fields) > 1 and versions.asks_only(fields[1])
        raise other
    if cls is None or cls not in _FROZEN:
        raise WireError(f"unknown kind of message {_brief(kind)}")
    tagged = [cls.__struct_config__.tag, *fields]
    try:
        message: Message = msgspec.convert(tagged, cls)
    except msgspec.ValidationError as error:
        raise _refusal(cls, str(error), tagged) from None
    return message


def _no_document(error: Exception) -> WireError:
    return WireError(f"not a MessagePack document: {type(error).__name__}: {error}")


def _refusal(cls: type[Message], what: str, body: list[Any]) -> WireError:
    """Why `body`, a tag and the fields of a `cls`, is refused, and by whom it was sent if it says so."""
    refusal = WireError(_complaint(cls, what, len(body) - 1))
    if cls.__struct_fields__[:1] == ("client",) and len(body) > 1 and type(body[1]) is int:
        refusal.client = body[1]
    return refusal


def _complaint(cls: type[Message], text: str, found: int) -> str:
    """msgspec's "Expected `int`, got `str` - at `$[1][0]`" with the names of our fields in place of numbers.

    Args:
        found: how many fields the message has.
    """
    what, _, path = text.partition(" - at `$")
    if not path:
        if text.startswith("expected"):
            # A record's own check, such as of columns that are not of one length.
            return f"{cls.__name__}: {text}"
        # How msgspec counts here depends on whether the tag is one of them.
        return f"{cls.__name__}: expected array of length {len(cls.__struct_fields__)}, found {found}"
    where, annotation = cls.__name__, cls
    numbers = [int(number) for number in re.findall(r"\[(\d+)\]", path)]
    # The tag comes before the fields of a message.
    for number in (numbers[0] - 1, *numbers[1:]):
        if names := _names_of(annotation):
            where += f".{names[number]}"
            annotation = typing.get_type_hints(annotation)[names[number]]
        else:
            where += f"[{number}]"
            annotation = typing.get_args(annotation)[0]
            if typing.get_origin(annotation) is types.UnionType:
                annotation = next(member for member in typing.get_args(annotation) if _names_of(member))
    return f"{where}: {what.replace('`', '').replace('Expected', 'expected').replace('got', 'found')}"


def _names_of(record: Any) -> tuple[str, ...]:
    """The names of a record's fields; none if it is no record."""
    names: tuple[str, ...] = getattr(record, "__struct_fields__", ()) or getattr(record, "_fields", ())
    return names


def _brief(value: Any) -> str:
    # Never a whole hostile value: reprlib stops at a depth and at a length.
    text = _SHORT.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
