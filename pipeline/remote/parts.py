"""RemoteParts: the parts of one answer of a server, as they come."""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator

from pipeline.client.result import Result
from pipeline.errors import KserveError, RequestError
from pipeline.kserve.values import InferResponse
from pipeline.remote.description import Description
from pipeline.remote.exchange import Job
from pipeline.remote.failures import Failure, error_of
from pipeline.remote.future import result_of
from pipeline.remote.incoming import column_values
from pipeline.remote.link import Payload
from pipeline.remote.model import RemoteModel

__all__ = ["RemoteParts"]


class RemoteParts(Iterator[Result]):
    """The parts of one answer, each a `Result`. Made by `RemoteRunner.stream`.

    Leaving the iteration early and dropping this cancels the request; so does `close`, or the end of a `with`. Several
    threads may iterate over it: each part goes to one of them.

    Args:
        model: of the request.
        description: of the model.
        payload: not sent yet.
        request_id: by which the server's logs call it.
        deadline: monotonic nanoseconds; 0: none.
    """

    def __init__(
        self, model: RemoteModel, description: Description, payload: Payload, request_id: str, deadline: int
    ) -> None:
        self._model = model
        self._closed = False
        inbox = _Inbox(description, request_id)
        self._inbox = inbox
        # A model whose answers come whole is asked as by infer: over HTTP there is no stream.
        part = inbox.part if description.in_parts else None
        self._job = inbox.job = Job(payload, deadline, 0, inbox.over, part)
        model.exchange.put([self._job])

    def __iter__(self) -> RemoteParts:
        return self

    def __next__(self) -> Result:
        """
        Raises:
            RequestError: the answer was broken off.
            ClientMisuse: in the child of a fork, or within a done-callback.
        """
        exchange = self._model.exchange
        exchange.refuse_child()
        if self._closed:
            raise StopIteration
        exchange.refuse_waiting()
        found = self._inbox.came.get()
        if isinstance(found, Result):
            return found
        self._closed = True
        # For other threads that wait here.
        self._inbox.came.put(None)
        if found is not None:
            try:
                raise found
            finally:
                del found
        raise StopIteration

    def close(self) -> None:
        """The rest is not wanted. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self._model.exchange.cancel([self._job])
            self._inbox.came.put(None)

    def __enter__(self) -> RemoteParts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and os.getpid() == self._model.exchange.process:
            self._model.exchange.cancel([self._job])


class _Inbox:
    """Is told of what comes, and does not refer to what waits for it, which may be dropped."""

    def __init__(self, description: Description, request_id: str) -> None:
        self._description = description
        self._names = tuple([tensor.name for tensor in description.interface.outputs])
        self._id = request_id
        self._number = 0
        self.job: Job | None = None
        #: Results; then the error, or None at the end.
        self.came: queue.SimpleQueue[Result | RequestError | None] = queue.SimpleQueue()

    def part(self, response: InferResponse) -> None:
        """Called by a thread that takes in answers."""
        try:
            columns = column_values(self._description, response, 1)
        except KserveError as error:
            self._fail(error_of(Failure.told(error)))
            return
        self.came.put(result_of(self._names, columns, self._number))
        self._number += 1

    def over(self, response: InferResponse | None, error: RequestError | None) -> None:
        """Called by a thread that takes in answers."""
        if error is not None:
            self._fail(error)
            return
        if response is not None:
            try:
                columns = column_values(self._description, response, 1)
            except KserveError as found:
                self._fail(error_of(Failure.told(found)))
                return
            if columns:
                self.came.put(result_of(self._names, columns))
        self.came.put(None)

    def _fail(self, error: RequestError) -> None:
        error.request = self._id
        self.came.put(error)
