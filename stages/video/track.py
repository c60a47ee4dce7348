"""Track: from the detections of a camera's frames to tracks and events."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages import catalogue
from stages.errors import BadInput, BadOption
from stages.request import RequestInfo
from stages.spec import TensorSpec
from stages.stage import Array, Batch
from stages.video.cameras import Camera, camera_of
from stages.video.event import Report, rounded
from stages.video.events import Events
from stages.video.frame import frame_of
from stages.video.geometry import foot, inside
from stages.video.options import fraction, mapping_of, number
from stages.video.streams import Streams
from stages.video.tracker import Detection, Tracker, TrackerOptions
from stages.video.tracker import Track as Tracked

__all__ = ["Track"]

_MOST_UNTOLD = 1000
"""Reports of one camera that wait for room in an answer."""

_SET_BACK_S = 1.0
"""A frame that was taken so much before the one before it says that the clock was set back."""

_LEAST_BYTES = 4096
"""Of an answer: with less, a single report might never have room."""


class _Watch:
    """One camera during one stream."""

    def __init__(self, name: str, camera: Camera, options: TrackerOptions) -> None:
        self.name = name
        self.camera = camera
        self.tracker = Tracker(options)
        self.events = Events(name, camera)
        #: When its last frame was taken.
        self.time = 0.0
        #: What is still to be told: an answer has no room for any number of reports.
        self.untold: deque[tuple[Report, float]] = deque()
        #: Reports that were dropped because there were too many.
        self.dropped = 0

    def tell(self, reports: Sequence[Report], time: float) -> None:
        """Keep the reports of a frame of that time, until an answer has room for them."""
        self.untold += [(report, time) for report in reports]
        while len(self.untold) > _MOST_UNTOLD:
            self.untold.popleft()
            self.dropped += 1

    def told(self, room: int) -> list[dict[str, Any]]:
        """As many reports, the eldest first, as there is room for in these bytes of JSON."""
        events = []
        while self.untold:
            report, time = self.untold[0]
            event = {"state": report.state, **report.event.document(self.name, time)}
            room -= len(json.dumps(event)) + len(", ")
            if room < 0:
                break
            events.append(event)
            self.untold.popleft()
        return events


class Track:
    """Follows things from frame to frame, and tells what happens to them.

    A camera is a stream of requests that are called by the camera's name (stages.video.frame). What this stage keeps of
    a camera belongs to its stream: with a new stream of the same camera, its events end with the reason "stream".
    So they do if the clock is set back by more than a second.

    Input `detections`: float32 of shape (most, 6), class, score, y_min, x_min, y_max, x_max, as from
    stages.video.nanodet. May be missing, if the stage before was skipped: then the frame was not looked at, since
    nothing moved, and all things stay where they are.
    Input `count`: int32 of shape (), how many rows of it count; may be missing too.
    Output `tracks`: JSON, {"camera", "stream", "sequence", "time", "looked", "tracks", "events", ...};
    docs/edge-events.md has each field.

    A request of no stream, with a name of more than 64 characters, or with detections that are no numbers, fails with
    BadInput.

    Args:
        labels: names of the classes: a list, or a file with one a line.
        cameras: {camera: {zones, masks, labels, rules}}; docs/edge-events.md has each of them.
        default: the same, for what is not said of a camera, and for cameras that are not named.
        begin: a thing is followed from a detection of at least this score on; it may be lower afterwards.
        confirm: frames in a row in which a thing must be found before it counts.
        patience_s: seconds for which a thing that counts may be out of sight.
        most: detections of a frame; the same as in the stage before.
        max_tracks: things that are followed at one time in one camera.
        max_bytes: of an answer. Reports of events that have no room in it come with the next frame.
        base_dir: the folder to which `labels` is relative.

    Raises:
        BadOption: an option makes no sense.
        ModelError: the file of labels cannot be read.
    """

    def __init__(
        self,
        labels: Sequence[str] | str,
        cameras: Mapping[str, Any] | None = None,
        default: Mapping[str, Any] | None = None,
        begin: float = 0.5,
        confirm: int = 3,
        patience_s: float = 2.0,
        most: int = 20,
        max_tracks: int = 32,
        max_bytes: int = 1 << 16,
        base_dir: str | Path = ".",
    ) -> None:
        self._labels = catalogue.labels(labels, Path(base_dir)) if isinstance(labels, str) else list(labels)
        if min(confirm, most, max_tracks) < 1:
            raise BadOption(f"confirm {confirm}, most {most}, max_tracks {max_tracks}: expected at least 1")
        if max_bytes < _LEAST_BYTES:
            raise BadOption(f"max_bytes {max_bytes}: expected at least {_LEAST_BYTES}")
        self._options = TrackerOptions(
            fraction("begin", begin), confirm, number("patience_s", patience_s, at_least=0), max_tracks
        )
        self._default = camera_of("default", default, self._labels)
        self._cameras = {
            name: camera_of(f"cameras.{name}", value, self._labels, self._default)
            for name, value in mapping_of("cameras", cameras).items()
        }
        self._max_bytes = max_bytes
        self._watches = Streams(self._begun)
        self._now: Callable[[], float] = time.time
        # Rows of one batch are taken one after the other, whatever each of them has.
        self.ragged = True
        self.inputs = (
            TensorSpec("detections", "float32", (most, 6), optional=True),
            TensorSpec("count", "int32", (), optional=True),
        )
        self.outputs = (TensorSpec.json("tracks", max_bytes=max_bytes),)

    def process(self, batch: Batch) -> None:
        rows = zip(batch.requests, batch.rows("detections"), batch.rows("count"))
        # Rows are in no promised order, frames of a stream are.
        for row, (request, detections, count) in sorted(enumerate(rows), key=lambda one: one[1][0].sequence):
            try:
                found = None if detections is None or count is None else self._found(detections, int(count))
                batch.write(row, "tracks", self._document(request, found))
            except BadInput as error:
                batch.fail(row, error)

    def _found(self, detections: Array, count: int) -> list[Detection]:
        """The things in one frame.

        Raises:
            BadInput: the stage before has given no such things.
        """
        if not 0 <= count <= len(detections):
            raise BadInput(f"a count of {count} detections: expected from 0 to {len(detections)}")
        if not np.isfinite(detections[:count]).all():
            raise BadInput("detections that are not finite")
        return [self._detection(row) for row in detections[:count]]

    def _document(self, request: RequestInfo, found: list[Detection] | None) -> dict[str, Any]:
        """Take one frame; what is told of it.

        Raises:
            BadInput: it is no frame of a camera, or its tracks are more than an answer has room for.
        """
        name, taken = frame_of(request.name)
        watch, before = self._watches.of(request, name)
        # A frame's time may be that of another clock, and for a track no time goes backwards. But a clock that was set
        # back must not keep all things where they are until it has caught up: they are as those of another stream.
        taken = self._now() if taken is None else taken
        if taken < watch.time - _SET_BACK_S:
            before, watch = watch, self._watches.renew(name)
        if before is not None:
            # What had no room before the stream ended is told as well.
            before.tell(before.events.close(before.time), before.time)
            watch.untold, watch.dropped = before.untold, before.dropped
        watch.time = taken = max(taken, watch.time)
        detections = None if found is None else [one for one in found if _counts(one, watch.camera)]
        ended = watch.tracker.step(detections, taken)
        tracks = [track for track in watch.tracker.tracks if track.confirmed]
        reports = watch.events.step(tracks, ended, taken, request.sequence)
        watch.tell(reports, taken)
        document = {
            "camera": name,
            "stream": request.stream,
            "sequence": request.sequence,
            "time": round(taken, 3),
            "looked": found is not None,
            "left_out": watch.tracker.left_out,
            "untold": watch.dropped,
            "tracks": [_of_track(track, watch.events.zones_of(track.number)) for track in tracks],
            "events": [],
        }
        room = self._max_bytes - len(json.dumps(document))
        if room < 0:
            raise BadInput(f"its tracks alone take more than the {self._max_bytes} bytes of max_bytes")
        document["events"] = watch.told(room)
        return document

    def _begun(self, name: str) -> _Watch:
        return _Watch(name, self._cameras.get(name, self._default), self._options)

    def _detection(self, row: Array) -> Detection:
        kind = int(row[0])
        label = self._labels[kind] if 0 <= kind < len(self._labels) else f"class {kind}"
        y_min, x_min, y_max, x_max = row[2:].tolist()
        return Detection(label, float(row[1]), (y_min, x_min, y_max, x_max))


def _counts(detection: Detection, camera: Camera) -> bool:
    """Whether a detection is of a kind that counts, and in no mask."""
    if camera.labels is not None and detection.label not in camera.labels:
        return False
    return not any(inside(*foot(detection.box), mask) for mask in camera.masks)


def _of_track(track: Tracked, zones: list[str]) -> dict[str, Any]:
    return {
        "id": track.number,
        "label": track.label,
        "score": round(track.score, 3),
        "box": rounded(track.box),
        "zones": zones,
        "start": round(track.began, 3),
        "seen": round(track.seen, 3),
    }
