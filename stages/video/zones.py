"""Zones: parts of a camera's picture, and which things are in them. Pure.

A thing is where its foot is, the middle of the lower edge of its box. At a zone's edge the foot goes in and out from
one frame to the next, so a thing is taken to be in a zone, or out of it, only after several frames that say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.video.geometry import Polygon, foot, inside
from stages.video.tracker import Track

__all__ = ["Presence", "Zone"]

_FRAMES = 2
"""Frames in a row that must say so."""


@dataclass(frozen=True, slots=True)
class Zone:
    """A part of the picture."""

    name: str
    polygon: Polygon
    labels: frozenset[str] | None = None
    """Kinds of things that count in it; None: all."""

    def holds(self, track: Track) -> bool:
        """Whether a thing is in it, by its present box."""
        return (self.labels is None or track.label in self.labels) and inside(*foot(track.box), self.polygon)


@dataclass(slots=True)
class _Stay:
    """Of one thing and one zone."""

    since: float | None = None
    """When it came in; None: it is not in it."""
    first: float = 0.0
    """When frames began to say the contrary."""
    contrary: int = 0
    """How many frames in a row have done so."""


class Presence:
    """Which things are in which zones of one camera."""

    def __init__(self, zones: Sequence[Zone]) -> None:
        self._zones = zones
        self._stays: dict[int, dict[str, _Stay]] = {}

    def update(self, tracks: Sequence[Track], time: float) -> list[tuple[Track, str, float]]:
        """Take the confirmed tracks of a frame.

        Returns:
            Each that has left a zone: the track, the zone, and when it had come in. Tracks that have ended since the
            frame before are in no zone any more, and are not among them.
        """
        left = []
        stays = {track.number: self._stays.get(track.number, {}) for track in tracks}
        for track in tracks:
            # A track that is unseen is thought to move on; it is no proof that it leaves.
            if track.unseen_s > 0:
                continue
            for zone in self._zones:
                stay = stays[track.number].setdefault(zone.name, _Stay())
                since = stay.since
                if self._changed(stay, zone.holds(track), time) and since is not None:
                    left.append((track, zone.name, since))
        self._stays = stays
        return left

    @staticmethod
    def _changed(stay: _Stay, holds: bool, time: float) -> bool:
        """Take what one frame says; whether the thing has come in or gone out."""
        if holds == (stay.since is not None):
            stay.contrary = 0
            return False
        stay.first = time if not stay.contrary else stay.first
        stay.contrary += 1
        if stay.contrary < _FRAMES:
            return False
        stay.contrary = 0
        stay.since = stay.first if holds else None
        return True

    def of(self, track: int) -> Mapping[str, float]:
        """The zones in which a thing is, and since when, by the track's number."""
        stays = self._stays.get(track, {})
        return {name: stay.since for name, stay in stays.items() if stay.since is not None}
