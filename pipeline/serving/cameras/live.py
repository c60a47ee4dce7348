"""Live: pictures of cameras to one viewer, for as long as that wants them.

What is sent is the newest that there is when the viewer has read the last: one that reads slowly gets fewer pictures,
and holds up neither a source nor another viewer. With the pictures go their documents, so that a page needs one
connection for all cameras: browsers open six to a server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.responses import Response

from pipeline.errors import KserveError
from pipeline.serving.cameras.documents import camera_document
from pipeline.serving.cameras.folders import CameraFolders, CameraPlace, Changed
from pipeline.serving.cameras.multipart import MEDIA_TYPE, OPENING, part
from pipeline.video.pausing import Pause

__all__ = ["MOST_VIEWERS", "Live", "Viewers"]

MOST_VIEWERS = 16
"""At one time, in each gateway."""
_LOOK_S = 0.05
_EACH_S = 1.0
"""How often sources are told that one looks, and new cameras are looked for."""


class Viewers:
    """How many look, and whether they may go on.

    Args:
        over: whether the gateway is about to end.
    """

    def __init__(self, over: Callable[[], bool]) -> None:
        self._count = 0
        self.over = over

    def enter(self) -> None:
        """
        Raises:
            KserveError: as many look as may (UNAVAILABLE).
        """
        if self._count >= MOST_VIEWERS:
            raise KserveError(
                f"{MOST_VIEWERS} viewers look at the cameras of this gateway, which is as many as may", "UNAVAILABLE"
            )
        self._count += 1

    def leave(self) -> None:
        self._count -= 1


class Live(Response):
    """An answer that goes on until the viewer is gone, or the gateway ends.

    Args:
        viewers: which this one has entered.
        only: the camera whose pictures are wanted, and nothing else; None: all cameras and their documents.
    """

    def __init__(self, folders: CameraFolders, viewers: Viewers, only: CameraPlace | None = None) -> None:
        super().__init__(media_type=MEDIA_TYPE, headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._folders = folders
        self._viewers = viewers
        self._only = only
        self._cameras: dict[CameraPlace, Changed] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await _more(send, OPENING)
            looked = -1e9
            while not gone.done() and not self._viewers.over():
                if time.monotonic() - looked >= _EACH_S:
                    looked = time.monotonic()
                    await self._look()
                for place, changed in self._cameras.items():
                    for content in self._news(place, changed):
                        await _more(send, content)
                await asyncio.wait([gone], timeout=_LOOK_S)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            self._viewers.leave()

    async def _look(self) -> None:
        await self._folders.watch()
        places = await self._folders.places()
        if self._only is not None:
            # By its name: a new version of its pipeline has it in another folder.
            wanted = (self._only.model, self._only.camera)
            places = tuple(place for place in places if (place.model, place.camera) == wanted)
        self._cameras = {place: self._cameras.get(place) or Changed(place) for place in places}

    def _news(self, place: CameraPlace, changed: Changed) -> list[bytes]:
        picture = changed.picture()
        parts = [] if picture is None else [part("image/jpeg", f"/{place.location}.jpg", picture)]
        if self._only is None and (shown := changed.shown()) is not None:
            document = camera_document(place.model, shown, time.time(), paused=Pause(place.run_dir, place.camera).on)
            # Behind the picture that it is about.
            parts.append(part("application/json", f"/{place.location}", msgspec.json.encode(document)))
        return parts


async def _more(send: Any, content: bytes) -> None:
    await send({"type": "http.response.body", "body": content, "more_body": True})


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
