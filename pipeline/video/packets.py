"""Packets: the last seconds of a camera's stream, not decoded, from which a clip can begin. Pure.

    │K p p p p│K p p p p│K p p        K: a key frame, with which decoding can begin
    └─ group ─┘                       p: a packet that needs those before it

A group is dropped as a whole: what is left of one without its key frame is of no use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Packet", "PacketRing", "Times", "filled_times"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Packet(Generic[T]):
    """One packet of a stream."""

    at: float
    """When it came, in seconds since 1970."""
    is_key: bool
    nbytes: int
    data: T
    """What a clip is written of."""


class PacketRing(Generic[T]):
    """The last packets of one stream.

    Args:
        seconds: of the stream that are kept, at least, if there is room for them.
        most_bytes: kept at one time, at most.
    """

    def __init__(self, seconds: float, most_bytes: int) -> None:
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._groups: deque[list[Packet[T]]] = deque()
        #: Bytes of all that is kept.
        self.nbytes = 0
        #: Packets that are not kept: before the first key frame, or of a group that is larger than there is room for.
        self.left_out = 0

    def add(self, packet: Packet[T]) -> None:
        """Keep a packet, and drop what is too old for it or has no room beside it."""
        if packet.is_key:
            self._groups.append([])
        if not self._groups:
            self.left_out += 1
            return
        self._groups[-1].append(packet)
        self.nbytes += packet.nbytes
        # The first group is needed as long as the second one begins within the seconds to keep.
        while len(self._groups) > 1 and (
            self._groups[1][0].at <= packet.at - self._seconds or self.nbytes > self._most_bytes
        ):
            self._drop()
        if self.nbytes > self._most_bytes:
            self.left_out += len(self._groups[0])
            self._drop()

    def _drop(self) -> None:
        self.nbytes -= sum(packet.nbytes for packet in self._groups.popleft())

    def since(self, at: float) -> list[Packet[T]]:
        """The packets with which a clip that shows this time begins, up to the last one; the first is a key frame."""
        found: list[Packet[T]] = []
        for group in reversed(self._groups):
            found[:0] = group
            if group[0].at <= at:
                break
        return found

    def shift(self, seconds: float) -> None:
        """The clock by which packets come was set: those that are kept have come so much later by the new one."""
        self._groups = deque([replace(packet, at=packet.at + seconds) for packet in group] for group in self._groups)

    def clear(self) -> None:
        """Drop everything, since another stream begins."""
        self._groups.clear()
        self.nbytes = 0


class Times(NamedTuple):
    """When a packet is decoded and shown, in ticks of its stream's clock; None: that was not sent."""

    decoded: int | None
    shown: int | None
    duration: int


def filled_times(packets: Sequence[Times]) -> list[Times]:
    """The times of the packets with which a clip begins, in their order, with what is missing at the beginning.

    Over RTSP the first packet of a stream, which is its key frame, has neither time, and some after it only that at
    which they are shown. Without them the clip could not be decoded up to the next key frame, so their times are
    reckoned from those behind them.
    """
    filled: list[Times] = []
    next_decoded: int | None = None
    next_shown: int | None = None
    for decoded, shown, duration in reversed(packets):
        step = max(1, duration)
        if decoded is None:
            decoded = shown if next_decoded is None else next_decoded - step
        if shown is None:
            shown = decoded if next_shown is None or decoded is None else max(decoded, next_shown - step)
        filled.append(Times(decoded, shown, duration))
        next_decoded, next_shown = decoded, shown
    return filled[::-1]
