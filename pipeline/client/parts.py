"""Parts: the parts of one answer, as they come, of a client that threads share."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

from pipeline.client.gate import Gates
from pipeline.client.infer_future import read_of
from pipeline.client.reading import raise_error
from pipeline.client.request import Request
from pipeline.client.result import Result
from pipeline.client.shared import SharedClient
from pipeline.wire.messages import Answer

__all__ = ["Parts"]


class Parts(Iterator[Result]):
    """The parts of one answer, each a `Result`. Made by `InferRunner.stream`.

    Leaving the iteration early and dropping this cancels the request; so does `close`, or the end of a `with`. Several
    threads may iterate over it: each part goes to one of them.

    Args:
        client: of the request.
        request: not sent yet.
    """

    def __init__(self, client: SharedClient, request: Request) -> None:
        self._client = client
        self._request = request
        self._given = 0
        self._closed = False
        self._came = Gates()
        # Reentrant: a signal's handler may ask as well.
        self._taking = threading.RLock()
        request.owner = _Watch(self._came)
        client.io.put([request], block=True)

    def __iter__(self) -> Parts:
        return self

    def __next__(self) -> Result:
        """
        Raises:
            RequestError: the answer was broken off.
            ClientMisuse: in the child of a fork, or within a done-callback.
        """
        request, io = self._request, self._client.io
        part: Answer | None = None
        while True:
            while not (self._closed or self._more()):
                io.refuse_waiting()
                gate = self._came.add()
                try:
                    if not self._more():
                        gate.wait()
                finally:
                    self._came.drop(gate)
            with self._taking:
                if self._closed:
                    raise StopIteration
                if self._has_part:
                    pending = request.pending
                    assert pending is not None
                    part = list(pending.received.values())[self._given]
                    self._given += 1
                    break
                if request.done:
                    self._closed = True
                    break
            # Another thread has taken that part.
        if part is not None:
            return read_of(io, request, part)
        raise_error(request)
        # Only what was skipped: an answer in parts that had none, or all outputs were.
        if self._given or not (result := read_of(io, request)):
            raise StopIteration
        return result

    @property
    def _has_part(self) -> bool:
        """Whether a part has come that was not given."""
        pending = self._request.pending
        return pending is not None and self._given < len(pending.received)

    def _more(self) -> bool:
        """Whether there is a part that was not given, or the end."""
        return self._request.done or self._has_part

    def close(self) -> None:
        """The rest is not wanted. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self._client.io.cancel([self._request])

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Perhaps in the middle of a step: the I/O thread cancels it.
        if not getattr(self, "_closed", True) and os.getpid() == self._client.io.process:
            self._client.io.dropped.append(self._request)
            self._client.io.bell.ring()


class _Watch:
    """Is told of what comes, and does not refer to what waits for it, which may be dropped."""

    def __init__(self, came: Gates) -> None:
        self._came = came

    def request_done(self, request: Request) -> None:
        """Called by the I/O thread: it is over."""
        self._came.open()

    def part_came(self) -> None:
        """Called by the I/O thread: there are more parts."""
        self._came.open()
