"""InferFuture: the answer to a request, or to a batch of them, of a pipeline of this host, for any thread.

What every future of a result can do is in `result_future`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from pipeline.client.batches import of_rows
from pipeline.client.io_thread import IOThread
from pipeline.client.reading import read, read_batch
from pipeline.client.request import Request
from pipeline.client.result import Result
from pipeline.client.result_future import ResultFuture
from pipeline.errors import ClientMisuse, RequestError
from pipeline.wire.messages import Answer

__all__ = ["InferFuture", "read_of"]


class InferFuture(ResultFuture):
    """The answer to a request, or to a batch of them. Made by `InferRunner`.

    Args:
        client: kept alive until this is done.
        io: its inside.
        requests: of which this is the answer.
        is_batch: the answer is that of a batch.
    """

    _WAITS = "the request, which waits for a slot,"

    def __init__(self, client: object, io: IOThread, requests: Sequence[Request], is_batch: bool) -> None:
        super().__init__(client)
        self._io = io
        self._requests = requests
        self._is_batch = is_batch
        self._ids = ""
        self._left = len(requests)
        for request in requests:
            request.owner = self

    @property
    def request(self) -> str:
        """The id of the request, by which logs and errors call it; of a batch, those of all its requests. "" of one
        that is not sent yet."""
        return self._ids or ", ".join([request.request for request in self._requests])

    # -- what comes of it -----------------------------------------------------------------------------

    def request_done(self, request: Request) -> None:
        """Called by the I/O thread: one of its requests is over."""
        self._left -= 1
        error = request.error()
        if self._over or (error is None and self._left):
            return
        if error is not None and self._is_batch and isinstance(error, RequestError):
            sizes = [each.rows or 1 for each in self._requests]
            error = of_rows(error, [each is request for each in self._requests].index(True), sizes)
        if self._end(error) and error is not None and self._is_batch:
            # An answer that lacks a row is none.
            self._drop()

    def part_came(self) -> None:
        """Called by the I/O thread; of no interest here."""

    def _refuse_child(self) -> None:
        self._io.refuse_child()

    def _refuse_waiting(self) -> None:
        self._io.refuse_waiting()

    def _drop(self) -> None:
        self._ids = self.request
        requests, self._requests = self._requests, ()
        # The client may be closed. In a handler in the middle of another call it is refused: the I/O thread does it.
        try:
            self._io.cancel(requests)
        except ClientMisuse:
            self._io.dropped.extend(requests)
            self._io.bell.ring()

    def _make(self) -> Result:
        if not self._is_batch:
            return read_of(self._io, self._requests[0])
        for request in self._requests:
            _take(self._io, request)
        return read_batch(self._io.session, self._requests)

    def __repr__(self) -> str:
        of = f"a batch of {len(self._requests)} requests" if self._is_batch else f"request {self.request or '(waits)'}"
        if not self.done():
            return f"<InferFuture of {of}: under way>"
        error = self._error
        what = "cancelled" if self.cancelled() else "answered" if error is None else f"failed, {error!r}"
        return f"<InferFuture of {of}: {what}>"


def read_of(io: IOThread, request: Request, part: Answer | None = None) -> Result:
    """As `reading.read`, in whatever thread."""
    _take(io, request)
    return read(io.session, request, part)


def _take(io: IOThread, request: Request) -> None:
    """From here on the I/O thread does not move its answer."""
    # In a handler, in the middle of a step of this thread's, it is refused: then no other thread moves it either.
    with suppress(ClientMisuse):
        if request.pending is not None:
            io.take(request.pending)
