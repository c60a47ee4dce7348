"""Tail: the lines of a run's log, to its end and beyond, also when the file becomes its own predecessor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["Tail"]

_AT_ONCE = 1 << 16


class Tail:
    """The lines of a file that another process adds to.

    Args:
        path: of the newest file (see `pipeline.supervisor.run_log`); it may come later.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = b""
        self._fd = -1
        self._open()

    def earlier(self) -> Iterator[str]:
        """The lines of the file before the one that is read, if that is there. To be called before `read`."""
        with suppress(FileNotFoundError), self._path.with_name(self._path.name + ".1").open("rb") as file:
            # The newest file may have become this one since it was opened: then it is read as that.
            if self._fd < 0 or not os.path.samestat(os.fstat(file.fileno()), os.fstat(self._fd)):
                for line in file:
                    yield line.decode(errors="replace").rstrip("\n")

    def skip(self) -> None:
        """Leave out what is there already."""
        if self._fd >= 0:
            os.lseek(self._fd, 0, os.SEEK_END)

    def read(self) -> Iterator[str]:
        """The complete lines since the last call; at first, from the beginning of the newest file."""
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
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _rest(self) -> Iterator[str]:
        while self._fd >= 0 and (chunk := os.read(self._fd, _AT_ONCE)):
            *lines, self._partial = (self._partial + chunk).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)

    def _is_current(self) -> bool:
        with suppress(OSError):
            return os.path.samestat(os.fstat(self._fd), os.stat(self._path))
        return False

    def _open(self) -> bool:
        """Go on with the file that has the name now; whether there is one."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        self.close()
        self._fd = fd
        return True
