"""Overdue: if a stage's setup takes long, says so, and at which line it is.

Otherwise a setup that waits for ever, for a lock or for a download, would be silence: nothing is ready, and nothing
wrong.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import PurePath
from types import FrameType, TracebackType

from pipeline.logs.telling import tell
from pipeline.worker.failures import Home, is_own

__all__ = ["Overdue"]

_AFTER_S = (15.0, 60.0, 300.0)
"""Seconds, each from the one before. Large models take ten and more to load."""


class Overdue:
    """A `with` block about which lines are printed if it takes long.

    Args:
        what: for people: what takes long.
        after_s: when to speak.
    """

    def __init__(self, what: str, after_s: Sequence[float] = _AFTER_S) -> None:
        self._what = what
        self._after_s = after_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="overdue", daemon=True)

    def __enter__(self) -> Overdue:
        self._watched = threading.get_ident()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        elapsed = 0.0
        for seconds in self._after_s:
            if self._over.wait(seconds):
                return
            elapsed += seconds
            place = _place(sys._current_frames().get(self._watched))
            tell("warning", f"{self._what} has taken {elapsed:g} s so far{place}")


def _place(frame: FrameType | None) -> str:
    """Where the user's own code is; "" if it is nowhere."""
    while frame is not None:
        if is_own(frame, Home("", "")):
            return f", and is at {PurePath(frame.f_code.co_filename).name}:{frame.f_lineno} ({frame.f_code.co_name})"
        frame = frame.f_back
    return ""
