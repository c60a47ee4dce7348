"""Recordings: what has a source's recorder told of the answers to its frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import RequestError
from pipeline.graph.plan import CameraPlan
from pipeline.video.clips import Recorder
from pipeline.video.frame import Frame, Picture, Pixels
from pipeline.video.recording import RecordOptions
from pipeline.video.tracks import Told
from pipeline.wire.camera import CameraCounts

__all__ = ["Recordings", "recorder_of"]


def recorder_of(camera: CameraPlan, base_dir: Path, say: Callable[[str], None]) -> Recorder:
    """The recorder of a camera that is recorded.

    Args:
        base_dir: to which its folder is relative.
        say: for people, if something cannot be written.
    """
    plan = camera.record
    assert plan is not None
    options = RecordOptions(
        before_s=plan.before_s,
        after_s=plan.after_s,
        longest_s=plan.longest_s,
        # One clip must leave room for others.
        most_bytes=min(RecordOptions().most_bytes, plan.most_bytes // 4),
        ring_bytes=plan.ring_bytes,
        rules=frozenset(plan.rules) or None,
    )
    return Recorder(camera.name, base_dir / plan.folder, options, plan.keep_s, plan.most_bytes, say)


class Recordings:
    """An observer. See `Observer` for what is called when.

    Args:
        live: the camera's time is that of the clock; otherwise it stands still while no packets come.
    """

    def __init__(self, recorder: Recorder, *, live: bool) -> None:
        self._recorder = recorder
        self._live = live

    def answered(self, camera: str, frame: Frame, outputs: Mapping[str, Any], told: Told) -> None:
        """See `Observer`."""
        self._recorder.answered(told, lambda: _pixels_of(frame.picture))

    def failed(self, camera: str, frame: Frame, error: RequestError) -> None:
        """See `Observer`."""

    def reported(self, counts: CameraCounts) -> None:
        """See `Observer`."""
        if self._live:
            self._recorder.tick(time.time())

    def close(self) -> None:
        """See `Observer`."""
        self._recorder.ended()


def _pixels_of(picture: Picture) -> Pixels:
    """The picture in the camera's own size: what the pipeline takes may be smaller."""
    pixels = np.empty((picture.size.height, picture.size.width, 3), np.uint8)
    picture.write(pixels)
    return pixels
