"""Answers: what the endpoints of cameras answer over HTTP."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from pipeline.errors import ConfigError, KserveError
from pipeline.serving.cameras.documents import camera_document, event_documents, is_recording
from pipeline.serving.cameras.folders import CameraFolders, CameraPlace
from pipeline.serving.cameras.live import Live, Viewers
from pipeline.serving.cameras.tickets import ticket_for
from pipeline.serving.catalogue import Catalogue
from pipeline.serving.page.answers import page_file
from pipeline.serving.settings import Settings
from pipeline.video.gallery import JPEG, STATE, Shown, read_shown
from pipeline.video.pausing import Pause

__all__ = ["CameraAnswers"]

_JSON = "application/json"
_PAGE = "cameras.html"
_MOST_EVENTS = 200
#: Pictures and recordings are no one's but the caller's, and are not kept where others find them.
_PRIVATE = {"cache-control": "private, no-cache", "x-content-type-options": "nosniff"}
_KEPT = {"cache-control": "private, max-age=3600", "x-content-type-options": "nosniff"}


class _Zones(msgspec.Struct):
    """The body of a change of zones."""

    zones: dict[str, list[tuple[float, float]]]
    tag: str = ""


class CameraAnswers:
    """The answers, by the names of `endpoints.ENDPOINTS`.

    Args:
        body: reads the body of a request, up to so many bytes.
    """

    def __init__(
        self, settings: Settings, catalogue: Catalogue, body: Callable[[Request, int], Awaitable[bytes]]
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._body = body
        self._folders = CameraFolders(catalogue)
        self._viewers = Viewers(lambda: catalogue.draining)

    @property
    def by_name(self) -> Mapping[str, Callable[[Request], Awaitable[Response]]]:
        return {
            "cameras": self._page, "cameras_state": self._state, "cameras_events": self._events,
            "cameras_stream": self._stream, "camera_stream": self._stream, "camera_picture": self._picture,
            "camera_file": self._file, "camera_pause": self._pause, "camera_resume": self._resume,
            "camera_zones": self._zones, "camera_edit": self._edit,
        }  # fmt: skip

    async def _page(self, request: Request) -> Response:
        return page_file(request, _PAGE)

    # -- what is seen ---------------------------------------------------------------------------

    async def _state(self, request: Request) -> Response:
        now = time.time()
        found = await self._shown()
        cameras = [
            camera_document(place.model, shown, now, paused=Pause(place.run_dir, place.camera).on)
            for place, shown in found
        ]
        models = {served.name: await served.why_not_ready() for served in self._catalogue.served}
        return _json({"time": now, "edit": self._settings.edit, "cameras": cameras, "models": models})

    async def _shown(self) -> list[tuple[CameraPlace, Shown]]:
        found = [(place, read_shown(place.path(STATE))) for place in await self._folders.places()]
        return [(place, shown) for place, shown in found if shown is not None]

    async def _events(self, request: Request) -> Response:
        by_model: dict[str, list[Shown]] = {}
        for place, shown in await self._shown():
            by_model.setdefault(place.model, []).append(shown)
        events: list[dict[str, Any]] = []
        for model, cameras in by_model.items():
            for folder in dict.fromkeys([each.recordings for each in cameras]):
                mine = [each for each in cameras if each.recordings == folder]
                # In a thread: there may be thousands of files.
                recorded = await asyncio.to_thread(self._folders.recorded, folder)
                events += event_documents(model, mine, recorded, _MOST_EVENTS, self._addresses(model))
        events.sort(key=lambda event: float(event["start"]), reverse=True)
        return _json({"time": time.time(), "events": events[:_MOST_EVENTS]})

    def _addresses(self, model: str) -> Callable[[str, str], str]:
        token, now = self._settings.token, time.time()

        def address_of(camera: str, name: str) -> str:
            path = f"/cameras/{quote(model, safe='')}/{camera}/files/{name}"
            # Relative, so that a proxy may add a prefix.
            return path[1:] + (f"?ticket={ticket_for(token, path, now)}" if token else "")

        return address_of

    async def _stream(self, request: Request) -> Response:
        only = await self._place(request) if "camera" in request.path_params else None
        if request.method == "HEAD":
            return Response(headers=_PRIVATE)
        self._viewers.enter()
        return Live(self._folders, self._viewers, only)

    async def _picture(self, request: Request) -> Response:
        place = await self._place(request)
        await self._folders.watch()
        try:
            content = place.path(JPEG).read_bytes()
        except OSError:
            raise KserveError(
                f"there is no picture of {place.camera} yet: one is made once a frame has come; ask again",
                "UNAVAILABLE",
            ) from None
        return Response(content, media_type="image/jpeg", headers=_PRIVATE)

    async def _file(self, request: Request) -> Response:
        place, name = await self._place(request), request.path_params["file"]
        shown = read_shown(place.path(STATE))
        if shown is not None and shown.recordings and is_recording(name):
            path = Path(shown.recordings) / name
            try:
                status = os.lstat(path)
            except OSError:
                status = None
            # Not what a link leads to.
            if status is not None and stat.S_ISREG(status.st_mode):
                media_type = "video/mp4" if name.endswith(".mp4") else "image/jpeg"
                return FileResponse(path, media_type=media_type, stat_result=status, headers=_KEPT)
        raise KserveError(f"there is no recording {name[:200]!r}; old ones are deleted", "NOT_FOUND")

    async def _place(self, request: Request) -> CameraPlace:
        return await self._folders.place(request.path_params["model"], request.path_params["camera"])

    # -- switches -------------------------------------------------------------------------------

    async def _pause(self, request: Request) -> Response:
        return await self._switch(request, on=True)

    async def _resume(self, request: Request) -> Response:
        return await self._switch(request, on=False)

    async def _switch(self, request: Request, *, on: bool) -> Response:
        place = await self._place(request)
        try:
            Pause(place.run_dir, place.camera).set(on)
        except OSError as error:
            raise KserveError(f"the switch of {place.camera} cannot be set: {error.strerror}", "UNAVAILABLE") from None
        return _json({"paused": on})

    # -- zones ----------------------------------------------------------------------------------

    async def _zones(self, request: Request) -> Response:
        shown = await self._with_zones(request)
        found: dict[str, Any] = {"stage": shown.stage, "file": Path(shown.config).name, "running": shown.zones}
        if not self._settings.edit:
            why = "this server was not started with --edit"
            return _json({**found, "zones": shown.zones, "tag": "", "why_not": why})
        # All that reads configs, which a gateway without --edit, and its start, should not wait for.
        from pipeline.config.zones import said_of
        from pipeline.serving.cameras.zone_file import read_config, tag_of_text

        try:
            text = read_config(Path(shown.config))
            said = said_of(text, Path(shown.config).name, shown.stage, shown.camera)
        except (KserveError, ConfigError) as error:
            return _json({**found, "zones": shown.zones, "tag": "", "why_not": str(error)})
        zones = {name: zone["polygon"] if isinstance(zone, dict) else zone for name, zone in said.items()}
        return _json({**found, "zones": zones, "tag": tag_of_text(text), "why_not": ""})

    async def _edit(self, request: Request) -> Response:
        from pipeline.serving.cameras.zone_file import write_zones

        shown = await self._with_zones(request)
        try:
            wanted = msgspec.json.decode(await self._body(request, 1 << 20), type=_Zones)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise KserveError(f'expected {{"zones": {{name: [[x, y], ...]}}, "tag": ...}}: {error}') from None
        path = Path(shown.config)
        # In a thread: the disk is waited for.
        before = await asyncio.to_thread(write_zones, path, shown.stage, shown.camera, wanted.zones, wanted.tag)
        return _json({"file": path.name, "before": before, "model": request.path_params["model"]})

    async def _with_zones(self, request: Request) -> Shown:
        place = await self._place(request)
        shown = read_shown(place.path(STATE))
        if shown is None or not shown.stage:
            raise KserveError(
                f"the pipeline of {place.camera} has no stage stages.video.track:Track, and so no zones", "NOT_FOUND"
            )
        return shown


def _json(document: Any) -> Response:
    return Response(msgspec.json.encode(document), media_type=_JSON, headers={"cache-control": "no-store"})
