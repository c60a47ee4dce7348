"""Tracker: which detection of a frame is which thing of the frames before. Pure.

    detections of one frame, and its time ──▶ Tracker.step ──▶ the tracks that have ended
                                                  └─▶ Tracker.tracks, those that go on

A detection belongs to the track of its class whose predicted box (`stages.video.kalman`) it overlaps most. If a thing
moves by more than its own size from one frame to the next, no boxes overlap, so what is left over is compared once
more, with boxes that are twice as large. What belongs to no track begins one.

A frame in which nothing moved need not be looked at: then a track neither moves nor grows old.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from stages.stage import Array
from stages.video.geometry import overlaps
from stages.video.kalman import Motion, begun, box_of, corrected, predicted

__all__ = ["Detection", "Track", "Tracker", "TrackerOptions"]

#: Overlap of a detection with the predicted box, at least; and of both if they are enlarged.
_OVERLAP, _ENLARGED_OVERLAP = 0.3, 0.2

#: A frame that comes later than this counts as so much later: after an hour without frames, no track is an hour unseen.
_LONGEST_STEP_S = 1.0


class Detection(NamedTuple):
    """One thing that the detector has found."""

    label: str
    score: float
    box: tuple[float, float, float, float]
    """y_min, x_min, y_max, x_max, in fractions of the picture."""


@dataclass(frozen=True, slots=True)
class TrackerOptions:
    """When tracks begin and end."""

    begin: float = 0.5
    """A track begins with a detection of at least this score; it goes on with those of lower ones."""
    confirm: int = 3
    """Frames in a row in which a thing must be seen before it counts."""
    patience_s: float = 2.0
    """Seconds for which a thing that counts may be unseen."""
    most: int = 32
    """Tracks at one time; a detection that would begin one more is left out."""


@dataclass(frozen=True, slots=True)
class Track:
    """One thing, over several frames."""

    number: int
    """Which track of its tracker it is, from 1."""
    label: str
    score: float
    """Of its last detection."""
    motion: Motion
    began: float
    """The time of its first detection."""
    seen: float
    """The time of its last one, or of a later frame that was not looked at since nothing moved."""
    hits: int = 1
    """How many detections it has had."""
    unseen_s: float = 0.0
    """Seconds, of frames that were looked at, since its last detection."""
    confirmed: bool = False
    """Whether it counts."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Where it is, or is thought to be, within the picture."""
        y_min, x_min, y_max, x_max = box_of(self.motion).clip(0, 1).tolist()
        return y_min, x_min, y_max, x_max


class Tracker:
    """The things in the frames of one camera."""

    def __init__(self, options: TrackerOptions) -> None:
        self._options = options
        self._time: float | None = None
        self._number = 0
        #: Those that go on; confirmed ones count, the others perhaps will.
        self.tracks: tuple[Track, ...] = ()
        #: Detections that began no track because there were too many.
        self.left_out = 0

    def step(self, detections: Sequence[Detection] | None, time: float) -> list[Track]:
        """Take one frame.

        Args:
            detections: what was found; None: the frame was not looked at, since nothing moved.
            time: when the frame was taken, in seconds; not before the frame before.

        Returns:
            The confirmed tracks that have ended.
        """
        elapsed = 0.0 if self._time is None else min(max(time - self._time, 0.0), _LONGEST_STEP_S)
        self._time = time
        if detections is None:
            # What was there a moment ago is there, since nothing has moved.
            self.tracks = tuple(track if track.unseen_s else replace(track, seen=time) for track in self.tracks)
            return []
        moved = [replace(track, motion=predicted(track.motion, elapsed)) for track in self.tracks]
        matched = self._matched(moved, detections)
        tracks, ended = [], []
        for index, track in enumerate(moved):
            if (found := matched.get(index)) is not None:
                tracks.append(self._seen(track, detections[found], time))
                continue
            unseen_s = track.unseen_s + elapsed
            if track.confirmed and unseen_s < self._options.patience_s:
                tracks.append(replace(track, unseen_s=unseen_s))
            elif track.confirmed:
                ended.append(track)
        taken = set(matched.values())
        for index, detection in enumerate(detections):
            if index not in taken and detection.score >= self._options.begin:
                if len(tracks) < self._options.most:
                    tracks.append(self._begun(detection, time))
                else:
                    self.left_out += 1
        self.tracks = tuple(tracks)
        return ended

    def _begun(self, detection: Detection, time: float) -> Track:
        self._number += 1
        confirmed = self._options.confirm <= 1
        motion = begun(detection.box)
        return Track(self._number, detection.label, detection.score, motion, time, time, confirmed=confirmed)

    def _seen(self, track: Track, detection: Detection, time: float) -> Track:
        hits = track.hits + 1
        return replace(
            track,
            score=detection.score,
            motion=corrected(track.motion, detection.box),
            seen=time,
            hits=hits,
            unseen_s=0.0,
            confirmed=track.confirmed or hits >= self._options.confirm,
        )

    @staticmethod
    def _matched(tracks: Sequence[Track], detections: Sequence[Detection]) -> dict[int, int]:
        """Which track has which detection, both by index; each at most once."""
        if not tracks or not detections:
            return {}
        predictions = np.array([box_of(track.motion) for track in tracks])
        boxes = np.array([detection.box for detection in detections])
        same = np.array([[track.label == found.label for found in detections] for track in tracks])
        matched: dict[int, int] = {}
        for overlap, least in (
            (overlaps(predictions, boxes), _OVERLAP),
            (overlaps(_enlarged(predictions), _enlarged(boxes)), _ENLARGED_OVERLAP),
        ):
            left = np.where(same, overlap, 0.0)
            left[list(matched)] = 0
            left[:, list(matched.values())] = 0
            # The largest overlap first.
            while left.max() >= least:
                track, detection = np.unravel_index(left.argmax(), left.shape)
                matched[int(track)] = int(detection)
                left[track], left[:, detection] = 0, 0
        return matched


def _enlarged(boxes: Array) -> Array:
    """Boxes of twice the height and width around the same centres."""
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    return np.column_stack([boxes[:, :2] - half, boxes[:, 2:] + half])
