"""Observers: what is told of the answers to a camera's frames: a file; publishers, recorders, pages can be others."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Protocol

from pipeline.errors import RequestError
from pipeline.feeding.values import json_text, json_value
from pipeline.video.frame import Frame
from pipeline.wire.camera import CameraCounts

__all__ = ["JsonLines", "Observer"]


class Observer(Protocol):
    """Called in the source's own thread, in the order of the frames; while it runs, no frame is sent."""

    def answered(self, camera: str, frame: Frame, outputs: Mapping[str, Any]) -> None:
        """A frame was answered. The arrays of `outputs` are the pipeline's slots, and are not kept.

        Raises:
            OSError, ValueError: this answer cannot be shown; it goes on.
        """

    def failed(self, camera: str, frame: Frame, error: RequestError) -> None:
        """A frame has no answer."""

    def reported(self, counts: CameraCounts) -> None:
        """How the camera is: every second, and at each change of its state.

        Raises:
            OSError, ValueError: as above.
        """

    def close(self) -> None:
        """The source ends: its camera has come to its end, or the run stops."""


class JsonLines:
    """Appends a line of JSON for each answer to a file, which several cameras may share.

        {"camera": "door", "frame": 17, "time": "2026-01-31T12:00:00.123+00:00", "age_ms": 41.5, "outputs": {...}}
        {"camera": "door", "frame": 18, "time": ..., "age_ms": ..., "error": {"code": "StageFailed", "message": "..."}}

    Args:
        fd: open for appending; it is closed with this. A line is one write, so lines of several processes do not mix.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def answered(self, camera: str, frame: Frame, outputs: Mapping[str, Any]) -> None:
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
