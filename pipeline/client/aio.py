"""AsyncClient: a client in an asyncio loop, for any number of its tasks; `pipeline.client.aio_runner` is over it.

    task ──Request──▶ queue, session (pipeline.client.driver) ──▶ the scheduler
      ▲                        │ step
      └── its future ◀─────────┘ ◀── the inbox's descriptor (`loop.add_reader`), or a time (`loop.call_later`)

There is no thread, and nothing is polled: an idle client is one entry in a table of the loop's. The first request of a
turn of the loop is sent at once, and all that are put in the rest of that turn share one message.

A client belongs to the loop in which it was connected, and to its process. What the loop keeps of it refers to it only
weakly: a client that is dropped is closed.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.client.access import Access, Place
from pipeline.client.alarm import Alarm
from pipeline.client.connection import Connection
from pipeline.client.copies import RETRIES, WAITING
from pipeline.client.driver import PATIENCE_S, Driver, Inquiry, Opening
from pipeline.client.inputs import limit_of, unchanging
from pipeline.client.limits import STATUS_S, check_limits
from pipeline.client.model_client import ModelClient
from pipeline.client.program import program
from pipeline.client.queue import PENDING, Queue
from pipeline.client.reading import raise_error, read, read_batch
from pipeline.client.request import Request
from pipeline.client.result import Result
from pipeline.client.session import Session
from pipeline.errors import ClientMisuse, Unavailable
from pipeline.wire.address import Address
from pipeline.wire.links import Inbox, link_of, listen
from pipeline.wire.messages import Answer
from pipeline.wire.status import PipelineStatus, plain

__all__ = ["AsyncClient"]

#: How long `connect` waits for a pipeline that is starting, if the caller gives no time.
_START_S = 60.0


class AsyncClient(ModelClient):
    """A connection to one running pipeline, for the tasks of one asyncio loop. Use `connect`."""

    _READY = "await ready()"

    def __init__(
        self, run: Place, name: str, pending: int = PENDING, patience_s: float = PATIENCE_S
    ) -> None:
        check_limits(pending, patience_s)
        self._name = name or program()
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._closed = False
        self._pending = pending
        self._patience_s = patience_s
        self._session = Session(self._name)
        self._queue = Queue(self._session, pending)
        self._alarm = Alarm(self._loop, functools.partial(_wake, weakref.ref(self)))
        access = Access(run, _listen)
        self._driver = Driver(access, self._session, self._queue, patience_s, self._alarm.unwatch)
        #: Callers that wait for something other than the answer to a request, until what they name is true.
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        #: Whether requests were put in this turn of the loop, after the first.
        self._put = False
        self._turn: asyncio.Handle | None = None
        #: What tells of the leases that end in the rest of this turn at its end: tasks that read one after the other,
        #: and have slots to give back, share a message for that.
        self._sharing: Connection | None = None

    @property
    def _is_closed(self) -> bool:
        return self._closed

    # -- coming and going -----------------------------------------------------------------------

    @classmethod
    async def connect(
        cls,
        run: Place = None,
        *,
        name: str = "",
        timeout_s: float | None = None,
        pending: int = PENDING,
        patience_s: float = PATIENCE_S,
    ) -> AsyncClient:
        """Connect to a running pipeline, and wait until it is ready.

        Args:
            run: the pipeline's name, a run's id or the path of its folder, or None for the only one; see `Place`.
            name: what `pipeline status` calls this client; empty: as it was started, such as `app.py`.
            timeout_s: seconds to wait until it runs and is ready. None: 60 for one that is starting, none for one that
                is not there.
            pending: how many requests may wait for a slot before `infer(block=False)` raises Overloaded, and how many
                `infer_many` copies.
            patience_s: seconds that a request waits for a pipeline that is not there, such as one that restarts.

        Raises:
            Unavailable: it is not running, or not ready in time.
        """
        client = cls(run, name, pending, patience_s)
        try:
            await client._open(_START_S if timeout_s is None else limit_of(timeout_s), timeout_s is not None)
        except BaseException:
            client._shut()
            raise
        return client

    async def reconnect(self, timeout_s: float = 60.0) -> None:
        """Wait until the pipeline is there again; at once if the connection was not lost. (`infer` waits for it by
        itself, though not as long.)

        Raises:
            Unavailable: it has stopped for good, or is not ready within `timeout_s` seconds.
        """
        self._enter()
        await self._open(limit_of(timeout_s), True)

    async def follow(self, timeout_s: float = 60.0) -> None:
        """Wait until the connection is to the run that serves now: once a reload was answered, to the new version.

        Raises:
            Unavailable: it is not there, or not ready within `timeout_s` seconds.
            ClientMisuse: the client is closed, or another loop's or process's.
        """
        self._enter()
        await self._open(limit_of(timeout_s), True, current=True)

    @property
    def moves(self) -> bool:
        """Whether the pipeline was replaced by a new version, and this client is about to be connected there."""
        return not self._closed and self._driver.moves(time.monotonic_ns())

    async def ready(self) -> None:
        """Wait until it is known what runs on the other side; it is, once there ever was a connection.

        Raises:
            Unavailable: it does not run, or is not ready in time.
            ClientMisuse: the client is closed, or another loop's or process's.
        """
        self._enter()
        if not self._known:
            await self._open(self._patience_s, True)

    async def _open(self, limit_s: float, patient: bool, current: bool = False) -> None:
        await self._until_over(self._driver.open(_in(limit_s), patient=patient, current=current))

    async def close(self) -> None:
        """Leave. What waits or is under way fails with Unavailable; what this client holds comes back to the pipeline.

        Arrays of results stay as they are: their slots come back when the last of them is gone.
        """
        if not self._closed and os.getpid() == self._process:
            self._refuse_other_loop()
            self._shut()

    def _shut(self) -> None:
        self._closed = True
        if self._turn is not None:
            self._turn.cancel()
        _leave(self._driver, self._alarm)
        self._look_at_waiters()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __del__(self) -> None:
        # Not a parent's, by its child: the loop's table of descriptors belongs to both.
        if getattr(self, "_closed", True) or os.getpid() != self._process:
            return
        self._closed = True
        loop = self._loop
        if loop.is_running() and _running_loop() is not loop:
            # Dropped in another thread. If the loop is closed at this moment, nothing is left to do there.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_leave, self._driver, self._alarm)
                return
        _leave(self._driver, self._alarm)

    # -- order ----------------------------------------------------------------------------------

    def _enter(self) -> None:
        """Refuse a caller that may not call."""
        # First: in a child nothing of its parent's may be touched.
        if os.getpid() != self._process:
            raise ClientMisuse(
                f"this client was made by process {self._process} and is used by its child {os.getpid()}; "
                f"a fork copies no connection: connect in the child"
            )
        if self._closed:
            raise ClientMisuse("this client is closed; connect again")
        self._refuse_other_loop()

    def _refuse_other_loop(self) -> None:
        if _running_loop() is not self._loop:
            raise ClientMisuse(
                "this client belongs to the asyncio loop in which it was connected, and was used outside of it; "
                "connect in each loop, or use pipeline.connect, whose runners any thread may use"
            )

    # -- requests -------------------------------------------------------------------------------

    def put(self, requests: Sequence[Request], *, block: bool = True) -> list[asyncio.Future[Request]]:
        """Have requests sent, all that can be in one message. Each future has its request as the result when that is
        over, also if it has failed.

        The arrays of a request must not change until its `waits` is False.

        Args:
            block: whether they may wait for a slot even if `pending` requests do: their tasks wait, and keep their
                arrays.

        Raises:
            Overloaded: not block, and they may not; none of them was put.
            InvalidRequest: one does not fit the pipeline's inputs; none of them was put.
            ClientMisuse: the client is closed, or another loop's or process's.
        """
        self._enter()
        now = time.monotonic_ns()
        futures = []
        for number, request in enumerate(requests):
            future: asyncio.Future[Request] = self._loop.create_future()
            request.owner = future
            try:
                self._queue.put(request, now, bounded=not block)
            except BaseException:
                for before in requests[:number]:
                    self._queue.cancel(before, now)
                raise
            futures.append(future)
        self._go()
        return futures

    def cancel(self, request: Request) -> None:
        """A request is not wanted any more: it is dropped before its next stage. A second call does nothing."""
        if request.done or self._closed or os.getpid() != self._process:
            return
        if _running_loop() is self._loop or not self._loop.is_running():
            self._cancel(request)
            return
        # What a task has left may be dropped in another thread, by the collector.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_cancel_in_loop, weakref.ref(self), request)

    def _cancel(self, request: Request) -> None:
        if not request.done and not self._closed:
            self._queue.cancel(request, time.monotonic_ns())
            if not self._loop.is_closed():
                self._go()

    async def lend(self, request: Request) -> None:
        """Wait for the slot of a request that the caller fills itself (`Request.shapes`); it is `request.draft` then.

        Raises:
            RequestError: none will come.
        """
        (lent,) = self.put([request])
        try:
            await lent
        except BaseException:
            self.give_back(request)
            raise
        raise_error(request)

    def submit_lent(self, request: Request) -> asyncio.Future[Request]:
        """Send a request whose draft the caller has filled. The future is as those of `put`.

        Raises:
            Unavailable: its slot went with a scheduler that has died.
            ClientMisuse: the client is closed, or another loop's or process's.
        """
        self._enter()
        if not self._queue.submit(request, time.monotonic_ns()):
            raise Unavailable("this slot went with the scheduler that has died; take another loan")
        over: asyncio.Future[Request] = self._loop.create_future()
        request.owner = over
        self._go()
        return over

    def give_back(self, request: Request) -> None:
        """A slot that was lent is not wanted, or its request is not. A second call does nothing."""
        if self._closed or os.getpid() != self._process:
            # Of a closed client it comes back when no array is on it any more (`Leases.keep`).
            request.draft = None
            return
        self._queue.give_back(request)
        if request.waits:
            self._queue.cancel(request, time.monotonic_ns())
        self._go()

    async def placed(self, requests: Iterable[Request]) -> None:
        """Wait until the arrays of these requests may change: they are in slots, or were copied, up to `pending`."""
        # Those with retries have copies already.
        waiting = [request for request in requests if request.waits and not request.retries]

        def few() -> bool:
            waiting[:] = [request for request in waiting if request.waits]
            return len(waiting) <= self._pending

        if not few():
            await self._wait(few)
        for request in waiting:
            self._keep(request, WAITING)

    def keep(self, request: Request) -> None:
        """Keep the inputs of a request that may be sent again, and whose arrays the caller may change meanwhile."""
        if request.retries:
            self._keep(request, RETRIES)

    def _keep(self, request: Request, reason: str) -> None:
        request.inputs, copied = unchanging(request.inputs)
        self._session.copies.add(reason, copied)

    # -- answers --------------------------------------------------------------------------------

    async def more(self, request: Request) -> None:
        """Wait until another part of its answer has come, or it is over."""
        request.owner = self._loop.create_future()
        await request.owner

    def result(self, request: Request, part: Answer | None = None) -> Result:
        """See `reading.read`."""
        return read(self._session, request, part)

    def stacked(self, requests: Sequence[Request]) -> Result:
        """See `reading.read_batch`."""
        return read_batch(self._session, requests)

    async def status(self, timeout_s: float = STATUS_S) -> dict[str, Any]:
        """How the pipeline is: the scheduler's view, as plain values.

        Raises:
            NotInTime: it does not answer (a TimeoutError).
            Unavailable: the pipeline is not there.
            ClientMisuse: the client is closed, or another loop's or process's.
        """
        return dict(plain(await self.inquire(timeout_s)))

    async def inquire(self, timeout_s: float = STATUS_S) -> PipelineStatus:
        """The same as the record that the scheduler has sent. Raises as `status`."""
        self._enter()
        inquiry = self._driver.inquire(_in(limit_of(timeout_s)))
        await self._until_over(inquiry)
        assert inquiry.status is not None
        return inquiry.status

    # -- waiting --------------------------------------------------------------------------------

    async def _until_over(self, wait: Opening | Inquiry) -> None:
        self._step()
        try:
            if not wait.done:
                await self._wait(lambda: wait.done)
        finally:
            self._driver.forget(wait)
        wait.raise_error()

    async def _wait(self, condition: Callable[[], bool]) -> None:
        """Wait until this is so after some step, or the client is closed."""
        future: asyncio.Future[None] = self._loop.create_future()
        waiter = condition, future
        self._waiters.append(waiter)
        try:
            await future
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _look_at_waiters(self) -> None:
        for waiter in tuple(self._waiters):
            condition, future = waiter
            if self._closed or condition():
                self._waiters.remove(waiter)
                if not future.done():
                    future.set_result(None)

    # -- steps ----------------------------------------------------------------------------------

    def _go(self) -> None:
        """Step now, or at the end of this turn of the loop if there was a step in it already."""
        if self._turn is not None:
            self._put = True
            return
        self._turn = self._loop.call_soon(_end_turn, weakref.ref(self))
        self._step()
        self._sharing = self._driver.access.connection
        if self._sharing is not None:
            self._sharing.about_to_send = True

    def _end_turn(self) -> None:
        self._turn = None
        try:
            if self._put:
                self._put = False
                self._step()
        finally:
            sharing, self._sharing = self._sharing, None
            if sharing is not None:
                sharing.about_to_send = False
                # Those that have ended since, in another thread, or all if there was nothing else to say.
                sharing.settle_idle()

    def _step(self) -> None:
        if self._closed:
            return
        now = time.monotonic_ns()
        try:
            finished = self._driver.step(now)
        except Exception as error:
            # A fault of ours: better that all callers hear of it than that they wait for ever.
            _tell(self._queue.fail(Unavailable(f"this client has failed: {error!r}"), now))
            raise
        _tell(finished)
        _tell(self._queue.parted())
        if self._waiters:
            self._look_at_waiters()
        if not self._closed:
            self._alarm.set(self._driver.descriptor, self._driver.next_at, now)


def _listen(run_dir: Path, address: Address) -> Inbox:
    return listen(run_dir, address, link=link_of(run_dir))


def _in(seconds: float) -> int:
    return time.monotonic_ns() + round(seconds * 1e9)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _tell(requests: Iterable[Request]) -> None:
    """Wake the tasks of these requests."""
    for request in requests:
        # Not both of each other: what its answer holds would wait for the collector.
        future, request.owner = request.owner, None
        if future is not None and not future.done():
            future.set_result(request)


def _leave(driver: Driver, alarm: Alarm) -> None:
    finished = driver.leave(time.monotonic_ns())
    alarm.off()
    # If the loop is closed, no task is left to be woken.
    with suppress(RuntimeError):
        _tell(finished)


def _wake(client: weakref.ref[AsyncClient]) -> None:
    if (found := client()) is not None:
        found._step()


def _end_turn(client: weakref.ref[AsyncClient]) -> None:
    if (found := client()) is not None:
        found._end_turn()


def _cancel_in_loop(client: weakref.ref[AsyncClient], request: Request) -> None:
    if (found := client()) is not None:
        found._cancel(request)
