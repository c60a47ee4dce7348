"""Event log: the last events of a run's cameras, for programs and people who follow the run.

    RUN_FOLDER/cameras/door.events      a line of JSON for each event that an answer tells: the event, and its camera
    RUN_FOLDER/cameras/door.events.1    the file before it

It is a file, since it outlives the source that writes it, and since each program that reads it may begin when it likes.
It ends with the run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import RequestError
from pipeline.video.frame import Frame
from pipeline.video.pausing import FOLDER
from pipeline.video.tracks import Told
from pipeline.wire.camera import CameraCounts

__all__ = ["EventLog", "event_log_of"]

_MOST_BYTES = 256 << 10
"""Of one file. A run's folder may be in memory."""


def event_log_of(run_dir: Path, camera: str) -> Path:
    """The file of a camera's last events."""
    return run_dir / FOLDER / f"{camera}.events"


class EventLog:
    """An observer: writes the events of one camera. See `Observer` for what is called when.

    Args:
        run_dir: the run's folder.
        camera: the camera's name.
    """

    def __init__(self, run_dir: Path, camera: str) -> None:
        self._path = event_log_of(run_dir, camera)
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        self._fd = self._open()

    def answered(self, camera: str, frame: Frame, outputs: Mapping[str, Any], told: Told) -> None:
        """See `Observer`."""
        if told.document is not None and told.events:
            head = {"camera": camera, "time": told.document["time"]}
            lines = [json.dumps({**head, **event}) + "\n" for event in told.events]
            self._write("".join(lines).encode())

    def failed(self, camera: str, frame: Frame, error: RequestError) -> None:
        """See `Observer`."""

    def reported(self, counts: CameraCounts) -> None:
        """See `Observer`."""

    def close(self) -> None:
        """See `Observer`."""
        os.close(self._fd)

    def _write(self, lines: bytes) -> None:
        if os.fstat(self._fd).st_size + len(lines) > _MOST_BYTES:
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            os.close(self._fd)
            self._fd = self._open()
        os.write(self._fd, lines)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
