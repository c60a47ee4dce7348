"""Waiting: the frames of a camera that are decoded and not sent yet, and which is given up for a newer one. Pure.

    drop: oldest    one waits; a newer one takes its place, and the reason is why it had to wait
    drop: never     some wait; if they are as many as may, the decoder waits
"""

from __future__ import annotations

from collections import Counter, deque

from pipeline.video.frame import Frame
from pipeline.wire.camera import Drop

__all__ = ["Waiting"]

_AHEAD = 4
"""Frames that are decoded ahead with `drop: never`."""


class Waiting:
    """The frames of one camera that wait.

    Args:
        never: none may be dropped.
    """

    def __init__(self, never: bool) -> None:
        self._most = _AHEAD if never else 1
        self._never = never
        self._frames: deque[Frame] = deque()
        #: Why the frame that waits has to: a reason of `Drop`.
        self.because = Drop.OLDER
        #: How many were dropped for what.
        self.dropped: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def full(self) -> bool:
        """Whether the decoder must wait."""
        return self._never and len(self._frames) >= self._most

    def add(self, frame: Frame) -> None:
        """A frame was decoded. Not while it is `full`."""
        if len(self._frames) >= self._most:
            self._frames.popleft()
            self.dropped[self.because] += 1
        self._frames.append(frame)

    @property
    def first(self) -> Frame | None:
        """The frame that is next; None: none waits."""
        return self._frames[0] if self._frames else None

    def take(self) -> Frame:
        """The frame that is next, which waits no longer."""
        self.because = Drop.OLDER
        return self._frames.popleft()
