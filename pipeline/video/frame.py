"""Frame: one picture of a camera, before it is in a slot; and where in the slot it is put. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Frame", "MediaClock", "Picture", "Pixels", "Read", "Size", "fit", "place", "slot_size"]

Pixels = NDArray[np.uint8]


class Size(NamedTuple):
    """In pixels."""

    width: int
    height: int


class Picture(Protocol):
    """What a frame shows, in whatever form it was decoded."""

    @property
    def size(self) -> Size:
        """Of the picture itself."""

    def write(self, pixels: Pixels) -> int:
        """Write it, scaled to fill the array, as RGB; how many bytes were copied on the way.

        Args:
            pixels: uint8 [height, width, 3].
        """


class Frame(NamedTuple):
    """A picture, and when it was taken."""

    number: int
    """Of the camera's frames since its source began, from 1 on."""
    picture: Picture
    arrived: int
    """Monotonic nanoseconds: when it was decoded, which is where its age begins."""
    taken: float
    """When it was taken, in seconds since 1970; a stage that follows things asks how much time has passed."""

    def arrived_at(self, now: float, now_ns: int) -> float:
        """When it arrived, in seconds since 1970.

        Args:
            now: seconds since 1970.
            now_ns: the same moment, in monotonic nanoseconds.
        """
        return now - (now_ns - self.arrived) / 1e9


class MediaClock:
    """When frames and packets were taken, in seconds since 1970, by their own times: a file is read faster than it was
    taken.

    It is set by the first of them, and anew if the file begins again, or by a frame whose time is before that of the
    frame before it.
    """

    def __init__(self) -> None:
        self._ahead: float | None = None
        self._last: float | None = None
        self._over = 0.0

    def begin(self) -> None:
        """The file begins, perhaps again."""
        if self._ahead is not None and self._last is not None:
            self._over = self._ahead + self._last
        self._ahead = self._last = None

    def time_of(self, at: float, now: float) -> float:
        """When a frame was taken, which comes after all others that this was called for.

        Args:
            at: its presentation time in seconds, by the stream's own clock.
            now: seconds since 1970.
        """
        if self._ahead is not None and self._last is not None and at < self._last:
            self.begin()
        time = self.time_of_packet(at, now)
        self._last = at
        return time

    def time_of_packet(self, at: float, now: float) -> float:
        """The same of a packet, which comes before its frame; packets come in another order than frames."""
        if self._ahead is None:
            # Never back: what follows things would see them move before they were there.
            self._ahead = max(now, self._over) - at
        return self._ahead + at


class Read(NamedTuple):
    """What a packet of a camera has brought."""

    picture: Picture | None = None
    at: float = 0.0
    """The picture's presentation time in seconds, by the stream's own clock."""
    damaged: bool = False
    """There was one, and it cannot be shown. If there was none, the decoder waits for more packets."""


def slot_size(shape: tuple[int | str, ...], most: Mapping[str, int], wanted: Size | None, own: Size) -> Size:
    """The size of a frame in its slot.

    Args:
        shape: of the pipeline's input: (height, width, 3), each a number or the name of a free dimension.
        most: the largest value of each free dimension.
        wanted: what the config says; None: the camera's own.
        own: of the camera's picture.

    Returns:
        The input's own extents where they are numbers; otherwise what is wanted, made smaller in proportion until it
        is no larger than may be.
    """
    height, width, _ = shape
    if not isinstance(height, str) and not isinstance(width, str):
        return Size(width, height)
    size = wanted or own
    # A fixed side says how large the other one is.
    scale = min(
        most[width] / size.width if isinstance(width, str) else width / size.width,
        most[height] / size.height if isinstance(height, str) else height / size.height,
    )
    scale = min(scale, 1.0) if isinstance(height, str) and isinstance(width, str) else scale
    scaled = Size(max(1, round(size.width * scale)), max(1, round(size.height * scale)))
    return Size(width if isinstance(width, int) else scaled.width, height if isinstance(height, int) else scaled.height)


def fit(own: Size, slot: Size) -> Size:
    """How large a picture of its own size becomes within a slot of another one: as large as it can be with its
    proportions kept. It lies at the top left; the rest is black."""
    scale = min(slot.width / own.width, slot.height / own.height)
    return Size(
        min(slot.width, max(1, round(own.width * scale))), min(slot.height, max(1, round(own.height * scale)))
    )


def place(picture: Picture, pixels: Pixels) -> int:
    """Put a picture into its slot; how many bytes were copied on the way.

    Args:
        pixels: uint8 [height, width, 3], with whatever the slot has had before.
    """
    height, width, _ = pixels.shape
    inner = fit(picture.size, Size(width, height))
    # What was in the slot is another frame's, perhaps another camera's.
    pixels[inner.height :] = 0
    pixels[: inner.height, inner.width :] = 0
    return picture.write(pixels[: inner.height, : inner.width])
