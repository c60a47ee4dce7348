"""Lines: a file or stdin line by line, each at most so long; and stdin whole.

Only a line feed ends a line, with or without a carriage return before it: what `str.splitlines` takes
for ends of lines may stand inside JSON.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["StdinReader", "lines_of"]

_CHUNK = 1 << 16
#: Lines of stdin that are kept ahead of the pipeline, and the bytes that they may have.
_AHEAD, _AHEAD_BYTES = 256, 64 << 20


def lines_of(stream: BinaryIO, most: int) -> Iterator[bytes | None]:
    """The lines of a stream, without their ends; None for each that is longer than `most` bytes.

    Raises:
        OSError: it cannot be read on.
    """
    while line := stream.readline(most + 2):
        ended = line.endswith(b"\n")
        text = line.rstrip(b"\n").removesuffix(b"\r")
        if not ended and len(line) == most + 2:
            # The rest of it is passed over; an end of the line or of the stream ends it.
            while (rest := stream.readline(_CHUNK)) and not rest.endswith(b"\n"):
                pass
            yield None
        else:
            yield text if len(text) <= most else None


class StdinReader:
    """Reads stdin in a thread of its own, so that answers are taken in while nothing comes.

    Args:
        fd: stdin, or what stands for it; it is not closed.
        most: bytes of a line; or, where `whole`, of all.
        whole: all of it up to its end is one item.
    """

    def __init__(self, fd: int, most: int, *, whole: bool) -> None:
        self._items: queue.Queue[bytes | OSError | type[EOFError] | None] = queue.Queue(
            max(1, min(_AHEAD, _AHEAD_BYTES // max(1, most)))
        )
        # A daemon: what waits for a person's next line must not keep the process from its end.
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
        """The next item; None where it is too long.

        Args:
            wait_s: seconds to wait for one.

        Raises:
            TimeoutError: there is none yet.
            EOFError: there are no more.
            OSError: it cannot be read on; after it comes the end.
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
