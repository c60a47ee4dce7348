"""Watched: which kinds of things and which zones of a camera are told of. Pure.

The options of `stages.video.track:Track` say it, if it names the kinds that count, and so it is known before the first
frame. Otherwise a kind of thing is known once it has been seen, or was announced before: the broker keeps that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.graph.plan import Plan, StagePlan
from pipeline.video.tracking import TRACK, output_of
from stages.video.cameras import Camera, camera_of
from stages.video.zones import Zone

__all__ = ["OBJECT", "Place", "Watched", "watched_in"]

OBJECT = "object"
"""The rule that every thing has."""
_RULES = (OBJECT, "enter", "leave", "loiter", "count")
_UNASKED = 20
"""A detector of so many kinds of things at most: all of them are told of although none was named."""
_MOST = 64
"""Kinds of things that are told of because they were seen."""


class Place(NamedTuple):
    """A kind of thing somewhere."""

    zone: str
    """Empty: anywhere in the picture."""
    label: str


class Watched:
    """What of one camera is told.

    Args:
        labels: the kinds of things that count; None: those that come.
        zones: those of the camera; None: those that come.
        rules: the kinds of events that there may be.
    """

    def __init__(
        self,
        labels: Iterable[str] | None = None,
        zones: Sequence[Zone] | None = None,
        rules: Sequence[str] = _RULES,
    ) -> None:
        self.rules = tuple(rules)
        self._open = labels is None
        self._zones = zones
        self._places: dict[Place, None] = {}
        for label in labels or ():
            self._add(label)

    @property
    def places(self) -> tuple[Place, ...]:
        """All that is told of."""
        return tuple(self._places)

    def see(self, document: Mapping[str, Any]) -> bool:
        """Take an answer; whether there is something that was not known before."""
        before = len(self._places)
        if self._open:
            for track in document["tracks"]:
                self._add(track["label"], track["zones"])
        return len(self._places) != before

    def recall(self, places: Iterable[Place]) -> bool:
        """Take what was announced before; whether there is something that was not known."""
        before = len(self._places)
        if self._open:
            for zone, label in places:
                self._add(label, [zone] if zone else [])
        return len(self._places) != before

    def counts(self, document: Mapping[str, Any]) -> dict[Place, int]:
        """How many things there are of each kind."""
        counts = dict.fromkeys(self._places, 0)
        for track in document["tracks"]:
            for zone in ("", *track["zones"]):
                place = Place(zone, track["label"])
                if place in counts:
                    counts[place] += 1
        return counts

    def _add(self, label: str, zones: Iterable[str] = ()) -> None:
        labels = {place.label for place in self._places}
        if self._open and label not in labels and len(labels) >= _MOST:
            return
        self._places.setdefault(Place("", label))
        if self._zones is not None:
            zones = [zone.name for zone in self._zones if zone.labels is None or label in zone.labels]
        for zone in zones:
            if self._zones is not None or len(self._places) < _MOST * 8:
                self._places.setdefault(Place(zone, label))


def watched_in(plan: Plan, camera: str, labels: Callable[[str, Path], list[str]]) -> Watched:
    """What of a camera the plan says.

    Args:
        labels: reads a file of labels, as `stages.catalogue.labels`.

    Raises:
        StageError: as Track itself, with the same options.
    """
    for stage in plan.stages:
        if stage.use == TRACK and output_of(plan, stage) is not None:
            kinds = _kinds_of(stage, Path(plan.base_dir), labels)
            found = _camera_in(stage.options, camera, kinds)
            counted = found.labels if found.labels is not None else kinds if len(kinds) <= _UNASKED else None
            rules = dict.fromkeys([OBJECT, *(rule.kind for rule in found.rules)])
            ordered = None if counted is None else [kind for kind in dict.fromkeys(kinds) if kind in counted]
            return Watched(ordered, found.zones, tuple(rules))
    return Watched()


def _kinds_of(stage: StagePlan, base_dir: Path, labels: Callable[[str, Path], list[str]]) -> list[str]:
    named: str | list[str] = stage.options["labels"]
    return labels(named, base_dir) if isinstance(named, str) else list(named)


def _camera_in(options: Mapping[str, Any], camera: str, kinds: Sequence[str]) -> Camera:
    default = camera_of("default", options.get("default"), kinds)
    cameras = options.get("cameras") or {}
    return camera_of(f"cameras.{camera}", cameras[camera], kinds, default) if camera in cameras else default
