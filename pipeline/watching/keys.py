"""Keys: those that are pressed on this program's terminal, one by one and without echo, while a block runs."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Keys", "pressed_keys"]


class Keys:
    """What is pressed. Made by `pressed_keys`.

    Args:
        fd: the terminal; -1: there is none, and no key is ever pressed.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def there(self) -> bool:
        """Whether there is a terminal."""
        return self._fd >= 0

    def wait(self, seconds: float) -> str:
        """What was pressed, as soon as that is something, after so many seconds at most; empty: nothing was."""
        if self._fd < 0:
            time.sleep(max(0.0, seconds))
            return ""
        readable, _, _ = select.select([self._fd], [], [], max(0.0, seconds))
        if not readable:
            return ""
        if found := os.read(self._fd, 64):
            return found.decode(errors="replace")
        # The terminal is gone: it would be readable for ever.
        self._fd = -1
        return ""


@contextmanager
def pressed_keys() -> Iterator[Keys]:
    """Keys of stdin, if that is a terminal; Ctrl-C stays what it is. At the end the terminal is as it was."""
    if not sys.stdin.isatty():
        yield Keys(-1)
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield Keys(fd)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
