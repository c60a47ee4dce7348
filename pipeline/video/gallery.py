"""Gallery: what a source leaves in its run's folder for those that show its camera; and what it is told by them.

    RUN_FOLDER/cameras/door.json    what is known of the camera `door` (`Shown`), at least once a second
    RUN_FOLDER/cameras/door.jpg     its newest picture, while one of those that show it looks
    RUN_FOLDER/cameras/watched      touched again and again by those that look; if it is older than 3 s, none does

Sources and gateways share nothing else: either may be killed and started again, and knows the other by these files
alone. Each file is written under another name and renamed, so that a reader has it whole. All are this user's alone.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from pipeline.video.pausing import FOLDER

__all__ = [
    "JPEG",
    "STATE",
    "WATCHED",
    "WATCHED_S",
    "Rate",
    "Shown",
    "Zones",
    "ended_events",
    "event_time",
    "is_watched",
    "newest_events",
    "read_shown",
    "watch",
    "write_whole",
]

JPEG, STATE, WATCHED = ".jpg", ".json", "watched"
"""How the files of a camera end, and what the file of those that look is called."""

WATCHED_S = 3.0
"""A look that is older is over."""

_EVENTS = 50
"""Events of a camera that are kept in its document."""

Zones = dict[str, list[list[float]]]
"""By name: corners, [x, y] in fractions of the frame."""


class Shown(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of one camera. Times are seconds since 1970; 0: not yet."""

    camera: str
    written: float
    """When this was written: a source that is alive writes it each second."""
    state: str = ""
    """One of `wire.camera.STATES`."""
    detail: str = ""
    since: float = 0.0
    last_frame: float = 0.0
    """When the camera gave its last frame."""
    fps: float = 0.0
    """Frames answered in a second, of the last few seconds."""
    camera_fps: float = 0.0
    """Frames that the camera gave in a second, of the last few seconds."""
    latency_ms: float = 0.0
    """From the decoded frame to its answer: the median of the last answers."""
    frames: int = 0
    sent: int = 0
    answered: int = 0
    failed: int = 0
    reconnects: int = 0
    dropped: dict[str, int] = {}
    width: int = 0
    """Of a frame as the pipeline has it, in pixels."""
    height: int = 0
    answered_at: float = 0.0
    """When the frame that was answered last was decoded."""
    pictured: int = 0
    """The number of the frame in the JPEG; 0: none was written."""
    error: str = ""
    """The code of the error, if the last frame had one in place of an answer."""
    looked: bool = True
    """Whether the detector has looked at the last frame, or nothing moved."""
    tracks: list[dict[str, Any]] = []
    """As `stages.video.track` gives them, of the frame in the JPEG if there is one."""
    zones: Zones = {}
    events: list[dict[str, Any]] = []
    """The last ones, newest first: each as it was told last."""
    stage: str = ""
    """The stage that has the zones; empty: the pipeline has none."""
    config: str = ""
    """The path of the config. It is not shown."""
    recordings: str = ""
    """The folder of clips and snapshots; empty: nothing is recorded. It is not shown."""


def newest_events(known: list[dict[str, Any]], told: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The last events, newest first, once more were told: one that is known already is as it was told now."""
    by_id = {event["id"]: dict(event) for event in (*reversed(known), *told)}
    return sorted(by_id.values(), key=event_time, reverse=True)[:_EVENTS]


def ended_events(known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events that a killed source has left: nothing more is told of them, so those that went on are over."""
    over = {"state": "end", "reason": "stream"}
    return [event if event["end"] is not None else {**event, **over} for event in known]


def event_time(event: Mapping[str, Any]) -> float:
    """When an event began, in seconds since 1970."""
    return float(event["start"])


class Rate:
    """How often something happens in a second, of the last few."""

    def __init__(self, over_s: float = 5.0) -> None:
        self._over_s = over_s
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, now: float, count: int) -> None:
        """The count of all that have happened, at this time."""
        if self._seen and count < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, count))
        while len(self._seen) > 2 and now - self._seen[1][0] >= self._over_s:
            self._seen.popleft()

    @property
    def value(self) -> float:
        """0.0 until there are two counts."""
        if len(self._seen) < 2:
            return 0.0
        (begun, first), (now, last) = self._seen[0], self._seen[-1]
        return (last - first) / (now - begun) if now > begun else 0.0


# -- files ------------------------------------------------------------------------------------------


def write_whole(path: Path, content: bytes) -> None:
    """Write a file of this user alone: a reader finds the one before, or this one.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    part.replace(path)


def read_shown(path: Path) -> Shown | None:
    """What a source has left; None: nothing, or nothing of this version."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Shown)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def watch(run_dir: Path) -> None:
    """Have the sources of a run write pictures, for `WATCHED_S` seconds from now on.

    Raises:
        OSError: the run's folder is gone, or is another user's.
    """
    folder = run_dir / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(folder / WATCHED, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.utime(fd)
    finally:
        os.close(fd)


def is_watched(run_dir: Path, now: float | None = None) -> bool:
    """Whether one of those that show cameras looks.

    Args:
        now: seconds since 1970.
    """
    with suppress(OSError):
        since = (run_dir / FOLDER / WATCHED).stat().st_mtime
        return abs((time.time() if now is None else now) - since) < WATCHED_S
    return False
