"""Recording: which packets of a camera become which clips, by the events that it has. Pure.

    packets ───▶ Recording.packet ──┐
    events  ───▶ Recording.events ──┼──▶ Begin, Write, Close: for `pipeline.video.clips`
    time    ───▶ Recording.tick   ──┘

         before_s │ event a ──────────┐        │ after_s
                  │        event b ───┴──┐     │
    ├─────────────┴─────────── clip ─────┴─────┤        events that overlap share a clip, which is called by the first

A clip begins with a key frame, so perhaps a moment earlier.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pipeline.video.packets import Packet, PacketRing

__all__ = ["Begin", "Close", "Instruction", "RecordOptions", "Recording", "Stored", "Write", "expired"]

T = TypeVar("T")

_TOLD_S = 5.0
"""How much later than it began an event may be told: a thing counts only after several frames, and a frame takes its
way through the pipeline. So the packets of this time are kept as well."""


_SET_BACK_S = 1.0
"""A packet that comes so much before the one before it says that the clock was set back."""


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """What is recorded of a camera."""

    before_s: float = 5.0
    """Seconds before an event."""
    after_s: float = 10.0
    """Seconds after it."""
    longest_s: float = 300.0
    """Of a clip; what an event lasts longer is not recorded."""
    most_bytes: int = 256 << 20
    """Of a clip."""
    ring_bytes: int = 32 << 20
    """Of the packets that are kept in memory for the seconds before an event."""
    rules: frozenset[str] | None = None
    """The rules whose events are recorded, such as enter; None: all, `object` included."""


@dataclass(frozen=True, slots=True)
class Begin(Generic[T]):
    """Begin a clip."""

    event: str
    """The id of the event by which it is called."""
    packets: Sequence[Packet[T]]
    """Those to begin with; the first is a key frame."""


@dataclass(frozen=True, slots=True)
class Write(Generic[T]):
    """Add a packet to the clip."""

    packet: Packet[T]


@dataclass(frozen=True, slots=True)
class Close:
    """The clip is whole."""

    events: tuple[str, ...]
    """The ids of the events that it shows, at least in part: the first one first."""
    reason: str
    """over; longest or size, if the clip is as long or as large as may be; stream, if that has ended."""


Instruction = Begin[T] | Write[T] | Close


@dataclass(slots=True)
class _Clip:
    """The clip that is being written."""

    began: float
    nbytes: int
    events: list[str] = field(default_factory=list)
    going_on: set[str] = field(default_factory=set)
    until: float = 0.0
    """When it ends, if no event goes on."""


class Recording(Generic[T]):
    """The clips of one camera: one at a time."""

    def __init__(self, options: RecordOptions) -> None:
        self._options = options
        self._ring: PacketRing[T] = PacketRing(options.before_s + _TOLD_S, options.ring_bytes)
        self._clip: _Clip | None = None
        #: When the last packet came; and the one before the clock was set back.
        self._last = self._ahead = -math.inf

    def packet(self, packet: Packet[T]) -> list[Instruction[T]]:
        """Take a packet of the stream."""
        if packet.at < self._last - _SET_BACK_S:
            self._set_back(packet.at - self._last)
        self._last = packet.at
        self._ring.add(packet)
        instructions = self.tick(packet.at)
        clip = self._clip
        if clip is None:
            return instructions
        if clip.nbytes + packet.nbytes > self._options.most_bytes:
            return [*instructions, self._closed("size")]
        clip.nbytes += packet.nbytes
        return [*instructions, Write(packet)]

    def events(self, events: Iterable[Mapping[str, Any]], now: float) -> list[Instruction[T]]:
        """Take the events of an answer.

        Args:
            events: as `pipeline.video.open_events` gives them, so that each of them ends.
            now: seconds since 1970.
        """
        instructions: list[Instruction[T]] = []
        for event in events:
            rule, state, id = event["rule"], event["state"], event["id"]
            if self._options.rules is not None and rule not in self._options.rules:
                continue
            # `leave` is told once, as an end.
            is_new = state == "begin" or rule == "leave"
            if self._clip is None and is_new:
                # What `leave` was about began long ago: the thing goes now.
                instructions += self._begun(id, now if rule == "leave" else event["start"])
            clip = self._clip
            if clip is None:
                continue
            if is_new:
                clip.events.append(id)
            if state == "begin":
                clip.going_on.add(id)
            elif state == "end":
                clip.going_on.discard(id)
                # What follows things lets no time go back, and stands where the clock was before it was set back.
                ended = self._last if self._last < now < self._ahead + _SET_BACK_S else now
                clip.until = max(clip.until, ended + self._options.after_s)
        return instructions

    def tick(self, now: float) -> list[Instruction[T]]:
        """Time has passed, perhaps without a packet."""
        clip = self._clip
        if clip is None:
            return []
        if not clip.going_on and now > clip.until:
            return [self._closed("over")]
        if now - clip.began > self._options.longest_s:
            return [self._closed("longest")]
        return []

    def ended(self) -> list[Instruction[T]]:
        """The stream has ended; the packets of another one do not fit those that are kept."""
        self._ring.clear()
        return [self._closed("stream")] if self._clip is not None else []

    def _set_back(self, seconds: float) -> None:
        """The clock was set back, by this negative number: otherwise a clip would last until it has caught up."""
        self._ahead = self._last
        self._ring.shift(seconds)
        if self._clip is not None:
            self._clip.began += seconds
            self._clip.until += seconds

    def _begun(self, event: str, start: float) -> list[Instruction[T]]:
        packets = self._ring.since(start - self._options.before_s)
        if not packets:
            # The stream has just begun, or is frozen: there is nothing that a clip could begin with.
            return []
        self._clip = _Clip(packets[0].at, sum(packet.nbytes for packet in packets))
        return [Begin(event, packets)]

    def _closed(self, reason: str) -> Close:
        assert self._clip is not None
        events = tuple(self._clip.events)
        self._clip = None
        return Close(events, reason)


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies in the folder of the clips of one event."""

    name: str
    nbytes: int
    at: float
    """When it was written, in seconds since 1970."""


def expired(stored: Iterable[Stored], now: float, keep_s: float, most_bytes: int) -> list[str]:
    """The names of what must go: what is older than `keep_s`, then the oldest until the rest has `most_bytes`."""
    kept = sorted(stored, key=lambda one: (one.at, one.name))
    total = sum(one.nbytes for one in kept)
    gone = []
    for one in kept:
        if one.at >= now - keep_s and total <= most_bytes:
            break
        gone.append(one.name)
        total -= one.nbytes
    return gone
