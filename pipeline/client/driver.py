"""Driver: a client's session and queue for a shell that waits by other means: an I/O thread, or an event loop.

The driver never waits, and knows neither threads nor loops. The shell does this:

    queue.put(request, now)          a caller's request; then `step` soon, once for all that were put meanwhile
    driver.step(now)           ──▶   the requests that are finished: answered, or failed for good
    wait until `driver.descriptor` has input, or it is `driver.next_at`, or a caller has put something; and again

`descriptor` and `next_at` may be others after each step. `descriptor` is None while there is no place in any run;
before it is closed, `unwatch` is called with it, so that the shell stops to wait on it. It tells of a change only once:
after input there, call `step` until `next_at` is in the future (`next_at` is the time of the last step while messages
are left). While nothing is wanted (no request waits or is under way, no caller waits for the connection or the status),
`next_at` is None: an idle client does nothing.

                 wanted                        Welcome
    no place ──▶ looks for the run, hello ──▶ connected ──▶ the scheduler's lock is free, or Gone
        ▲           │  every 50 ms                              │
        └───────────┘ ◀─────────────────────────────────────────┘ what was under way fails; what waits goes on waiting

If the run is replaced by a new version (`pipeline reload`), what is under way is answered there, and requests wait in
the queue meanwhile: they are sent to the new version.

While there is no connection, requests wait in the queue, each at most `patience_s`, and then fail with `Unavailable`;
at once if no connection can come, since that run has stopped for good or is of another version. So after a restart of
the scheduler, or of the pipeline (if it was named, and not given by its path), the next request goes through by itself.

A step that was interrupted, at any point of it, is put in order by the next one.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.client.access import Access
from pipeline.client.ask import raise_error_of
from pipeline.client.carrier import ALIVE_CHECK_MS, LAST_WORDS_MS, LOOK_MS, Carrier
from pipeline.client.limits import NO_STATUS
from pipeline.client.queue import Queue
from pipeline.client.request import Request
from pipeline.client.session import Session
from pipeline.errors import NotInTime, PipelineError, StartError, Unavailable
from pipeline.wire.status import PipelineStatus

__all__ = ["PATIENCE_S", "Driver", "Inquiry", "Opening"]

PATIENCE_S = 5.0
"""How long requests wait for a pipeline that is not there."""

_MS = 1_000_000


class _Wait:
    """A caller that waits for something other than an answer, until `done`.

    Args:
        end: when it stops to wait, in monotonic nanoseconds.
    """

    __slots__ = ("done", "end", "error")

    def __init__(self, end: int) -> None:
        self.end = end
        self.done = False
        #: Why it has waited in vain.
        self.error: PipelineError | None = None

    def fail(self, error: PipelineError) -> None:
        """It has waited in vain."""
        self.error, self.done = error, True

    def raise_error(self) -> None:
        """Raise why it has waited in vain, if it did."""
        raise_error_of(self)


class Opening(_Wait):
    """Waits for the connection.

    Args:
        end: as of all waits.
        patient: whether to wait even if there is no such run.
        current: whether to wait even if there is a connection, as long as it is to a run that has been replaced, or has
            ended.
    """

    __slots__ = ("current", "patient")

    def __init__(self, end: int, patient: bool, current: bool = False) -> None:
        super().__init__(end)
        self.patient = patient
        self.current = current


class Inquiry(_Wait):
    """Waits for the scheduler's status."""

    __slots__ = ("sent", "status")

    def __init__(self, end: int) -> None:
        super().__init__(end)
        #: Whether the scheduler has been asked.
        self.sent = False
        self.status: PipelineStatus | None = None


