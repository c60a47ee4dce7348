"""IOThread: a session and its queue, used by any number of threads; one thread of its own moves the messages.

    caller ──▶ reserve ──▶ writes its slot ──▶ submit ──▶ the scheduler       if a slot is in hand, the caller sends
      │          └── none is free ──▶ copies its arrays ──▶ put ──▶ queue
      │                                                              │ step
      └◀── its future ◀── finished ◀── the I/O thread ◀── the inbox ─┘

The mutex is held for the steps of the session, and while the I/O thread writes what has waited into slots. Callers
parse, copy, write their slots and make their results without it, side by side. The I/O thread alone receives. Futures
are resolved without the mutex, so what is called back may call in turn; it must not wait for an answer, though, since
it runs in the thread that would take that in.

A signal's handler may raise in the middle of a caller's step: the next step, of whatever thread, puts in order what
that one has left (`Session.mend`). A finaliser takes no mutex: what it lets go of waits in `dropped` for the I/O
thread.
"""

from __future__ import annotations

import atexit
import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.client.access import Access, Place
from pipeline.client.bell import Bell
from pipeline.client.carrier import ALIVE_CHECK_MS
from pipeline.client.copies import RETRIES, WAITING
from pipeline.client.driver import Driver, Inquiry, Opening
from pipeline.client.future import Pending
from pipeline.client.gate import Gate, Gates
from pipeline.client.inputs import unchanging, write
from pipeline.client.queue import Queue
from pipeline.client.request import Request
from pipeline.client.session import Session
from pipeline.client.steps import Steps, step
from pipeline.errors import ClientMisuse, DeadlineExceeded, InvalidRequest, Overloaded, Unavailable
from pipeline.wire.address import Address
from pipeline.wire.links import Inbox, link_of, listen

__all__ = ["IOThread"]

_MS = 1_000_000

#: After the last request the I/O thread goes on looking every 50 ms for so long, so that a caller that asks again and
#: again need not wake it each time.
_LINGER_NS = 1_000_000_000

#: How long `close` waits for the I/O thread, which may be in the middle of what an application has it call back.
_JOIN_S = 5.0

#: How long the end waits for calls that write into slots. It takes them moments, unless one was interrupted twice.
_WRITING_S = 1.0


