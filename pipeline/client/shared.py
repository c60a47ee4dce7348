"""SharedClient: a client that any number of threads use; `pipeline.client.runner` is over it.

Its inside is an `IOThread`, to which its thread and its futures refer. So a client that is dropped is closed, once the
futures of what is under way are dropped or done.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from typing import Any

from pipeline.client.access import Place
from pipeline.client.driver import PATIENCE_S
from pipeline.client.infer_future import InferFuture
from pipeline.client.inputs import limit_of
from pipeline.client.io_thread import IOThread
from pipeline.client.limits import STATUS_S
from pipeline.client.model_client import ModelClient
from pipeline.client.program import program
from pipeline.client.queue import PENDING
from pipeline.client.request import Request
from pipeline.errors import PipelineError
from pipeline.wire.interface import Interface
from pipeline.wire.status import plain

__all__ = ["InferFuture", "SharedClient"]

#: How long `connect` waits for a pipeline that is starting, if the caller gives no time.
_START_S = 60.0


class SharedClient(ModelClient):
    """A connection to one running pipeline, for any number of threads of one process. Use `connect`."""

    _READY = "call ready()"

    def __init__(
        self, run: Place, name: str, pending: int = PENDING, patience_s: float = PATIENCE_S
    ) -> None:
        self._name = name or program()
        self._patience_s = patience_s
        self._io = IOThread(run, self._name, pending, patience_s)
        self._driver = self._io.driver
        # Dropped in whatever thread, and perhaps in the middle of a step: the I/O thread closes it. At the end of the
        # interpreter, the I/O threads are closed by themselves.
        weakref.finalize(self, self._io.bell.abandon).atexit = False
        self._io.begin()

    @property
    def io(self) -> IOThread:
        """Its inside."""
        return self._io

    @property
    def _is_closed(self) -> bool:
        return self._io.closed is not None

    @property
    def interface(self) -> Interface:
        """As `ModelClient.interface`; raises ClientMisuse also in another process."""
        self._io.refuse_child()
        return super().interface

    # -- coming and going -----------------------------------------------------------------------

    @classmethod
    def connect(
        cls,
        run: Place = None,
        *,
        name: str = "",
        timeout_s: float | None = None,
        pending: int = PENDING,
        patience_s: float = PATIENCE_S,
    ) -> SharedClient:
        """Connect to a running pipeline, and wait until it is ready.

        Args:
            run: the pipeline's name, a run's id or the path of its folder, or None for the only one running; or a
                function that gives the folder of the run that is meant now, or raises Unavailable.
            name: what `pipeline status` calls this client; empty: as it was started, such as `app.py`.
            timeout_s: seconds to wait until it runs and is ready. None: 60 for one that is starting, none for one that
                is not there.
            pending: how many requests may wait for a slot; beyond, `infer` waits or raises Overloaded.
            patience_s: seconds that a request waits for a pipeline that is not there, such as one that restarts.

        Raises:
            Unavailable: it is not running, or not ready in time.
        """
        client = cls(run, name, pending, patience_s)
        try:
            client._open(_START_S if timeout_s is None else limit_of(timeout_s), timeout_s is not None)
        except BaseException:
            client.close()
            raise
        return client

    def reconnect(self, timeout_s: float = 60.0) -> None:
        """Wait until the pipeline is there again; at once if the connection was not lost. (A request waits for it by
        itself, though not as long.)

        Raises:
            Unavailable: it has stopped for good, or is not ready within `timeout_s` seconds.
            ClientMisuse: the client is closed, or another process's.
        """
        self._open(limit_of(timeout_s), True)

    def ready(self) -> None:
        """Wait until it is known what runs on the other side; it is, once there ever was a connection.

        Raises:
            Unavailable: it does not run, or is not ready in time.
            ClientMisuse: the client is closed, or another process's.
        """
        self._io.refuse_child()
        if not self._known:
            self._open(self._patience_s, True)

    def _open(self, limit_s: float, patient: bool) -> None:
        self._io.until_over(self._io.open(_in(limit_s), patient=patient))

    def refuse(self, error: PipelineError) -> None:
        """Take no more requests: calls raise `error` from now on. What was sent before, or waits, goes on."""
        self._io.refuse_child()
        self._io.refused = self._io.refused or error

    def wait_until_idle(self, timeout_s: float | None = None) -> bool:
        """Wait until no request waits or is under way, at most `timeout_s` seconds; whether that is so.

        Raises:
            ClientMisuse: in another process, or within a done-callback.
        """
        io = self._io
        if not io.queue.outstanding:
            return True
        return io.wait_until(lambda: not io.queue.outstanding, None if timeout_s is None else limit_of(timeout_s))

    def close(self) -> None:
        """Leave. What waits or is under way fails with Unavailable; what this client holds comes back to the pipeline.
        A second call does nothing, and neither does one in the child of a fork.

        Arrays of results stay as they are: their slots come back when the last of them is gone.
        """
        self._io.close()

    def __enter__(self) -> SharedClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- requests -------------------------------------------------------------------------------

    def send(self, requests: Sequence[Request], *, block: bool = True) -> list[InferFuture]:
        """Send requests, those that there are slots for in one message; a future for the answer to each.

        When this returns, the caller may change its arrays: what could not be written into a slot at once was copied.

        Args:
            block: whether to wait if more than `pending` requests would wait for a slot.

        Raises:
            Overloaded: not block, and more would wait than may; none was sent.
            InvalidRequest: one of them does not fit the pipeline's inputs; none was sent.
            ClientMisuse: the client is closed, or another process's.
        """
        futures = [InferFuture(self, self._io, [request], False) for request in requests]
        self._io.put(requests, block=block)
        return futures

    def send_batch(self, requests: Sequence[Request], *, block: bool = True) -> InferFuture:
        """As `send`, with one future for the answers of all of them, stacked."""
        future = InferFuture(self, self._io, requests, True)
        self._io.put(requests, block=block)
        return future

    def status(self, timeout_s: float = STATUS_S) -> dict[str, Any]:
        """How the pipeline is: the scheduler's view, as plain values.

        Raises:
            NotInTime: it does not answer (a TimeoutError).
            Unavailable: the pipeline is not there.
            ClientMisuse: the client is closed, or another process's.
        """
        inquiry = self._io.inquire(_in(limit_of(timeout_s)))
        self._io.until_over(inquiry)
        document: dict[str, Any] = plain(inquiry.status)
        return document


def _in(seconds: float) -> int:
    return time.monotonic_ns() + round(seconds * 1e9)
