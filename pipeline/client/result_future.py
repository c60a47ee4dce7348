"""ResultFuture: a `concurrent.futures.Future` of a Result, for any thread, whatever the answer travels over.

So `concurrent.futures.wait` and `as_completed`, `asyncio.wrap_future` and `add_done_callback` take it, and it can be
awaited. Its result is made in the thread that asks for it first. `infer_future` is of a pipeline of this host,
`pipeline.remote.future` of a server elsewhere.
"""

from __future__ import annotations

import _thread
import asyncio
import concurrent.futures
import threading
from abc import abstractmethod
from collections.abc import Generator
from contextlib import suppress
from copy import copy
from typing import Any

from pipeline.client.gate import Gates
from pipeline.client.inputs import limit_of
from pipeline.client.result import Result
from pipeline.errors import Cancelled, ClientMisuse, NotInTime, PipelineError

__all__ = ["ResultFuture"]


_BY_US = Cancelled("cancelled by this program")
"""The error of futures that were cancelled here."""

#: A future's lock is held for moments. How long the thread that ends it waits for one.
_PATIENCE_S = 1.0


class _Condition(_thread.RLock):  # type: ignore[misc]
    """As much of a `threading.Condition` as `concurrent.futures` uses, whose `with` is one call into C."""

    def notify_all(self) -> None:
        """None waits here: see `ResultFuture.wait`."""


class ResultFuture(concurrent.futures.Future[Result]):
    """The answer to a request, or to a batch of them.

    Args:
        client: kept alive until this is done.
    """

    #: What a request without an id is said to do.
    _WAITS = "the request, which is not sent yet,"

    def __init__(self, client: object) -> None:
        super().__init__()
        # Its `with` is one call into C, as `pipeline.client.gate` explains.
        self._condition = _Condition()  # type: ignore[assignment]
        self._client: object = client
        #: Whether it is over, and why it has failed. What `concurrent.futures` knows of it follows.
        self._over = False
        self._error: PipelineError | None = None
        self._gates = Gates()
        # Reentrant: a signal's handler may read it as well.
        self._reading = threading.RLock()
        self._made: Result | None = None

    @property
    @abstractmethod
    def request(self) -> str:
        """The id of the request, by which logs and errors call it; of a batch, those of all its requests."""

    # -- what differs ---------------------------------------------------------------------------------

    @abstractmethod
    def _refuse_child(self) -> None:
        """
        Raises:
            ClientMisuse: in the child of a fork.
        """

    @abstractmethod
    def _refuse_waiting(self) -> None:
        """
        Raises:
            ClientMisuse: this thread takes in the answers.
        """

    @abstractmethod
    def _drop(self) -> None:
        """What is under way for it is not wanted any more."""

    @abstractmethod
    def _make(self) -> Result:
        """Its result. It is over, and has not failed."""

    # -- what comes of it -----------------------------------------------------------------------------

    def _end(self, error: PipelineError | None) -> bool:
        """It is over; False: it was before, cancelled in another thread."""
        with self._reading:
            if self._over:
                return False
            self._error = error
            self._over = True
        self._client = None
        self._gates.open()
        if self._condition.acquire(timeout=_PATIENCE_S):
            self._condition.release()
            self._tell()
        else:
            # A thread that was interrupted within `concurrent.futures.wait` has left it locked. Who waits there must
            # wait; all others are served.
            threading.Thread(target=self._tell, daemon=True).start()
        return True

    def _tell(self) -> None:
        """Tell `concurrent.futures`, and call what was added by `add_done_callback`."""
        error = self._error
        with suppress(concurrent.futures.InvalidStateError):
            if isinstance(error, Cancelled) and error is _BY_US:
                super().cancel()
                # For `concurrent.futures.wait` and `as_completed`.
                self.set_running_or_notify_cancel()
            elif error is None:
                self.set_result(None)  # type: ignore[arg-type]
            else:
                self.set_exception(error)

    def cancel(self) -> bool:
        """The answer is not wanted any more. A request that is not sent yet is not sent; one under way is dropped
        before its next stage. False: it was done before.

        Raises:
            ClientMisuse: in the child of a fork.
        """
        self._refuse_child()
        if self._end(_BY_US):
            self._drop()
        return self.cancelled()

    def done(self) -> bool:
        """Whether the answer, or the failure, is here."""
        return self._over

    def running(self) -> bool:
        """False: it can be cancelled as long as it is not done."""
        return False

    def cancelled(self) -> bool:
        """Whether this program has cancelled it."""
        return self._error is _BY_US

    # -- reading it -----------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is done, at most `timeout` seconds; whether it is.

        Raises:
            ClientMisuse: in the child of a fork, or within a done-callback, which runs in the thread that takes in the
                answers.
        """
        self._refuse_child()
        if self._over:
            return True
        limit_s = None if timeout is None else limit_of(timeout)
        self._refuse_waiting()
        gate = self._gates.add()
        try:
            return self._over or gate.wait(limit_s)
        finally:
            self._gates.drop(gate)

    def result(self, timeout: float | None = None) -> Result:
        """The answer, the same object each time; `get` is the same.

        Raises:
            NotInTime: it is not done within `timeout` seconds (a TimeoutError); it goes on.
            RequestError: the request has no answer (see `pipeline.errors`); of a batch, the row is named.
            ClientMisuse: as `wait`; or the answer has come in several parts.
        """
        error = self.exception(timeout)
        if error is not None:
            try:
                raise error
            finally:
                # Otherwise it and this frame would refer to each other, and keep the request's slots.
                del error
        with self._reading:
            if self._made is None:
                made = self._make()
                # Unless a signal's handler was faster.
                self._made = self._made or made
        return self._made

    get = result

    def exception(self, timeout: float | None = None) -> PipelineError | None:
        """Why it failed, another object each time; None if it did not.

        Raises:
            NotInTime: as `result`.
            Cancelled: it was cancelled by this program.
            ClientMisuse: as `wait`.
        """
        if not self.wait(timeout):
            what = f"request {self.request}" if self.request else self._WAITS
            raise NotInTime(f"{what} is not answered after {timeout} s; it goes on: call get again")
        error = self._error
        if error is None:
            return None
        if error is _BY_US:
            raise Cancelled(*error.args)
        # One that was raised refers to the frames that it passed, and those to this future, whose slots would wait for
        # the collector.
        again = copy(error)
        again.__cause__ = error.__cause__
        return again

    def __await__(self) -> Generator[Any, None, Result]:
        return asyncio.wrap_future(self).__await__()

    def __reduce__(self) -> Any:
        raise ClientMisuse("a future cannot be sent to another process: send copies of the arrays of its result")
