"""Mutations: what is sound made odd, the same way for the same seed. Pure.

bytes      flipped, cut, doubled, numbers and words exchanged
JSON       a tree of `Pairs`, lists and values; any node may become any other, keys come twice, words are no JSON
protobuf   a tree of fields; numbers, wire types and lengths lie, groups, varints without end, packed and not
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from random import Random
from typing import Any

NUMBERS = (
    "0", "-0", "1", "-1", "2", "16", "17", "127", "128", "255", "256", "65535", "65536", "2147483647", "2147483648",
    "4294967295", "4294967296", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
    "18446744073709551615", "18446744073709551616", "1e5", "1e309", "-1e309", "1e-400", "0.5", "NaN", "Infinity",
    "-Infinity", "00", "0x10", "1_0", "+1", ".5", "5.", "1" * 40, "9" * 5000, "١",
)  # fmt: skip
WORDS = (
    b"", b"\x00", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\r\n", b"\n", b"\r", b" ", b"\t", b"\"", b"{", b"}", b"[", b"]",
    b",", b":", b"\\u0000", b"\\ud800", b"\\udc00\\ud800", b"null", b"true", b"NaN", b"Infinity", b"/*", b"\x80\x80\x80\x80",
)  # fmt: skip
_NUMBER = re.compile(rb"\d+")


def odd_bytes(rng: Random, data: bytes, words: tuple[bytes, ...] = WORDS) -> bytes:
    """Some bytes of it otherwise."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(out) + 1)
        end = min(len(out), at + rng.choice((1, 2, 4, 8, 64, len(out) or 1)))
        match rng.randrange(8):
            case 0 if out:
                out[at % len(out)] ^= 1 << rng.randrange(8)
            case 1 if out:
                out[at % len(out)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x20, 0x22))
            case 2:
                out[at:at] = rng.choice(words)
            case 3:
                del out[at:end]
            case 4:
                out[at:at] = out[at:end]
            case 5:
                del out[at:]
            case 6:
                out[at:at] = rng.randbytes(rng.choice((1, 3, 16, 300)))
            case _:
                found = list(_NUMBER.finditer(out))
                if found:
                    one = rng.choice(found)
                    out[one.start() : one.end()] = rng.choice(NUMBERS).encode()
    return bytes(out)


# -- JSON -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Raw:
    """Text that stands in the JSON as it is."""

    text: bytes


class Pairs(list[Any]):
    """An object, as a list of [key, value]; a key may be there twice, and be no string."""


def tree_of(document: Any) -> Any:
    """A document of dicts as one of Pairs."""
    if isinstance(document, dict):
        return Pairs([key, tree_of(value)] for key, value in document.items())
    return [tree_of(each) for each in document] if isinstance(document, list) else document


def text_of(node: Any) -> bytes:
    """The JSON of a tree."""
    if isinstance(node, Raw):
        return node.text
    if isinstance(node, Pairs):
        return b"{" + b",".join(text_of(key) + b":" + text_of(value) for key, value in node) + b"}"
    if isinstance(node, list):
        return b"[" + b",".join([text_of(each) for each in node]) + b"]"
    return json.dumps(node).encode()


def _odd_value(rng: Random, now: Any) -> Any:
    deep = rng.choice((2, 40, 2000, 30_000))
    return rng.choice(
        (
            None, True, False, 0, -1, 1.5, 2**63, -(2**63) - 1, 2**64, "", "x", "\0", "ä€😀", "x" * 5000, [], [[]], [now], [now, now],
            Pairs(), Pairs([["a", now]]), Raw(rng.choice(NUMBERS).encode()), Raw(b'"\\ud800"'), Raw(b'"\\udfff\\ud800"'),
            Raw(b'"\xff"'), Raw(b"[" * deep + b"]" * deep), Raw(b'{"a":' * deep + b"1" + b"}" * deep), Raw(b""), "INT32", "BYTES",
            "FP32", "BOOL", "INPUT0", "IN",
        )
    )  # fmt: skip


def odd_tree(rng: Random, tree: Any) -> Any:
    """A tree in which some nodes are others. The first one stays as it is."""
    tree = _copied(tree)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = [(tree, None), *_places(tree)]
        inside, at = rng.choice(places)
        if at is None:
            if rng.random() < 0.05:
                return _odd_value(rng, tree)
            continue
        match rng.randrange(6):
            case 0:
                del inside[at]
            case 1:
                inside.insert(at, _copied(inside[at]))
            case 2 if isinstance(inside, Pairs):
                inside[at][0] = _odd_value(rng, inside[at][0])
            case 3 if isinstance(inside, Pairs):
                inside.append([inside[at][0], _odd_value(rng, inside[at][1])])
            case _ if isinstance(inside, Pairs):
                inside[at][1] = _odd_value(rng, inside[at][1])
            case _:
                inside[at] = _odd_value(rng, inside[at])
    return tree


def _copied(node: Any) -> Any:
    if isinstance(node, list):
        return type(node)(_copied(each) for each in node)
    return node


