"""Showing: the observer that leaves a camera's state and pictures for those that show it (`pipeline.video.gallery`).

A picture is drawn, compressed and written only while one of them looks, at most ten times a second, and no wider than
960 pixels. Otherwise a frame costs a look at the time, and a second a small file.
"""

from __future__ import annotations

import io
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from pipeline.errors import RequestError
from pipeline.graph.plan import CameraPlan, Plan
from pipeline.video.frame import Frame, Size, place, slot_size
from pipeline.video.gallery import (
    JPEG,
    STATE,
    Rate,
    Shown,
    ended_events,
    is_watched,
    newest_events,
    read_shown,
    write_whole,
)
from pipeline.video.pausing import FOLDER
from pipeline.video.tracking import tracking_of
from pipeline.video.tracks import Told
from pipeline.wire.camera import CameraCounts, State

__all__ = ["Gallery", "picture_size"]

_EVERY_S = 0.095
"""Between two pictures: a little less than 0.1, so that a camera of ten frames a second shows them all."""
_LOOK_S = 0.2
"""How long it is taken that one looks, or that none does."""
_WIDEST = 960
_QUALITY = 75
_LATENCIES = 50


def picture_size(slot: Size) -> Size:
    """The size in which a frame is shown that has this one for the pipeline."""
    if slot.width <= _WIDEST:
        return slot
    return Size(_WIDEST, max(1, round(slot.height * _WIDEST / slot.width)))


class Gallery:
    """Shows one camera, as the pipeline sees it: what it says of places is in fractions of that. An
    `observers.Observer`.

    Args:
        run_dir: the run's folder.
        plan: of the run.
        camera: which of its cameras.
    """

    def __init__(self, run_dir: Path, plan: Plan, camera: CameraPlan) -> None:
        self._run_dir = run_dir
        self._path = run_dir / FOLDER / camera.name
        self._spec = plan.inputs[0]
        self._wanted = Size(*camera.size) if camera.size else None
        tracking = tracking_of(plan, camera.name)
        # Of the source before, which may have been killed: its events are still the last ones.
        before = read_shown(self._of(STATE))
        self._shown = Shown(
            camera=camera.name,
            written=0.0,
            state=State.CONNECTING,
            zones=tracking.zones if tracking else {},
            stage=tracking.stage if tracking else "",
            # The path as it was given may be relative to another folder than this process has.
            recordings=str(Path(plan.base_dir) / camera.record.folder) if camera.record else "",
            config=str(Path(plan.base_dir) / Path(plan.config_path).name),
            events=ended_events(before.events) if before else [],
            width=before.width if before else 0,
            height=before.height if before else 0,
        )
        self._frames, self._answers = Rate(), Rate()
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._pictured_at = self._looked_at = -1e9
        self._watched = False
        self._write()

    def answered(self, camera: str, frame: Frame, outputs: Mapping[str, Any], told: Told) -> None:
        """See `Observer`."""
        changes: dict[str, Any] = {"error": ""}
        self._latencies.append((time.monotonic_ns() - frame.arrived) / 1e6)
        if (document := told.document) is not None:
            changes |= {"tracks": document.get("tracks", []), "looked": document.get("looked", True)}
        if told.events:
            changes["events"] = newest_events(self._shown.events, told.events)
        self._take(frame, changes, soon="events" in changes)

    def failed(self, camera: str, frame: Frame, error: RequestError) -> None:
        """See `Observer`."""
        # What is seen goes on, without boxes: those of another frame would be in the wrong place.
        self._take(frame, {"error": error.code, "tracks": []}, soon=False)

    def reported(self, counts: CameraCounts) -> None:
        """See `Observer`."""
        now, now_ns = time.time(), time.monotonic_ns()
        self._frames.add(now_ns / 1e9, counts.frames)
        self._answers.add(now_ns / 1e9, counts.answered)
        self._change(
            state=counts.state,
            detail=counts.detail,
            since=now - (now_ns - counts.since) / 1e9,
            last_frame=now - (now_ns - counts.last_frame) / 1e9 if counts.last_frame else 0.0,
            frames=counts.frames,
            sent=counts.sent,
            answered=counts.answered,
            failed=counts.failed,
            dropped=counts.dropped,
            reconnects=counts.reconnects,
            fps=round(self._answers.value, 2),
            camera_fps=round(self._frames.value, 2),
            latency_ms=round(median(self._latencies), 1) if self._latencies else 0.0,
        )
        self._write()

    def close(self) -> None:
        """See `Observer`."""

    def _take(self, frame: Frame, changes: dict[str, Any], *, soon: bool) -> None:
        now = time.monotonic()
        size = slot_size(self._spec.shape, self._spec.max, self._wanted, frame.picture.size)
        changes |= {"width": size.width, "height": size.height}
        changes["answered_at"] = frame.arrived_at(time.time(), time.monotonic_ns())
        if now - self._looked_at >= _LOOK_S:
            self._looked_at, self._watched = now, is_watched(self._run_dir)
        draws = self._watched and now - self._pictured_at >= _EVERY_S
        if draws:
            self._pictured_at = now
            self._draw(frame, size)
            changes["pictured"] = frame.number
        self._change(**changes)
        if draws or soon:
            self._write()

    def _draw(self, frame: Frame, size: Size) -> None:
        width, height = picture_size(size)
        pixels = np.empty((height, width, 3), np.uint8)
        place(frame.picture, pixels)
        made = io.BytesIO()
        Image.fromarray(pixels).save(made, "JPEG", quality=_QUALITY)
        self._save(JPEG, made.getvalue())

    def _change(self, **changes: Any) -> None:
        self._shown = msgspec.structs.replace(self._shown, **changes)

    def _write(self) -> None:
        self._change(written=time.time())
        self._save(STATE, msgspec.json.encode(self._shown))

    def _save(self, suffix: str, content: bytes) -> None:
        path = self._of(suffix)
        try:
            write_whole(path, content)
        except FileNotFoundError:
            # At first; and after all that others clean away, such as systemd-tmpfiles.
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_whole(path, content)

    def _of(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)
