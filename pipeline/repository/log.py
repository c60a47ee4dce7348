"""Log: what a run prints, as the program that has started it gets it.

    Forwarded    each line goes to this program's sys.stderr, under the model's name; for managers
    Kept         all of it is kept in a file, and nothing is shown; for tests (`pipeline.testing`)
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from pipeline.streams import above_announcement

__all__ = ["Forwarded", "Kept", "Log"]

_KEPT_LINES = 40
_CHUNK = 65536


Show = Callable[[str, Sequence[str]], None]


class Log(Protocol):
    """Where a run prints to."""

    @property
    def descriptor(self) -> int:
        """What the run gets as its stderr."""

    def begin(self) -> None:
        """The run has its own copy of the descriptor."""

    def text(self) -> str:
        """What it has printed: all of it, or the last lines."""

    def close(self) -> None:
        """The run has ended: take in what it has printed last."""

    def forget(self) -> None:
        """This process is the child of a fork: close its copies of descriptors."""


class Forwarded:
    """Lines go to what `sys.stderr` is at that moment, so that notebooks and pytest's capture get them.

    Args:
        name: the model's, which stands before each line.
        show: is given the name and some lines in their place, in a thread of this object's. None: `sys.stderr`.
    """

    def __init__(self, name: str, show: Show | None = None) -> None:
        self._last: deque[str] = deque(maxlen=_KEPT_LINES)
        reader, self.descriptor = os.pipe()
        #: The reading end, until it is closed.
        self._reader = [reader]
        # The thread knows the pipe and the lines only: it keeps no manager alive.
        self._thread = threading.Thread(
            target=_forward, args=(self._reader, name, self._last, show or _print), name=f"log of {name}",
            daemon=True,
        )

    def begin(self) -> None:
        """As `Log.begin`."""
        os.close(self.descriptor)
        self._thread.start()

    def text(self) -> str:
        """The last lines."""
        return "\n".join(self._last)

    def close(self) -> None:
        """As `Log.close`; a run that was never begun has printed nothing."""
        if self._thread.ident is None:
            os.close(self.descriptor)
            os.close(self._reader.pop())
        elif self._thread is not threading.current_thread():
            # It ends with the run, which has the other end of the pipe.
            self._thread.join()

    def forget(self) -> None:
        """As `Log.forget`: otherwise the run would wait for a reader that reads nothing, once its program is dead."""
        while self._reader:
            os.close(self._reader.pop())


def _forward(reader: list[int], name: str, last: deque[str], show: Show) -> None:
    rest = b""
    while chunk := os.read(reader[0], _CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _CHUNK:
            lines, rest = [*lines, rest], b""
        _show(lines, name, last, show)
    if rest:
        _show([rest], name, last, show)
    os.close(reader.pop())


def _show(lines: list[bytes], name: str, last: deque[str], show: Show) -> None:
    texts = [line.decode(errors="replace") for line in lines]
    last.extend(texts)
    # Whatever the program has put there: if this thread ended, the run could not print, and would stand still.
    with suppress(Exception):
        show(name, texts)


def _print(name: str, texts: Sequence[str]) -> None:
    with above_announcement():
        sys.stderr.write("".join(f"{name} | {text}\n" for text in texts))
        sys.stderr.flush()


class Kept:
    """All of it in a file without a name."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._text: str | None = None

    @property
    def descriptor(self) -> int:
        """As `Log.descriptor`."""
        return self._file.fileno()

    def begin(self) -> None:
        """As `Log.begin`: the file is read here, too."""

    def text(self) -> str:
        """All of it."""
        if self._text is not None:
            return self._text
        # The run writes through the same open file, so its position must not change.
        return os.pread(self._file.fileno(), os.fstat(self._file.fileno()).st_size, 0).decode(errors="replace")

    def close(self) -> None:
        """As `Log.close`."""
        self._text = self.text()
        self._file.close()

    def forget(self) -> None:
        """As `Log.forget`."""
        self._text = ""
        self._file.close()