def _places(node: Any) -> Any:
    """Every (list, index) below a node."""
    if not isinstance(node, list):
        return
    for at, each in enumerate(node):
        yield node, at
        yield from _places(each[1] if isinstance(node, Pairs) else each)


# -- protobuf -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """One field: of a number, a wire type, and a payload, or the fields that are its payload."""

    number: int
    wire_type: int
    payload: bytes | tuple[Piece, ...]
    #: Added to the length.
    lie: int = 0
    #: Bytes beyond need of the tag and of the length.
    longer: int = 0


def _varint(value: int, longer: int = 0) -> bytes:
    out = bytearray()
    while value >= 0x80 or longer > 0:
        out.append(value & 0x7F | 0x80)
        value >>= 7
        longer -= value == 0
    out.append(value)
    return bytes(out)


def _read(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


#: Of ModelInferRequest: where a payload is a message.
_INNER: dict[tuple[int, ...], bool] = {
    (4,): True, (4, 2): True, (5,): True, (5, 4): True, (5, 4, 2): True, (5, 5): True, (6,): True, (6, 2): True, (6, 2, 2): True,
}  # fmt: skip


def pieces_of(data: bytes, path: tuple[int, ...] = ()) -> tuple[Piece, ...]:
    """The fields of a sound message."""
    found, at = [], 0
    while at < len(data):
        tag, at = _read(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 2:
            length, at = _read(data, at)
            payload: Any = data[at : at + length]
            at += length
            here = (*path, number)
            found.append(Piece(number, kind, pieces_of(payload, here) if here in _INNER else payload))
        else:
            end = _read(data, at)[1] if kind == 0 else at + {1: 8, 5: 4}[kind]
            found.append(Piece(number, kind, data[at:end]))
            at = end
    return tuple(found)


def frame_of(pieces: tuple[Piece, ...]) -> bytes:
    """The bytes of fields."""
    out = []
    for piece in pieces:
        payload = piece.payload if isinstance(piece.payload, bytes) else frame_of(piece.payload)
        out.append(_varint(piece.number << 3 | piece.wire_type, piece.longer))
        if piece.wire_type == 2:
            out.append(_varint(max(0, len(payload) + piece.lie), piece.longer))
        out.append(payload)
    return b"".join(out)


def odd_pieces(rng: Random, pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """The fields, one of them, or of those within it, otherwise."""
    if not pieces:
        return (_odd_piece(rng, Piece(1, 2, b"x")),)
    at = rng.randrange(len(pieces))
    piece = pieces[at]
    if not isinstance(piece.payload, bytes) and rng.random() < 0.75:
        piece = replace(piece, payload=odd_pieces(rng, piece.payload))
        return (*pieces[:at], piece, *pieces[at + 1 :])
    match rng.randrange(6):
        case 0:
            return (*pieces[:at], *pieces[at + 1 :])
        case 1:
            return (*pieces[:at], piece, *pieces[at:])
        case 2:
            other = rng.randrange(len(pieces))
            swapped = list(pieces)
            swapped[at], swapped[other] = swapped[other], swapped[at]
            return tuple(swapped)
        case _:
            return (*pieces[:at], _odd_piece(rng, piece), *pieces[at + 1 :])


def _odd_piece(rng: Random, piece: Piece) -> Piece:
    payload = piece.payload if isinstance(piece.payload, bytes) else frame_of(piece.payload)
    match rng.randrange(9):
        case 0:
            return replace(
                piece, number=rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 19000, 2**29 - 1, 2**29, 2**40))
            )
        case 1:
            return replace(piece, wire_type=rng.randrange(8))
        case 2:
            return replace(piece, lie=rng.choice((-1, 1, 7, 127, 2**31, 2**35, 2**63)))
        case 3:
            return replace(piece, longer=rng.choice((1, 3, 4, 9, 12)))
        case 4:
            return replace(piece, payload=odd_bytes(rng, payload))
        case 5:  # a varint without end
            return Piece(piece.number, 0, b"\xff" * rng.choice((1, 9, 10, 11, 40)))
        case 6:  # packed as single ones, or the reverse
            return Piece(piece.number, 0 if piece.wire_type == 2 else 2, payload)
        case 7:  # a group
            inside = frame_of((Piece(piece.number, 4, b""),))
            return Piece(piece.number, 3, payload + (inside if rng.random() < 0.5 else b""))
        case _:
            return Piece(piece.number, 0, _varint(rng.choice((0, 1, 2**31, 2**32, 2**63, 2**64 - 1, 2**64, 2**69))))


# -- smaller --------------------------------------------------------------------------------------


def smaller(data: bytes, fails: Any, most: int = 300) -> bytes:
    """A short form of data that still fails, found within `most` tries."""
    size, tries = max(1, len(data) // 2), 0
    while size and tries < most:
        at = 0
        while at < len(data) and tries < most:
            tries += 1
            shorter = data[:at] + data[at + size :]
            if fails(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data
