"""Tail: the lines of a run's log, to its end and beyond, also when the file becomes its own predecessor.

    seen    the file that is read    .1 at the change            read next          told
    full    is .1                    the same                    the newest         nothing
    full    is gone                  one that was never seen     .1, the newest     what is missing before either

Whether something is missing is told by the first line of a file (see `pipeline.supervisor.run_log`). An event log
has no such lines: of that, nothing is told, and .1 is not read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.logs.forms import before_of, missing_lines, time_of

__all__ = ["Tail"]

_AT_ONCE = 1 << 16
_FIRST_LINE = 1 << 8


class Tail:
    """The lines of a file that another process adds to.

    Args:
        path: of the newest file (see `pipeline.supervisor.run_log`); it may come later.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = path.with_name(path.name + ".1")
        self._partial = b""
        self._fd = -1
        #: The newest file, while the one before it is read.
        self._next = -1
        #: No line of the file has been read.
        self._begins = True
        #: Lines of the log up to the one that was read last, those that were missed too; None: not known yet.
        self._seen: int | None = None
        self._open()

    def earlier(self) -> Iterator[str]:
        """The lines of the file before the one that is read, if that is there. To be called before `read`."""
        with suppress(FileNotFoundError), self._before.open("rb") as file:
            # The newest file may have become this one since it was opened: then it is read as that.
            if self._fd < 0 or not os.path.samestat(os.fstat(file.fileno()), os.fstat(self._fd)):
                for number, line in enumerate(file):
                    text = line.decode(errors="replace").rstrip("\n")
                    if number or before_of(text) is None:
                        yield text

    def skip(self) -> None:
        """Leave out what is there already."""
        if self._fd >= 0:
            # Up to the next file it is not known what is missing.
            self._begins, self._seen = os.lseek(self._fd, 0, os.SEEK_END) == 0, None

    def read(self) -> Iterator[str]:
        """The complete lines since the last call; at first, from the beginning of the newest file.

        A line among them tells how many are missing before it, if the writer was so much faster than the reader.
        """
        while True:
            yield from self._rest()
            if self._fd >= 0 and self._is_current():
                return
            # What was written between the last look and the change of files is read first.
            yield from self._rest()
            if not self._open():
                return

    def close(self) -> None:
        """A second call does nothing."""
        for fd in (self._fd, self._next):
            if fd >= 0:
                os.close(fd)
        self._fd = self._next = -1

    def _rest(self) -> Iterator[str]:
        while self._fd >= 0 and (chunk := os.read(self._fd, _AT_ONCE)):
            *lines, self._partial = (self._partial + chunk).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace")
                if self._begins:
                    self._begins = False
                    before = before_of(text)
                    if self._seen is not None and before is not None and before > self._seen:
                        why = "they were overwritten before they were read"
                        yield f"{time_of(time.time())} {missing_lines(before - self._seen, why)}"
                    self._seen = 1 if before is None else before
                    if before is not None:
                        continue
                elif self._seen is not None:
                    self._seen += 1
                yield text

    def _is_current(self) -> bool:
        with suppress(OSError):
            return os.path.samestat(os.fstat(self._fd), os.stat(self._path))
        return False

    def _open(self) -> bool:
        """Go on with the file that has the name now, or the one before it, if that was missed; whether there is one."""
        if self._next >= 0:
            os.close(self._fd)
            self._fd, self._next = self._next, -1
        else:
            # In this order: what becomes the one before since then is the newest, or older than that.
            before = _opened(self._before) if self._seen is not None else -1
            fd = _opened(self._path)
            if before >= 0 and (fd < 0 or not self._was_missed(before)):
                os.close(before)
                before = -1
            if fd < 0:
                return False
            self.close()
            self._fd, self._next = (fd, -1) if before < 0 else (before, fd)
        self._partial, self._begins = b"", True
        return True

    def _was_missed(self, fd: int) -> bool:
        """Whether none of this file has been read, and it begins where, or after, the last line that was."""
        if self._seen is None or (self._fd >= 0 and os.path.samestat(os.fstat(fd), os.fstat(self._fd))):
            return False
        first = os.pread(fd, _FIRST_LINE, 0).partition(b"\n")[0]
        before = before_of(first.decode(errors="replace"))
        return before is not None and before >= self._seen


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
