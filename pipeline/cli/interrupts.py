"""Ctrl-C while a command still imports what it needs: the process ends with 130, and Python shows no traceback.

Imports nothing that takes time: the console script calls `end_quietly` before everything else.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

__all__ = ["EXIT_INTERRUPTED", "end_as_usual", "end_quietly"]

EXIT_INTERRUPTED = 130
"""What a shell shows of a process that Ctrl-C has ended: 128 and the number of SIGINT."""


def end_quietly() -> None:
    """From now on Ctrl-C ends this process and prints nothing. If SIGINT was ignored or handled before, it still is."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def end_as_usual() -> None:
    """Undo `end_quietly`: once a command works, its `finally` and `with` blocks must run."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    # Not by an exception: Python prints those that are raised in an import, or turns them into ImportError.
    os._exit(EXIT_INTERRUPTED)
