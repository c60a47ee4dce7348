"""Observers: what is told of the answers to a camera's frames: a file; publishers, recorders, pages can be others."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Protocol

from pipeline.errors import PipelineError, RequestError
from pipeline.feeding.values import json_text, json_value
from pipeline.video.frame import Frame
from pipeline.video.tracks import Told, Tracks
from pipeline.wire.camera import CameraCounts

__all__ = ["JsonLines", "Observer", "Observers"]


class Observer(Protocol):
    """Called in the source's own thread, in the order of the frames; while it runs, no frame is sent."""

    def answered(self, camera: str, frame: Frame, outputs: Mapping[str, Any], told: Told) -> None:
        """A frame was answered.

        Args:
            outputs: their arrays are the pipeline's slots, and are not kept.
            told: what they tell of tracks and events, the same for all observers.

        Raises:
            OSError, ValueError: this answer cannot be shown; it goes on.
        """

    def failed(self, camera: str, frame: Frame, error: RequestError) -> None:
        """A frame has no answer.

        Raises:
            OSError, ValueError: as above.
        """

    def reported(self, counts: CameraCounts) -> None:
        """How the camera is: every second, and at each change of its state.

        Raises:
            OSError, ValueError: as above.
        """

    def close(self) -> None:
        """The source ends: its camera has come to its end, or the run stops."""


class Observers:
    """Those of one camera. If one of them fails, the others are told all the same.

    All methods return, for people, what could not be shown and why.

    Args:
        observers: in the order in which they are told.
        tracks: those of the camera. Each answer is read once, here.
    """

    def __init__(self, camera: str, observers: Sequence[Observer], tracks: Tracks) -> None:
        self._camera = camera
        self._observers = tuple(observers)
        self._tracks = tracks

    def answered(self, frame: Frame, outputs: Mapping[str, Any]) -> list[str]:
        """A frame was answered: called in the order of the frames."""
        told = self._tracks.take(outputs)
        wrong = [f"an answer cannot be shown: {told.wrong}"] if told.wrong else []
        return wrong + self._tell("an answer", lambda one: one.answered(self._camera, frame, outputs, told))

    def failed(self, frame: Frame, error: RequestError) -> list[str]:
        """A frame has no answer."""
        return self._tell("a frame without an answer", lambda one: one.failed(self._camera, frame, error))

    def reported(self, counts: CameraCounts) -> list[str]:
        """How the camera is."""
        return self._tell("the camera's state", lambda one: one.reported(counts))

    def _tell(self, what: str, tell: Callable[[Observer], None]) -> list[str]:
        wrong = []
        for one in self._observers:
            try:
                tell(one)
            except (PipelineError, OSError, ValueError) as error:
                wrong.append(f"{what} cannot be shown: {error}")
        return wrong


class JsonLines:
    """Appends a line of JSON for each answer to a file, which several cameras may share.

        {"camera": "door", "frame": 17, "time": "2026-01-31T12:00:00.123+00:00", "age_ms": 41.5, "outputs": {...}}
        {"camera": "door", "frame": 18, "time": ..., "age_ms": ..., "error": {"code": "StageFailed", "message": "..."}}

    Args:
        fd: open for appending; it is closed with this. A line is one write, so lines of several processes do not mix.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def answered(self, camera: str, frame: Frame, outputs: Mapping[str, Any], told: Told) -> None:
        """See `Observer`."""
        lost: Counter[str] = Counter()
        parts = [json_value(name, lost) + b": " + json_text(value, lost) for name, value in outputs.items()]
        self._write(camera, frame, b'"outputs": {' + b", ".join(parts) + b"}")

    def failed(self, camera: str, frame: Frame, error: RequestError) -> None:
        """See `Observer`."""
        self._write(camera, frame, b'"error": ' + json_value({"code": error.code, "message": str(error)}, Counter()))

    def reported(self, counts: CameraCounts) -> None:
        """See `Observer`."""

    def close(self) -> None:
        """See `Observer`."""
        os.close(self._fd)

    def _write(self, camera: str, frame: Frame, rest: bytes) -> None:
        now_ns = time.monotonic_ns()
        age_ms = (now_ns - frame.arrived) / 1e6
        when = frame.arrived_at(time.time(), now_ns)
        arrived = datetime.fromtimestamp(when, timezone.utc).isoformat(timespec="milliseconds")
        head = {"camera": camera, "frame": frame.number, "time": arrived, "age_ms": round(age_ms, 3)}
        os.write(self._fd, json_value(head, Counter())[:-1] + b", " + rest + b"}\n")
