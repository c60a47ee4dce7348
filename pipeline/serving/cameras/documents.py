"""Documents: what callers are told of cameras and of their events, of what sources and recorders have left. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from pipeline.video.gallery import Shown
from pipeline.wire.camera import State

__all__ = ["ALIVE_S", "SILENT", "Clip", "Recorded", "camera_document", "event_documents", "is_recording"]

ALIVE_S = 3.0
"""A source that has written nothing for so long is dead, stopped, or cannot write."""

SILENT = "silent"
"""The state of a camera whose source is."""

_HIDDEN = ("config", "recordings", "events", "written")
_RECORDING = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}\.(?:mp4|jpg)")
_EVENT = re.compile(r"(\d{1,12}\.\d{1,6})-([A-Za-z0-9._-]{1,64})-\d{1,12}")


class Clip(NamedTuple):
    """What stands beside a clip."""

    file: str
    camera: str
    events: tuple[str, ...]


class Recorded(NamedTuple):
    """What a folder of recordings has."""

    files: frozenset[str] = frozenset()
    """Names of clips and snapshots."""
    clips: tuple[Clip, ...] = ()


def is_recording(name: str) -> bool:
    """Whether this may be the name of a clip or a snapshot: of no other file, and in no other folder."""
    return _RECORDING.fullmatch(name) is not None


def camera_document(model: str, shown: Shown, now: float, *, paused: bool) -> dict[str, Any]:
    """One camera.

    Args:
        now: seconds since 1970, by the clock of this host, which is the source's too.
    """
    document: dict[str, Any] = {
        name: value for name, value in msgspec.structs.asdict(shown).items() if name not in _HIDDEN
    }
    silent_s = max(0.0, now - shown.written)
    if shown.state != State.ENDED and silent_s >= ALIVE_S:
        document |= {
            "state": SILENT,
            "detail": f"its source has said nothing for {silent_s:.0f} s: it is stopped, or dead and not started "
            f"again yet",
            "tracks": [],
            "fps": 0.0,
            "camera_fps": 0.0,
        }
    last = shown.answered_at or shown.last_frame
    return {
        "model": model,
        **document,
        "paused": paused,
        "age_s": round(max(0.0, now - last), 3) if last else None,
    }


def event_documents(
    model: str, shown: Iterable[Shown], recorded: Recorded, most: int, address_of: Callable[[str, str], str]
) -> list[dict[str, Any]]:
    """The newest events, newest first: those that sources have told, and those of which there are only recordings.

    Args:
        address_of: of a file, given the camera and the file's name.
    """
    cameras = [each.camera for each in shown]
    events: dict[str, dict[str, Any]] = {}
    for each in shown:
        for event in each.events:
            events[event["id"]] = {**event, "camera": each.camera}
    clip_of = {event: clip for clip in recorded.clips for event in clip.events if clip.file in recorded.files}
    named = [name.rpartition(".")[0] for name in recorded.files]
    for id in {*clip_of, *named} - events.keys():
        if (found := _EVENT.fullmatch(id)) and found[2] in cameras:
            events[id] = {"id": id, "camera": found[2], "start": float(found[1])}
    newest = sorted(events.values(), key=lambda event: float(event["start"]), reverse=True)[:most]
    return [_event(model, event, clip_of.get(event["id"]), recorded.files, address_of) for event in newest]


def _event(
    model: str,
    event: Mapping[str, Any],
    clip: Clip | None,
    files: frozenset[str],
    address_of: Callable[[str, str], str],
) -> dict[str, Any]:
    id, camera = event["id"], event["camera"]
    snapshot, own = f"{id}.jpg", f"{id}.mp4"
    # The document of a clip comes after the clip; without it the clip is still its first event's.
    video = clip.file if clip else own if own in files else ""
    return {
        "model": model,
        **event,
        "snapshot": address_of(camera, snapshot) if snapshot in files else None,
        "clip": address_of(camera, video) if video else None,
    }
