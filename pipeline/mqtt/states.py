"""States: what is published of one camera, decided by the answers to its frames and its counts. Pure.

    answered, failed, reported, paused, kept ──▶ States ──▶ publications, of states only those that have changed

Whether the frames are being looked at is a state of its own. It begins with an answer, and ends if the camera is not
connected, if it is paused, if frames fail and none is answered for a while, or if the source itself is stuck.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from pipeline.mqtt.entities import announcement, event_type, places_in, with_remainders
from pipeline.mqtt.topics import OFF, OFFLINE, ON, ONLINE, Publication, Topics
from pipeline.mqtt.watched import Watched
from pipeline.video.open_events import best_shown
from pipeline.video.tracks import Told
from pipeline.wire.camera import CameraCounts, State

__all__ = ["DIAGNOSTICS_S", "PATIENCE_S", "States"]

DIAGNOSTICS_S = 10.0
"""How often diagnostics are published, beside each change of the camera's state: Home Assistant keeps each of them."""
PATIENCE_S = 10.0
"""For so long frames may fail, or the source say nothing, before the camera is not looked at any more."""

_LEAST_S = 1.0
"""A rate of frames is counted over so long at least."""


class States:
    """The states of one camera.

    Args:
        pipeline: its name.
        version: of this program.
        snapshots: whether pictures are published.
    """

    def __init__(self, topics: Topics, watched: Watched, pipeline: str, version: str, *, snapshots: bool) -> None:
        self._topics = topics
        self._watched = watched
        self._pipeline, self._version = pipeline, version
        self._snapshots = snapshots
        #: The announcement that the broker has kept of an earlier source.
        self._kept: object = None
        self._published: dict[str, str] = {}
        self._fresh = False
        self._connected = False
        self._heard_at = 0.0
        self._failing_since: float | None = None
        self._age_ms: float | None = None
        #: When diagnostics were last published, and in which state of the camera.
        self._said: tuple[float, str] | None = None
        #: When how many frames were answered, from which the next rate is counted.
        self._base: tuple[float, int] | None = None
        self._fps: float | None = None

    def begin(self, *, paused: bool) -> list[Publication]:
        """What is said before the first frame."""
        states = [self._announcement(), self._changed(self._topics.watching, OFFLINE), *self.paused(paused)]
        if not self._snapshots:
            states.append(Publication(self._topics.snapshot, ""))
        if not self._watched.places:
            states.append(Publication(self._topics.things, ""))
        return _those(states)

    def answered(self, seen: Told, age_ms: float, now: float) -> tuple[list[Publication], bool]:
        """A frame was answered.

        Args:
            seen: what its answer tells of things.
            age_ms: of the frame.
            now: monotonic seconds, as in all calls.

        Returns:
            What is published, and whether this frame shows a thing best, and so should be as well.
        """
        self._fresh, self._failing_since, self._age_ms = True, None, age_ms
        told: list[Publication | None] = []
        picture = False
        if (document := seen.document) is not None:
            if self._watched.see(document):
                told.append(self._announcement())
            told.append(self._changed(self._topics.things, self._things(document)))
            told += [self._event(event) for event in seen.events]
            picture = self._snapshots and bool(best_shown(seen.events, document))
        told.append(self._watching(now))
        return _those(told), picture

    def failed(self, now: float) -> list[Publication]:
        """A frame has no answer."""
        if self._failing_since is None:
            self._failing_since = now
        return _those([self._watching(now)])

    def reported(self, counts: CameraCounts, now: float, clock: float) -> list[Publication]:
        """How the camera is.

        Args:
            clock: seconds since 1970, now.
        """
        connected = counts.state == State.CONNECTED
        if not connected:
            # What is known of its things is of before: the next answer says what is true.
            self._fresh = False
        self._connected, self._heard_at = connected, now
        return _those([self._watching(now), self._diagnostics(counts, now, clock)])

    def tick(self, now: float) -> list[Publication]:
        """Time has passed."""
        return _those([self._watching(now)])

    def paused(self, on: bool) -> list[Publication]:
        """Whether the camera is paused."""
        return _those([self._changed(self._topics.paused, ON if on else OFF)])

    def kept(self, document: object) -> list[Publication]:
        """The broker has this announcement of the camera: of an earlier source, or this one's own."""
        self._watched.recall(places_in(document))
        self._kept = document
        return _those([self._announcement()])

    def _watching(self, now: float) -> Publication | None:
        failing = self._failing_since is not None and now - self._failing_since >= PATIENCE_S
        stuck = now - self._heard_at >= PATIENCE_S
        if stuck or failing:
            self._fresh = False
        watching = self._connected and self._fresh
        return self._changed(self._topics.watching, ONLINE if watching else OFFLINE)

    def _announcement(self) -> Publication | None:
        document = announcement(
            self._topics,
            self._pipeline,
            self._version,
            self._watched.places,
            self._watched.rules,
            snapshots=self._snapshots,
        )
        return self._changed(self._topics.config, json.dumps(with_remainders(document, self._kept)))

    def _things(self, document: Mapping[str, Any]) -> str:
        things: dict[str, Any] = {"all": {}, "zones": {}}
        for (zone, label), count in self._watched.counts(document).items():
            (things["zones"].setdefault(zone, {}) if zone else things["all"])[label] = count
        return json.dumps(things)

    def _event(self, event: Mapping[str, Any]) -> Publication:
        told = {"event_type": event_type(event["state"], event["rule"]), **event}
        return Publication(self._topics.events, json.dumps(told), retain=False)

    def _diagnostics(self, counts: CameraCounts, now: float, clock: float) -> Publication | None:
        # Before there is a rate, it is waited for less.
        pause_s = _LEAST_S if self._fps is None else DIAGNOSTICS_S
        if self._said is not None and counts.state == self._said[1] and now - self._said[0] < pause_s:
            return None
        self._said = now, counts.state
        if self._base is None:
            self._base = now, counts.answered
        elif (passed := now - self._base[0]) >= _LEAST_S:
            self._fps = round(max(counts.answered - self._base[1], 0) / passed, 1)
            self._base = now, counts.answered
        frame_at = None if not counts.last_frame else clock - (now - counts.last_frame / 1e9)
        document = {
            "state": counts.state,
            "detail": counts.detail,
            "fps": self._fps,
            "age_ms": None if self._age_ms is None else round(self._age_ms, 1),
            "frames": counts.frames,
            "answered": counts.answered,
            "failed": counts.failed,
            "dropped": sum(counts.dropped.values()),
            "drops": counts.dropped,
            "reconnects": counts.reconnects,
            "last_frame": None if frame_at is None else _iso(frame_at),
        }
        return self._changed(self._topics.diagnostics, json.dumps(document))

    def _changed(self, topic: str, payload: str) -> Publication | None:
        if self._published.get(topic) == payload:
            return None
        self._published[topic] = payload
        return Publication(topic, payload)


def _those(publications: list[Publication | None]) -> list[Publication]:
    return [one for one in publications if one is not None]


def _iso(clock: float) -> str:
    return datetime.fromtimestamp(clock, timezone.utc).isoformat(timespec="milliseconds")
