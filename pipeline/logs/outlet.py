"""Outlet: where the lines of a log leave this process: stderr, or a file. It holds the process up in no case.

    a reader of stderr that does not read     lines wait, 1 MiB at most; later ones are lost, and counted
    a disk that is full, a folder that is     the line is lost, and counted; stderr is told once, and every line
    gone                                      that follows tries again
    the file was renamed or removed           `reopen` (SIGUSR1) makes a new one; a removed one is noticed by itself

The first line that gets through says how many are missing before it.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from pipeline.streams import above_announcement, say, unheard

__all__ = ["Outlet"]

_BOUND = 1 << 20
#: poll(2) says of a pipe that it takes so many bytes at once.
_AT_ONCE = select.PIPE_BUF
_STDERR = 2


class Outlet:
    """Takes lines.

    Args:
        path: of a file that is added to; None: stderr.
        missing: a line that says that so many are missing.
        bound: bytes that wait at most for a reader of stderr.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path | None, missing: Callable[[int], str], bound: int = _BOUND) -> None:
        self._path = path
        self._missing = missing
        self._bound = bound
        self._waiting: deque[bytes] = deque()
        self._nbytes = 0
        self._lost = 0
        #: Lines that could not be written so far.
        self.lost = 0
        #: What stderr was told last of the file; "": it can be written.
        self.complaint = ""
        #: The file ends in a part of a line.
        self._torn = False
        self._fd = _STDERR if path is None else _opened(path)

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads it right there."""
        return self._path is None and os.isatty(_STDERR)

    def write(self, line: str) -> None:
        """Write a line, or several in one text, without the newline at the end."""
        text = f"{line}\n".encode(errors="backslashreplace")
        if self._path is not None:
            self._to_file(text)
            return
        if self._nbytes + len(text) > self._bound:
            self.flush()
        if self._nbytes + len(text) > self._bound:
            self._lose()
            return
        if self._lost:
            text = f"{self._missing(self._lost)}\n".encode() + text
            self._lost = 0
        self._waiting.append(text)
        self._nbytes += len(text)
        self.flush()

    def flush(self, patience_s: float = 0.0) -> None:
        """Write what waits, as far as that is possible now, or within so many seconds."""
        if not self._waiting:
            return
        end = time.monotonic() + patience_s
        with unheard(), above_announcement():
            while self._waiting and _takes_more(end):
                text = self._waiting.popleft()
                written = self._to_stderr(text[:_AT_ONCE])
                self._nbytes -= written
                if written < len(text):
                    self._waiting.appendleft(text[written:])

    def _to_stderr(self, text: bytes) -> int:
        try:
            return os.write(_STDERR, text)
        except BlockingIOError:
            # It was set not to block, by a program that shares it.
            return 0
        except OSError:
            # The reader has gone, or a disk is full: what cannot be written is lost, and nothing waits for it.
            return len(text)

    def _to_file(self, text: bytes) -> None:
        assert self._path is not None
        try:
            if self._fd < 0 or os.fstat(self._fd).st_nlink == 0:
                self.reopen()
            if self._fd < 0:
                self._lose()
                return
            before = b"\n" if self._torn else b""
            if self._lost:
                before += f"{self._missing(self._lost)}\n".encode()
            # One write: others that add to the file write between lines.
            written = os.write(self._fd, before + text)
        except OSError as error:
            self._lose()
            self._complain(error)
            return
        self._torn = written < len(before + text)
        if self._torn:
            self._lose()
            self._complain(OSError(0, "no room for a whole line"))
            return
        self._lost = 0
        self.complaint = ""

    def _lose(self) -> None:
        self._lost += 1
        self.lost += 1

    def reopen(self) -> None:
        """Close the file and open the one that has its name now, which is made if there is none."""
        if self._path is None:
            return
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        try:
            self._fd = _opened(self._path)
            self._torn = False
        except OSError as error:
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        if not self.complaint:
            why = f"nothing can be written to the log {self._path}: {error.strerror}"
            self.complaint = f"{why}; the run goes on without it"
            say(f"error: {self.complaint}")

    def close(self, patience_s: float = 1.0) -> None:
        """Nothing more is written; what waits may take so many seconds. A second call does nothing."""
        self.flush(patience_s)
        if self._fd > _STDERR:
            os.close(self._fd)
        self._fd = -1


def _takes_more(end: float) -> bool:
    poll = select.poll()
    poll.register(_STDERR, select.POLLOUT)
    # POLLERR too: the reader has gone, which a write finds out.
    return bool(poll.poll(max(0.0, end - time.monotonic()) * 1000))


def _opened(path: Path) -> int:
    # O_NONBLOCK is for a FIFO without a reader, which would hold up the start; it changes nothing of a file.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    return os.open(path, flags, 0o640)
