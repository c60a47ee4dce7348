"""Lines: a file or stdin line by line, each at most so long; and stdin whole.

Only a line feed ends a line, with or without a carriage return before it: JSON may contain other
characters at which `str.splitlines` would split.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["StdinReader", "lines_of"]

_CHUNK = 1 << 16
#: How many lines of stdin, and how many bytes, are read ahead of the pipeline.
_AHEAD, _AHEAD_BYTES = 256, 64 << 20


def lines_of(stream: BinaryIO, most: int) -> Iterator[bytes | None]:
    """The lines of a stream, without their ends; None for a line of more than `most` bytes.

    Raises:
        OSError: the stream cannot be read.
    """
    while line := stream.readline(most + 2):
        ended = line.endswith(b"\n")
        text = line.rstrip(b"\n").removesuffix(b"\r")
        if not ended and len(line) == most + 2:
            # Skip the rest of it, up to the end of the line or of the stream.
            while (rest := stream.readline(_CHUNK)) and not rest.endswith(b"\n"):
                pass
            yield None
        else:
            yield text if len(text) <= most else None


class StdinReader:
    """Reads stdin in a thread of its own, so that answers are taken in while stdin brings nothing.

    Args:
        fd: stdin, or a descriptor in its place; it is not closed.
        most: the most bytes of a line; if `whole`, of all.
        whole: everything up to the end is one item.
    """

    def __init__(self, fd: int, most: int, *, whole: bool) -> None:
        self._items: queue.Queue[bytes | OSError | type[EOFError] | None] = queue.Queue(
            max(1, min(_AHEAD, _AHEAD_BYTES // max(1, most)))
        )
        # A daemon: a thread that waits for a person's next line must not keep the process from ending.
        threading.Thread(target=self._read, args=(fd, most, whole), name="stdin", daemon=True).start()

    def _read(self, fd: int, most: int, whole: bool) -> None:
        try:
            with open(fd, "rb", closefd=False) as stream:
                if whole:
                    data = stream.read(most + 1)
                    self._items.put(data if len(data) <= most else None)
                else:
                    for line in lines_of(stream, most):
                        self._items.put(line)
        except OSError as error:
            self._items.put(error)
        self._items.put(EOFError)

    def take(self, wait_s: float) -> bytes | None:
        """The next item; None if it is too long.

        Args:
            wait_s: seconds to wait for one.

        Raises:
            TimeoutError: there is none yet.
            EOFError: there are no more.
            OSError: stdin cannot be read; after that comes the end.
        """
        try:
            item = self._items.get(timeout=wait_s) if wait_s > 0 else self._items.get_nowait()
        except queue.Empty:
            raise TimeoutError from None
        if item is EOFError:
            raise EOFError
        if isinstance(item, OSError):
            raise item
        assert not isinstance(item, type)
        return item
