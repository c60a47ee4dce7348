"""Streams: what a stage keeps of each camera from one frame to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from stages.errors import BadInput
from stages.request import RequestInfo

__all__ = ["Streams"]

_MOST = 256
"""Cameras of which something is kept at one time."""

_MOST_NAME = 64
"""Characters of a camera's name: what is told of events contains it again and again."""

Kept = TypeVar("Kept")


class Streams(Generic[Kept]):
    """What is kept of each camera, for one stream of it at a time.

    If there are too many cameras, the one whose last frame is oldest is forgotten.

    Args:
        begin: makes what is kept of a camera when its stream begins.
    """

    def __init__(self, begin: Callable[[str], Kept]) -> None:
        self._begin = begin
        #: Camera -> stream and what is kept; the camera with the latest frame last.
        self._kept: dict[str, tuple[int, Kept]] = {}
        #: The other way round.
        self._cameras: dict[int, str] = {}

    def of(self, request: RequestInfo, camera: str) -> tuple[Kept, Kept | None]:
        """What is kept of the camera of a frame.

        Returns:
            It, and what was kept of the camera's stream before this one: only for the first frame of a stream.

        Raises:
            BadInput: the request is of no stream, or of one of another camera, or the camera's name is too long.
        """
        if not request.stream:
            raise BadInput("the request is of no stream; expected the frames of each camera as a stream of its own")
        if len(camera) > _MOST_NAME:
            raise BadInput(f"a camera's name of {len(camera)} characters; expected at most {_MOST_NAME}")
        if (other := self._cameras.get(request.stream, camera)) != camera:
            raise BadInput(
                f"a frame of the camera {camera!r} in the stream of the camera {other!r}; expected requests that are "
                "called camera, camera-number or camera@seconds"
            )
        stream, kept = self._kept.pop(camera, (0, None))
        before = None
        if kept is None or stream != request.stream:
            before, kept = kept, self._begin(camera)
            self._cameras.pop(stream, None)
            self._cameras[request.stream] = camera
        self._kept[camera] = (request.stream, kept)
        if len(self._kept) > _MOST:
            forgotten, _ = self._kept.pop(next(iter(self._kept)))
            del self._cameras[forgotten]
        return kept, before

    def renew(self, camera: str) -> Kept:
        """Begin anew with a camera of which something is kept, in the same stream; what is kept now."""
        stream, _ = self._kept[camera]
        kept = self._begin(camera)
        self._kept[camera] = stream, kept
        return kept

    def __len__(self) -> int:
        return len(self._kept)