class IOThread(Steps):
    """The inside of a `SharedClient`, which its thread and its futures refer to: so the client can be dropped.

    Args:
        run: as for `Access`.
        name: what the client is called.
        pending: how many requests may wait for a slot.
        patience_s: seconds that a request waits for a pipeline that is not there.
    """

    def __init__(self, run: Place, name: str, pending: int, patience_s: float) -> None:
        super().__init__()
        self.session = Session(name)
        self.queue = Queue(self.session, pending)
        self.driver = Driver(Access(run, _listen), self.session, self.queue, patience_s)
        #: Requests whose caller has dropped what would have read the answer.
        self.dropped: deque[Request] = deque()
        self.bell = Bell()
        #: Callers that wait for something other than an answer.
        self._waits: list[tuple[Callable[[], bool], Gate]] = []
        #: Callers that wait for room in the queue, in turn.
        self._rooms = Gates()
        #: Until when the I/O thread sleeps, unless it is woken, in monotonic nanoseconds; 0: it is awake.
        self._sleeps_until = 0
        self._busy_at = 0
        #: The calls that write into slots now, without the mutex, and until when `_leave` waits for them.
        self._writers: set[object] = set()
        self._left = False
        self._poll = select.poll()
        self._watched: int | None = None
        self._poll.register(self.bell.descriptor, select.POLLIN)
        self.thread = threading.Thread(target=_run, args=(self,), name=f"client {name}", daemon=True)
        _living.add(self)

    def begin(self) -> None:
        """Start the thread. It lives until `close`, or until the bell is told that the client was dropped: so what
        tells that comes before this, which may be interrupted."""
        self.thread.start()

    def mend(self) -> None:
        """As `Steps.mend`."""
        self.driver.mend()
        self.queue.mend()

    # -- the thread -----------------------------------------------------------------------------------

    def turn(self) -> bool:
        """Do what is due, and wait; False at the end."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.bell.descriptor)
        if self.bell.abandoned:
            self._shut()
        if self.closed is not None:
            self._end()
            return False
        self._tell(*self._advance())
        # Otherwise what a last answer holds would be held until the next one comes.
        timeout_ms = (self._sleeps_until - time.monotonic_ns()) / _MS
        self._poll.poll(max(0.0, timeout_ms) if self._sleeps_until < _NEVER else None)
        return True

    @step
    def _advance(self) -> tuple[list[Request], list[Request], list[Gate]]:
        """One step of the driver; the requests that are over, those of which parts have come, and the callers whose
        wait is over."""
        if self.closed is not None:
            return [], [], []
        now = time.monotonic_ns()
        driver, queue = self.driver, self.queue
        while self.dropped:
            if not (request := self.dropped.popleft()).done:
                queue.cancel(request, now)
        finished = driver.step(now)
        told = queue.parted()
        # A copy: a caller that waits no more takes its own away without the mutex.
        gates = [gate for condition, gate in tuple(self._waits) if condition()]
        self._rooms.open(max(0, queue.pending - len(queue)))
        self._fall_asleep(now)
        return finished, told, gates

    def _fall_asleep(self, now: int) -> None:
        driver = self.driver
        if (descriptor := driver.descriptor) != self._watched:
            if self._watched is not None:
                self._poll.unregister(self._watched)
            if descriptor is not None:
                self._poll.register(descriptor, select.POLLIN)
            self._watched = descriptor
        next_at = driver.next_at
        if next_at is not None:
            self._busy_at = now
        if now - self._busy_at < _LINGER_NS:
            tick = now + ALIVE_CHECK_MS * _MS
            next_at = tick if next_at is None else min(next_at, tick)
        self._sleeps_until = _NEVER if next_at is None else next_at

    def _tell(
        self, finished: Iterable[Request], told: Iterable[Request] = (), gates: Iterable[Gate] = ()
    ) -> None:
        for gate in gates:
            gate.open()
        for request in told:
            if request.owner is not None:
                request.owner.part_came()
        for request in finished:
            # Not both of each other: what its answer holds would wait for the collector.
            owner, request.owner = request.owner, None
            if owner is not None:
                owner.request_done(request)

    # -- the end --------------------------------------------------------------------------------------

    def close(self, *, join: bool = True) -> None:
        """Leave. What waits or is under way fails with Unavailable. A second call does nothing.

        Args:
            join: wait for the thread's end, unless this is it.
        """
        if os.getpid() != self.process:
            # A parent's is not closed by its child.
            return
        if self.closed is None:
            self._shut()
        self.bell.ring()
        if threading.current_thread() is self.thread:
            self._end()
        elif join:
            with suppress(RuntimeError):  # it was not started
                self.thread.join(_JOIN_S)
            if not self._left:
                self._end()

    @step
    def _shut(self) -> None:
        """From now on nothing is begun. What is under way is ended by the I/O thread, which no signal interrupts: of
        each request that its end was not told of, another thread would wait for ever."""
        self.closed = ClientMisuse("this client is closed; connect again")
        self._rooms.open()

    def _end(self) -> None:
        """It was shut: leave, and tell all that wait. A second call does nothing."""
        end = time.monotonic() + _WRITING_S
        while self._writers and time.monotonic() < end:
            # Otherwise their arrays become read-only in the middle of it.
            time.sleep(0.001)
        self._tell(*self._leave())

    @step
    def _leave(self) -> tuple[list[Request], list[Request], list[Gate]]:
        if self._left:
            return [], [], []
        finished = self.driver.leave(time.monotonic_ns())
        self._left = True
        return finished, [], [gate for _, gate in tuple(self._waits)]

    def fail(self, error: BaseException) -> None:
        """A fault of ours: better that all callers hear of it than that they wait for ever."""
        why = Unavailable(f"this client has failed: {error!r}; connect again")
        with self.mutex:
            finished = self.queue.fail(why, time.monotonic_ns())
            self.closed = self.closed or why
            with suppress(Exception):
                self.driver.leave(time.monotonic_ns())
            self._left = True
        self._rooms.open()
        self._tell(finished, (), [gate for _, gate in tuple(self._waits)])

    # -- requests -------------------------------------------------------------------------------------

    def put(self, requests: Sequence[Request], *, block: bool) -> None:
        """Have requests sent, those that there are slots for in one message. When this returns, the caller may change
        its arrays.

        Args:
            block: whether to wait if more than `pending` would wait; otherwise none of them is sent.

        Raises:
            Overloaded: not block, and more would wait than may.
            InvalidRequest: one of them does not fit the pipeline's inputs; none is sent.
            ClientMisuse: the client is closed, or another process's.
        """
        for request in requests:
            if request.retries:
                self._keep(request, RETRIES)
        call = object()
        try:
            self._reserve(requests, call)
            for request in requests:
                if request.draft is not None:
                    for name, view in request.draft.inputs.items():
                        write(view, request.inputs[name])
                elif not request.retries:
                    self._keep(request, WAITING)
            self._writers.discard(call)
            # A callback in the I/O thread cannot wait for room: the thread would wait for itself. It is called for a
            # request that is over, so what it adds is bounded by what there was.
            bounded = threading.current_thread() is not self.thread
            rest = self._submit(requests, all_or_none=bounded and not block, bounded=bounded)
            while rest and self._wait_for_room(rest):
                rest = self._submit(rest, all_or_none=False, bounded=True)
        except BaseException:
            # Its caller gets none of the futures.
            self._writers.discard(call)
            with suppress(Exception):
                self.cancel(requests)
            raise

    def _keep(self, request: Request, reason: str) -> None:
        request.inputs, copied = unchanging(request.inputs)
        self.session.copies.add(reason, copied)

    @step
    def _reserve(self, requests: Sequence[Request], call: object) -> None:
        """Give slots to as many of them, in turn, as there are slots in hand. `call` is about to write into them."""
        self.refuse_closed()
        if self._has_died:
            # These wait for the next one, instead of going with it.
            return
        self._writers.add(call)
        for request in requests:
            if not self.queue.reserve(request):
                break

    @property
    def _has_died(self) -> bool:
        """Whether the scheduler has died since the last request, while the I/O thread had no reason to look."""
        return self.session.lost is None and not self.session.futures and self.driver.access.scheduler_is_gone

    def _submit(self, requests: Sequence[Request], *, all_or_none: bool, bounded: bool) -> Sequence[Request]:
        rest, failed = self._send(requests, all_or_none, bounded)
        self._tell(failed)
        return rest

    @step
    def _send(
        self, requests: Sequence[Request], all_or_none: bool, bounded: bool
    ) -> tuple[Sequence[Request], list[Request]]:
        """Send those that have a slot, and let the others wait; those for which there is no room in the queue, and
        those that have failed."""
        self.refuse_closed()
        now, queue = time.monotonic_ns(), self.queue
        if all_or_none and len([request for request in requests if request.draft is None]) > queue.pending - len(queue):
            raise Overloaded(
                f"{len(queue)} requests of this client wait for a slot, and {queue.pending} may (`pending`): take "
                f"answers first, let `infer` wait (block=True), or connect with a larger `pending`"
            )
        failed: list[Request] = []
        placed = 0
        for request in requests:
            if request.draft is not None:
                if queue.submit(request, now):
                    placed += 1
                    continue
                # Its slot went with its scheduler.
                self._keep(request, WAITING)
            if bounded and not queue.room:
                # Looked at one by one again and again, those behind it would cost a large batch seconds.
                break
            try:
                queue.put(request, now, bounded=False)
            except InvalidRequest as error:
                # The pipeline has been replaced by another one meanwhile.
                request.fail(error)
                failed.append(request)
            placed += 1
        rest = requests[placed:]
        self.driver.flush()
        # If a slot was asked for, for another request, the I/O thread is woken by that one's grant.
        soonest = queue.next_at
        self._ring_if(queue.is_due or (soonest is not None and soonest < self._sleeps_until), now)
        return rest, failed

    def _ring_if(self, needed: bool, now: int) -> None:
        """Wake the I/O thread if it has something to do for a request that waits, or if it would not look after the
        scheduler while this request is under way."""
        if needed or self._sleeps_until > now + ALIVE_CHECK_MS * _MS:
            self.bell.ring()

    def _wait_for_room(self, requests: Sequence[Request]) -> bool:
        """Wait until one more may wait for a slot; False: their deadline is over, and they have failed."""
        gate = self._rooms.add()
        # Of one call, in which they rise.
        deadline = requests[-1].deadline
        limit_s = max(0.0, (deadline - time.monotonic_ns()) / 1e9) if deadline else None
        try:
            # There may be room by now, or the client be closed.
            self._look_for_room()
            if gate.wait(limit_s):
                return True
        finally:
            self._rooms.drop(gate)
        for request in requests:
            request.fail(DeadlineExceeded("its deadline was over before it could wait for a slot: `pending` others do"))
        self._tell(requests)
        return False

    @step
    def _look_for_room(self) -> None:
        self.refuse_closed()
        self.bell.ring()

    @step
    def lend(self, request: Request) -> None:
        """Let a request wait whose slot the caller writes itself."""
        self.refuse_closed()
        self.queue.put(request, time.monotonic_ns(), bounded=False)
        self.bell.ring()

    @step
    def submit_lent(self, request: Request) -> bool:
        """Send a request whose slot was lent; False: the slot went with its scheduler."""
        self.refuse_closed()
        if self._has_died:
            self.queue.give_back(request)
            return False
        now = time.monotonic_ns()
        sent = self.queue.submit(request, now)
        self.driver.flush()
        self._ring_if(False, now)
        return sent

    @step
    def give_back(self, request: Request) -> None:
        """A slot that was lent is not wanted."""
        if self.closed is not None:
            # It comes back when no array is on it any more (`Leases.keep`).
            request.draft = None
            return
        self.queue.give_back(request)
        self.driver.flush()

    @step
    def cancel(self, requests: Iterable[Request]) -> None:
        """These are not wanted any more. Their owner is not told."""
        if self.closed is not None:
            return
        now = time.monotonic_ns()
        for request in requests:
            request.owner = None
            self.queue.give_back(request)
            if not request.done:
                self.queue.cancel(request, now)
        self.driver.flush()

    @step
    def take(self, pending: Pending) -> None:
        """An answer is being read: from here on it is not moved out of its slots."""
        self.session.unread.take(pending)

    # -- waiting for something else -------------------------------------------------------------------

    @step
    def open(self, end: int, *, patient: bool) -> Opening:
        """See `Driver.open`."""
        self.refuse_closed()
        return self.driver.open(end, patient=patient)

    @step
    def inquire(self, end: int) -> Inquiry:
        """See `Driver.inquire`."""
        self.refuse_closed()
        return self.driver.inquire(end)

    @step
    def _forget(self, wait: Opening | Inquiry) -> None:
        self.driver.forget(wait)

    def until_over(self, wait: Opening | Inquiry) -> None:
        """Wait for a connection, or a status.

        Raises:
            PipelineError: why it was in vain.
        """
        self.refuse_waiting()
        try:
            self.wait_until(lambda: wait.done, None)
        finally:
            if os.getpid() == self.process and self.closed is None:
                self._forget(wait)
        wait.raise_error()

    def wait_until(self, condition: Callable[[], bool], limit_s: float | None) -> bool:
        """Wait until this is so after some step, or the client is closed; whether it is."""
        self.refuse_waiting()
        gate = Gate()
        wait = condition, gate
        self._add_wait(wait)
        try:
            gate.wait(limit_s)
        finally:
            with suppress(ValueError):
                self._waits.remove(wait)
        return condition()

    @step
    def _add_wait(self, wait: tuple[Callable[[], bool], Gate]) -> None:
        self.refuse_closed_only()
        self._waits.append(wait)
        self.bell.ring()


#: Later than every time.
_NEVER = 1 << 63

_living: weakref.WeakSet[IOThread] = weakref.WeakSet()


def _listen(run_dir: Path, address: Address) -> Inbox:
    return listen(run_dir, address, link=link_of(run_dir))


def _run(io: IOThread) -> None:
    try:
        while io.turn():
            pass
    except BaseException as error:
        io.fail(error)
        raise


def _close_all() -> None:
    """The interpreter ends: nothing waits for it, and the scheduler is told."""
    for io in tuple(_living):
        io.close()


atexit.register(_close_all)
