"""Message: what every message is, and the version of all of them. The messages themselves are in `messages`."""

from __future__ import annotations

from pipeline.wire.records import Record

__all__ = ["PROTOCOL", "Message", "tag_of"]

PROTOCOL = 13


class Message(Record, frozen=True):
    """What one process sends another. The number of each kind stands at its class, and is never used again."""


def tag_of(kind: int) -> int:
    """What the frame of a message of that kind begins with."""
    return PROTOCOL * 256 + kind
