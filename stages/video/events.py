"""Events: what happens to the things in one camera's picture. Pure.

    confirmed tracks of a frame, its time ──▶ Events.step ──▶ reports: an event begins, changes or ends

    object    a thing is in the picture                                       always
    enter     a thing is in a zone, from when it came in until it leaves      by a rule
    loiter    the same, once it has been there for so many seconds
    leave     a thing has left a zone: told once, when it is over, with the time that it was there
    count     more than so many things are in a zone

A rule without a zone is about the whole picture.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from stages.video.cameras import Camera, Rule
from stages.video.event import BROKEN, GONE, OVER, Best, Event, Report
from stages.video.tracker import Track
from stages.video.zones import Presence

__all__ = ["Events"]

_OBJECT, _LEAVE, _COUNT = "object", "leave", "count"

_BETTER = 0.05
"""How much more a picture must be worth to replace the best one: otherwise each frame would replace it."""


class _Cause(NamedTuple):
    """What an event is about; at a time there is one event for each at most."""

    rule: int
    """Its index among the camera's rules; -1: none."""
    track: int
    """The track's number; 0: none."""


class _Departure(NamedTuple):
    """A thing that is not in a zone any more."""

    track: Track
    zone: str
    since: float
    until: float
    reason: str


class Events:
    """The events of one camera, during one stream.

    Args:
        name: of the camera; the ids of events contain it.
    """

    def __init__(self, name: str, camera: Camera) -> None:
        self._name = name
        self._camera = camera
        self._presence = Presence(camera.zones)
        self._open: dict[_Cause, Event] = {}
        self._best: dict[int, Best] = {}
        self._zones: dict[int, tuple[str, ...]] = {}
        self._number = 0

    def zones_of(self, track: int) -> list[str]:
        """The zones in which a thing is, by its track's number."""
        return list(self._presence.of(track))

    def step(self, tracks: Sequence[Track], ended: Iterable[Track], time: float, sequence: int) -> list[Report]:
        """Take one frame.

        Args:
            tracks: the confirmed ones.
            ended: those that were confirmed and have ended with this frame.
            sequence: the number of the frame's request in its stream.
        """
        departures = self._departures(tracks, ended, time)
        self._look(tracks, sequence)
        wanted = self._wanted(tracks, time)
        reports = self._ends(wanted, departures, time)
        for cause, event in wanted.items():
            reports += self._begins_or_changes(cause, event)
        for rule in self._camera.rules:
            if rule.kind == _LEAVE:
                reports += [
                    Report("end", self._left(one, rule))
                    for one in departures
                    if one.zone == rule.zone and rule.concerns(one.track.label)
                ]
        self._best = {track.number: self._best[track.number] for track in tracks}
        self._zones = {track.number: self._zones[track.number] for track in tracks}
        return reports

    def close(self, time: float) -> list[Report]:
        """End all that is open, since the stream has ended."""
        reports = [Report("end", replace(event, end=time, reason=BROKEN)) for event in self._open.values()]
        self._open.clear()
        return reports

    def _departures(self, tracks: Sequence[Track], ended: Iterable[Track], time: float) -> list[_Departure]:
        """What has left a zone, or the picture, with this frame."""
        departures = []
        for track in ended:
            # It was last there when it was last seen.
            for zone, since in {"": track.began, **self._presence.of(track.number)}.items():
                departures.append(_Departure(track, zone, since, track.seen, GONE))
        for track, zone, since in self._presence.update(tracks, time):
            departures.append(_Departure(track, zone, since, time, OVER))
        return departures

    def _look(self, tracks: Sequence[Track], sequence: int) -> None:
        """Note the best picture of each thing, and the zones that it has been in."""
        for track in tracks:
            visited = self._zones.get(track.number, ())
            self._zones[track.number] = tuple(dict.fromkeys([*visited, *self._presence.of(track.number)]))
            best = self._best.get(track.number)
            # A thing that is unseen is in no picture.
            if best is None or track.unseen_s == 0:
                this = Best(track.seen, sequence, track.score, track.box)
                if best is None or this.worth >= best.worth + _BETTER:
                    self._best[track.number] = this

    def _wanted(self, tracks: Sequence[Track], time: float) -> dict[_Cause, Event]:
        """The events that there are in this frame."""
        wanted = {_Cause(-1, track.number): self._of_thing(_OBJECT, track, "", track.began) for track in tracks}
        for index, rule in enumerate(self._camera.rules):
            there = [
                (track, since)
                for track in tracks
                if rule.concerns(track.label) and (since := self._since(track, rule.zone)) is not None
            ]
            if rule.kind == _COUNT:
                if len(there) > rule.over:
                    wanted[_Cause(index, 0)] = Event("", rule.kind, time, zone=rule.zone, count=len(there))
            elif rule.kind != _LEAVE:
                for track, since in there:
                    # While a thing is out of sight it may be gone already.
                    if track.seen - since >= rule.seconds:
                        wanted[_Cause(index, track.number)] = self._of_thing(rule.kind, track, rule.zone, since)
        return wanted

    def _since(self, track: Track, zone: str) -> float | None:
        """When a thing came into a zone; None: it is not in it."""
        return self._presence.of(track.number).get(zone) if zone else track.began

    def _of_thing(self, rule: str, track: Track, zone: str, start: float) -> Event:
        best = self._best[track.number]
        return Event(
            "",
            rule,
            start,
            label=track.label,
            track=track.number,
            zone=zone,
            zones=self._zones[track.number],
            score=max(best.score, track.score),
            box=track.box,
            best=best,
        )

    def _ends(self, wanted: Container[_Cause], departures: Sequence[_Departure], time: float) -> list[Report]:
        """End what is open and is not so any more."""
        gone = {one.track.number: one.until for one in departures if one.reason == GONE}
        reports = []
        for cause in [cause for cause in self._open if cause not in wanted]:
            until, reason = (gone[cause.track], GONE) if cause.track in gone else (time, OVER)
            reports.append(Report("end", replace(self._open.pop(cause), end=until, reason=reason)))
        return reports

    def _begins_or_changes(self, cause: _Cause, event: Event) -> list[Report]:
        """Take how an event is now; it is told if it begins, or has changed in more than the thing's place."""
        before = self._open.get(cause)
        if before is None:
            event = replace(event, id=self._id(event.start))
        else:
            event = replace(event, id=before.id, start=before.start, score=max(event.score, before.score))
        self._open[cause] = event
        if before is None:
            return [Report("begin", event)]
        changed = (event.zones, event.best, event.count) != (before.zones, before.best, before.count)
        return [Report("update", event)] if changed else []

    def _left(self, departure: _Departure, rule: Rule) -> Event:
        event = self._of_thing(rule.kind, departure.track, departure.zone, departure.since)
        return replace(event, id=self._id(event.start), end=departure.until, reason=departure.reason)

    def _id(self, start: float) -> str:
        self._number += 1
        return f"{start:.3f}-{self._name}-{self._number}"
