"""Flight: the frames of a camera that are inside the pipeline, and the stream that they are sent in. Pure.

    take off ──▶ inside ──▶ answered, or failed for good
      ▲            │
      └── again ◀──┘   the scheduler, or a worker that kept something of the stream, has died; with `drop: never` alone

A frame that is sent again is sent in another stream, and only when nothing of the old one is inside: so frames are
answered in the order in which they were taken.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.video.frame import Frame
from pipeline.wire.records import Origin

__all__ = ["Flight", "Inside"]

_MOST_TRIES = 5

T = TypeVar("T")


@dataclass(frozen=True)
class Inside(Generic[T]):
    """A frame inside the pipeline."""

    frame: Frame
    tries: int
    """How often it was sent."""
    request: T
    origin: Origin


class Flight(Generic[T]):
    """The frames of one camera that are inside, first the one that was sent first.

    Args:
        most: how many may be at one time.
        never: none may be lost.
    """

    def __init__(self, most: int, never: bool) -> None:
        self._most = most
        self._never = never
        self.inside: deque[Inside[T]] = deque()
        self._again: deque[tuple[Frame, int]] = deque()
        self._stream = 1
        self._sequence = 0
        self._broken = False

    def __len__(self) -> int:
        return len(self.inside) + len(self._again)

    @property
    def has_room(self) -> bool:
        """Whether another frame may be sent now."""
        return not self.inside if self._broken else len(self.inside) < self._most

    @property
    def next_again(self) -> Frame | None:
        """The frame that must be sent before all others; None: there is none."""
        return self._again[0][0] if self._again else None

    def renew(self) -> int | None:
        """Begin another stream, if this one is broken and nothing of it is inside; the number of that which is over.
        None: nothing has changed."""
        if not self._broken or self.inside:
            return None
        self._broken = False
        self._stream, self._sequence = self._stream + 1, 0
        return self._stream - 1

    def origin(self, frame: Frame) -> Origin:
        """What the request of the next frame says of itself."""
        return Origin(self._stream, self._sequence + 1, frame.arrived)

    def sent(self, frame: Frame, request: T, origin: Origin) -> None:
        """A frame is inside now."""
        self._sequence = origin.sequence
        tries = self._again.popleft()[1] if self._again and self._again[0][0] is frame else 0
        self.inside.append(Inside(frame, tries + 1, request, origin))

    def answered(self) -> Inside[T]:
        """The first frame inside has its answer."""
        return self.inside.popleft()

    def lost(self) -> Inside[T] | None:
        """The stream of the first frame inside is broken, or its scheduler is dead; the frame if it is given up, None
        if it will be sent again."""
        self._broken = True
        first = self.inside.popleft()
        if not self._never or first.tries >= _MOST_TRIES:
            return first
        self._again.append((first.frame, first.tries))
        return None
