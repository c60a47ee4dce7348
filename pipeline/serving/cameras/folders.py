"""Folders: the cameras of the gateway's models, as their sources have left them in the folders of their runs.

The folder of a run is looked for anew each second: a model that was reloaded has another one, and other sources.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from pipeline.client.access import Place
from pipeline.errors import KserveError, PipelineError
from pipeline.serving.cameras.documents import Clip, Recorded, is_recording
from pipeline.serving.catalogue import Catalogue
from pipeline.video.gallery import JPEG, STATE, Shown, read_shown, watch
from pipeline.video.pausing import FOLDER
from pipeline.wire.run_dir import find_run, serving

__all__ = ["CameraFolders", "CameraPlace", "Changed"]

_FRESH_S = 1.0
_CLIPS = 300
"""Clips whose documents are read: the newest ones."""
_DOCUMENT = 1 << 20


class CameraPlace(NamedTuple):
    """Where a camera is."""

    model: str
    camera: str
    run_dir: Path

    def path(self, suffix: str) -> Path:
        """One of its files."""
        return self.run_dir / FOLDER / f"{self.camera}{suffix}"

    @property
    def location(self) -> str:
        """What it is called in addresses."""
        return f"cameras/{self.model}/{self.camera}"


class _About(msgspec.Struct):
    """The document beside a clip (`pipeline.video.clips`)."""

    camera: str = ""
    events: list[str] = []


class CameraFolders:
    """See above."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._found: tuple[float, tuple[CameraPlace, ...]] = (-1e9, ())
        self._clips: dict[Path, tuple[int, Clip]] = {}

    async def places(self) -> tuple[CameraPlace, ...]:
        """All cameras, by the names of their models and their own."""
        if time.monotonic() - self._found[0] >= _FRESH_S:
            models = {served.name: served.place for served in self._catalogue.served}
            # In a thread: other runs' locks are asked.
            self._found = time.monotonic(), await asyncio.to_thread(_places, models)
        return self._found[1]

    async def place(self, model: str, camera: str) -> CameraPlace:
        """
        Raises:
            KserveError: there is no such camera (NOT_FOUND).
        """
        places = await self.places()
        for place in places:
            if (place.model, place.camera) == (model, camera):
                return place
        known = ", ".join(f"{each.model}/{each.camera}" for each in places) or "none"
        raise KserveError(f"expected a camera of this server ({known}), found {model[:60]}/{camera[:60]}", "NOT_FOUND")

    async def watch(self) -> None:
        """Have all sources write pictures, for some seconds."""
        for run_dir in {place.run_dir for place in await self.places()}:
            # Gone, or another user's: then there are no pictures.
            with suppress(OSError):
                watch(run_dir)

    def recorded(self, folder: str) -> Recorded:
        """What a folder of recordings has."""
        try:
            names = sorted((name for name in os.listdir(folder) if is_recording(name)), reverse=True)
        except OSError:
            return Recorded()
        clips = [name for name in names if name.endswith(".mp4")][:_CLIPS]
        found = [self._clip(Path(folder), name) for name in clips]
        return Recorded(frozenset(names), tuple(clip for clip in found if clip is not None))

    def _clip(self, folder: Path, name: str) -> Clip | None:
        path = folder / name.replace(".mp4", ".json")
        try:
            status = path.stat()
            known = self._clips.get(path)
            if known is not None and known[0] == status.st_mtime_ns:
                return known[1]
            if status.st_size > _DOCUMENT:
                return None
            about = msgspec.json.decode(path.read_bytes(), type=_About)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        if len(self._clips) > 4 * _CLIPS:
            self._clips.clear()
        clip = Clip(name, about.camera, tuple(about.events))
        self._clips[path] = status.st_mtime_ns, clip
        return clip


class Changed:
    """What of one camera has changed since it was asked last."""

    def __init__(self, place: CameraPlace) -> None:
        self._place = place
        self._seen: dict[str, tuple[int, int]] = {}

    def shown(self) -> Shown | None:
        """Its document; None: it is the same, or there is none."""
        return read_shown(self._place.path(STATE)) if self._is_new(STATE) else None

    def picture(self) -> bytes | None:
        """Its JPEG; None: it is the same, or there is none."""
        with suppress(OSError):
            if self._is_new(JPEG):
                return self._place.path(JPEG).read_bytes()
        return None

    def _is_new(self, suffix: str) -> bool:
        try:
            status = self._place.path(suffix).stat()
        except OSError:
            return False
        now = status.st_mtime_ns, status.st_ino
        if self._seen.get(suffix) == now:
            return False
        self._seen[suffix] = now
        return True


def _places(models: Mapping[str, Place]) -> tuple[CameraPlace, ...]:
    found: list[CameraPlace] = []
    for model, place in models.items():
        with suppress(PipelineError, OSError):
            run_dir = serving(place() if callable(place) else find_run(place))
            for name in sorted(os.listdir(run_dir / FOLDER)):
                path = run_dir / FOLDER / name
                if name.endswith(STATE) and not name.startswith(".") and stat.S_ISREG(path.lstat().st_mode):
                    found.append(CameraPlace(model, name.removesuffix(STATE), run_dir))
    return tuple(found)