class Driver(Carrier):
    """A session and its queue. `now` is monotonic nanoseconds in every call, and all calls are of one thread at a time.

    Args:
        access: the way into the run.
        session: not attached yet.
        queue: of that session.
        patience_s: seconds that a request waits for a pipeline that is not there.
        unwatch: called with a descriptor that is about to be closed.
    """

    def __init__(
        self,
        access: Access,
        session: Session,
        queue: Queue,
        patience_s: float = PATIENCE_S,
        unwatch: Callable[[int], None] = lambda descriptor: None,
    ) -> None:
        super().__init__(access, session)
        self.queue = queue
        self._patience_ns = round(patience_s * 1e9)
        self._unwatch = unwatch
        self._openings: list[Opening] = []
        self._inquiries: list[Inquiry] = []
        #: Whether a step is under way, or has not come to its end.
        self._torn = False
        #: The requests that the step under way has found to be finished: kept here, should it be interrupted.
        self._finished: list[Request] = []
        #: Whether messages were left when the last step ended.
        self._more = False
        self._now = 0
        #: Since when there is no connection.
        self._lost_at = 0
        #: Why there is none, if the last try has said it.
        self._why: Unavailable | None = None
        #: When to look next for the run, or after the scheduler's lock; 0: as soon as something is wanted.
        self._look_at = 0
        #: Until when the run that has taken over is looked for, though nothing else is wanted.
        self._moves_until = 0
        #: When a dead scheduler's last messages have had the time to come; 0: it lives.
        self._last_words_at = 0

    # -- what the shell waits for ---------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether a scheduler has let the client in."""
        return self.session.lost is None

    @property
    def descriptor(self) -> int | None:
        """What to wait on for messages; None: there is nothing to wait on."""
        return self.access.inbox.descriptor if self.access.listens else None

    @property
    def next_at(self) -> int | None:
        """When `step` has something to do though nothing has come, in monotonic nanoseconds; None: never."""
        if self._more or self._torn:
            return self._now
        times = [wait.end for wait in (*self._openings, *self._inquiries)]
        if (queue_at := self.queue.next_at) is not None:
            times.append(queue_at)
        if self._wanted:
            times.append(self._look_at)
            if self.connected and (session_at := self.session.next_at) is not None:
                times.append(session_at)
            if self._last_words_at:
                times.append(self._last_words_at)
        return min(times, default=None)

    @property
    def _wanted(self) -> bool:
        """Whether a connection is: for requests, or for callers that wait."""
        waited_for = self.session.futures or len(self.queue) or self._openings or self._inquiries
        return bool(waited_for) or self._now < self._moves_until

    # -- what callers wait for, beside answers --------------------------------------------------

    def open(self, end: int, *, patient: bool, current: bool = False) -> Opening:
        """Have a connection; what is returned is `done` after the `step` that has one, or an error.

        Args:
            end: when to give up.
            patient: whether to wait even if there is no such run.
            current: see `Opening`.
        """
        opening = Opening(end, patient, current)
        self._openings.append(opening)
        return opening

    def moves(self, now: int) -> bool:
        """Whether the client is about to be connected to a new version: the run has been replaced, and nothing is under
        way there any more. The folder of the run says so before the scheduler's message has come."""
        if not self.connected:
            return now < self._moves_until
        if not self.access.is_replaced:
            return False
        return not self.session.futures or self.access.scheduler_is_gone

    def inquire(self, end: int) -> Inquiry:
        """Ask for the scheduler's status; what is returned is `done` after the `step` that has it, or an error."""
        inquiry = Inquiry(end)
        self._inquiries.append(inquiry)
        return inquiry

    def forget(self, wait: Opening | Inquiry) -> None:
        """A caller does not wait any more. A second call does nothing."""
        if isinstance(wait, Opening) and wait in self._openings:
            self._openings.remove(wait)
        elif isinstance(wait, Inquiry) and wait in self._inquiries:
            self._inquiries.remove(wait)

    # -- the step -------------------------------------------------------------------------------

    def step(self, now: int) -> list[Request]:
        """Do everything that is due; the requests that are finished."""
        there = self.access.connection
        if there is None:
            return self._step(now)
        # What is given back within it goes with its messages.
        there.about_to_send = True
        try:
            return self._step(now)
        finally:
            there.about_to_send = False
            # What another thread has given back since they went.
            there.settle_idle()

    def _step(self, now: int) -> list[Request]:
        if self._torn:
            self.mend()
            self.queue.mend()
        self._torn = True
        self._now = now
        wanted = self._wanted
        if wanted and self.connected:
            self._finished += self._look_after_scheduler(now)
        self._finished += self._receive(now)
        if self.replaced and (self.session.may_move or not self.connected):
            self._depart(now)
        if self._wanted and not self.connected:
            self._finished += self._approach(now)
        self._finished += self.queue.go_on(now, "" if self.connected else str(self._reason()))
        if self.connected and (session_at := self.session.next_at) is not None and session_at <= now:
            self.wake(now)
            self._finished += self.queue.go_on(now)
        self._end_waits(now)
        self._inquire()
        self.flush()
        if not self._wanted:
            # Looked at anew with the next request: much may have happened until then.
            self._look_at = 0
        finished, self._finished = self._finished, []
        self._torn = False
        return finished

    def leave(self, now: int) -> list[Request]:  # type: ignore[override]
        """Leave: what waits and what is under way fails; what is held comes back. The requests that have failed."""
        if (descriptor := self.descriptor) is not None:
            self._unwatch(descriptor)
        super().leave(now)
        error = Unavailable("this client was closed before the request was answered")
        for wait in (*self._openings, *self._inquiries):
            wait.fail(error)
        self._openings.clear()
        self._inquiries.clear()
        return self.queue.fail(error, now)

    def _receive(self, now: int) -> list[Request]:
        """Take in what has come."""
        self._more = False
        if not self.access.listens or not (messages := self.receive()):
            return []
        self._more = self.access.inbox.waiting
        was_connected = self.connected
        if self._last_words_at:
            self._last_words_at = now + LAST_WORDS_MS * _MS
        try:
            pendings = self.take(messages, now)
        except Unavailable as error:
            # It says hello again after a while, and not at once.
            self.session.welcome = None
            self._in_vain(error)
            return []
        if was_connected and not self.connected:
            self._lose(now)
        return self.queue.finished(pendings, now)

    def _look_after_scheduler(self, now: int) -> list[Request]:
        """See whether the scheduler is there that knows this client."""
        due = self._last_words_at and now >= self._last_words_at
        if not due and now < self._look_at:
            return []
        first, self._look_at = not self._look_at, now + ALIVE_CHECK_MS * _MS
        if self.access.scheduler_is_gone:
            if not due and self.session.futures:
                # What it sent before it ended, for example at the end of a drain, may still be on its way.
                self._last_words_at = self._last_words_at or now + LAST_WORDS_MS * _MS
                return []
            pendings = self.session.scheduler_gone(now, stopped=self.access.is_stopped)
            self._lose(now)
            return self.queue.finished(pendings, now)
        self._last_words_at = 0
        if not first:
            self.wake(now)
        return []

    def _lose(self, now: int) -> None:
        if self.access.is_replaced:
            # Without its scheduler's word, it is about to be connected to the new version all the same.
            self._moves_until = now + self._patience_ns
        self._lost_at = now
        self._look_at = self._last_words_at = 0

    # -- while there is no connection -----------------------------------------------------------

    def _approach(self, now: int) -> list[Request]:
        """Find the run and be let in, one step of it at a time."""
        if now < self._look_at:
            return []
        self._look_at = now + LOOK_MS * _MS
        try:
            self._come_nearer(now)
        except (Unavailable, StartError) as error:
            # It may be there later, unless no other run is meant than one that has stopped. Another object, since this
            # one refers to the frames that it passed, and they to this driver.
            session, why = self.session, Unavailable(str(error))
            hopeless = bool(session.other_version) or self.access.is_final
            self._in_vain(why, hopeless)
            if hopeless:
                if session.other_version:
                    # The next request looks for a run that is of this version.
                    self._give_up_place()
                return self.queue.fail_waiting(why, now)
        if now < self._lost_at + self._patience_ns:
            return []
        return self.queue.fail_waiting(self._reason(), now, now - self._patience_ns)

    def _come_nearer(self, now: int) -> None:
        """
        Raises:
            Unavailable: there is no run now, or none that will let the client in.
            StartError: its folder takes no socket.
        """
        if self.session.moving or (self.access.is_over and not self.access.is_final):
            self._give_up_place()
        self.attach()
        self.wake(now)
        self.check()

    def _depart(self, now: int) -> None:
        """Leave for the run that has taken over. It is looked for at once: the next request finds a connection."""
        if (descriptor := self.descriptor) is not None:
            self._unwatch(descriptor)
        self.depart()
        self._lose(now)
        self._moves_until = now + self._patience_ns

    def _give_up_place(self) -> None:
        if (descriptor := self.descriptor) is not None:
            self._unwatch(descriptor)
        self.detach()

    def _has_reached(self, opening: Opening) -> bool:
        return self.connected and not (opening.current and self.access.is_over)

    def _in_vain(self, error: Unavailable, hopeless: bool = False) -> None:
        self._why = Unavailable(str(error))
        for opening in self._openings:
            if hopeless or not (opening.patient or self.access.is_coming):
                # Each its own, since it is raised.
                opening.fail(Unavailable(str(error)))

    def _reason(self) -> Unavailable:
        """Why there is no connection."""
        if self.access.connection is not None and not self.access.is_over:
            return self.not_ready()
        return Unavailable("no pipeline was found in time" if self._why is None else str(self._why))

    # -- callers that wait ----------------------------------------------------------------------

    def _inquire(self) -> None:
        if self.connected and any(not inquiry.sent for inquiry in self._inquiries):
            self.session.ask_status()
            for inquiry in self._inquiries:
                inquiry.sent = True

    def _end_waits(self, now: int) -> None:
        """End the waits that are over."""
        session = self.session
        if self.connected:
            self._lost_at, self._moves_until, self._why = 0, 0, None
        status = session.statuses[-1] if session.statuses else None
        for inquiry in self._inquiries:
            if status is not None and inquiry.sent:
                inquiry.status, inquiry.done = status, True
            elif not self.connected and inquiry.sent:
                # It went with the scheduler that was asked: the next one is asked, if it comes in time.
                inquiry.sent = False
            if not inquiry.done and now >= inquiry.end:
                late = NotInTime(f"the scheduler did not answer within the time that was given: {NO_STATUS}")
                inquiry.fail(late if self.connected else self._reason())
        for opening in self._openings:
            if self._has_reached(opening):
                opening.done = True
            elif not opening.done and now >= opening.end:
                opening.fail(self._reason())
        self._inquiries = [inquiry for inquiry in self._inquiries if not inquiry.done]
        self._openings = [opening for opening in self._openings if not opening.done]
