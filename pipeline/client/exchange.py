"""Exchange: a session of the caller's thread: it moves the session's messages, and waits.

It decides nothing of the protocol. What it adds is time: how long a call may take, how often the scheduler's lock is
looked at, and when to look for a pipeline that is not there yet.
"""

from __future__ import annotations

import time
from contextlib import suppress

from pipeline.client.access import Access
from pipeline.client.ask import Ask
from pipeline.client.carrier import ALIVE_CHECK_MS, LAST_WORDS_MS, LOOK_MS, Carrier
from pipeline.client.inputs import Layout
from pipeline.client.limits import NO_STATUS
from pipeline.client.session import Session
from pipeline.client.slots import Grant
from pipeline.errors import NotInTime, PipelineError, Unavailable
from pipeline.wire.codec import Sent
from pipeline.wire.status import PipelineStatus

__all__ = ["Exchange"]

#: How long it may take to be let in by the run that has taken over. It is ready; unless it has died since.
_MOVE_S = 30.0

#: The longest wait of one step, in which nothing is due.
_STEP_S = 1.0


class Exchange(Carrier):
    """A session of the caller's thread.

    Args:
        access: the way into the run.
        session: not attached yet.
    """

    def __init__(self, access: Access, session: Session) -> None:
        super().__init__(access, session)
        self._looked_at = 0.0

    # -- coming and going -----------------------------------------------------------------------

    def open(self, end: float, patient: bool) -> None:
        """Find the run and be let in.

        Args:
            end: when to give up: monotonic seconds.
            patient: whether to wait even if there is no such run.
        """
        access = self.access
        while True:
            try:
                self.attach()
                self._await_welcome(end)
                return
            except Unavailable:
                final = access.is_final or not (patient or access.is_replaced or access.is_coming)
                if access.is_over:
                    self.detach()
                left = end - time.monotonic()
                if left <= 0 or final or self.session.other_version:
                    raise
            time.sleep(min(LOOK_MS / 1000, left))

    def _await_welcome(self, end: float) -> None:
        while self.session.lost is not None:
            left = end - time.monotonic()
            if left <= 0:
                raise self.not_ready()
            self._say_hello(min(ALIVE_CHECK_MS, int(left * 1000) + 1))

    def _say_hello(self, wait_ms: int) -> None:
        """Ask to be let in, and take in a welcome that has come."""
        self._wake()
        self._receive(wait_ms)
        self.check()

    def be_connected(self, timeout_s: float | None = None) -> None:
        """Make sure that there is a connection, for another request: if the run was replaced, to the one that has taken
        over, once this client's requests are answered.

        Args:
            timeout_s: how long those may take.

        Raises:
            NotInTime: they are not answered in time.
            Unavailable: there is none; it is asked for, and may be there at the next call.
        """
        session = self.session
        if session.lost is None:
            self.look()
            if self.replaced:
                self._follow(timeout_s)
        elif self.replaced:
            self._go()
        if session.lost is None:
            return
        # The scheduler may be back by now, or the pipeline of that name: then a caller that tries again succeeds.
        if self.access.is_over and not self.access.is_final:
            self.detach()
        self.attach()
        self._say_hello(0)
        if session.lost is not None:
            raise session.lost

    # -- to another run -------------------------------------------------------------------------

    def look(self) -> None:
        """Take in what has come while the client made no call, and waits for nothing."""
        session = self.session
        if session.lost is None and not session.futures:
            with suppress(Unavailable):
                self._receive(0)

    def move(self) -> None:
        """Go to the run that has taken over, if nothing keeps the client where it is."""
        if self.replaced and (self.session.lost is not None or self.session.may_move):
            self._go()

    def _follow(self, timeout_s: float | None) -> None:
        """Take in the answers that are still to come, then go. A client that fills a slot stays: that is good only
        here, and the run waits for it."""
        session = self.session
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while session.futures and session.lost is None and not session.slots.in_use:
            left = _STEP_S if end is None else end - time.monotonic()
            if left <= 0:
                raise NotInTime(
                    f"the pipeline was replaced by a new version, and {len(session.futures)} earlier requests of this "
                    f"client were not answered within {timeout_s} s"
                )
            with suppress(Unavailable):
                self.pump(left)
        self.move()

    def _go(self) -> None:
        self.depart()
        self.open(time.monotonic() + _MOVE_S, True)

    def notice(self) -> None:
        """See whether the scheduler is still there, without waiting."""
        session = self.session
        with suppress(Unavailable):
            if session.lost is None:
                self._receive(0)
        if session.lost is None and self.access.scheduler_is_gone:
            session.scheduler_gone(time.monotonic_ns(), stopped=self.access.is_stopped)

    # -- moving messages ------------------------------------------------------------------------

    def _wake(self) -> None:
        self.wake(time.monotonic_ns())

    def _receive(self, wait_ms: int) -> int:
        """Take in the messages that are here, or come within `wait_ms`; how many answers, and -1 if no message came."""
        session = self.session
        connected, before = session.lost is None, session.came
        messages = self.receive(wait_ms)
        if messages:
            self.take(messages, time.monotonic_ns())
            self.send()
        answers = session.came - before if messages else -1
        if session.lost is not None and connected and answers <= 0:
            raise session.lost
        # Otherwise what has come is looked at first; the next call says that the connection was lost.
        return answers

    def pump(self, timeout_s: float) -> int:
        """Take in what has come, waiting up to `timeout_s` seconds for something; how many answers came.

        Raises:
            Unavailable: the pipeline has died; every request under way has failed with the same.
        """
        session = self.session
        if session.lost is not None:
            raise session.lost
        session.flush()
        self.send()
        waited = 0.0
        while True:
            step = min(ALIVE_CHECK_MS, int((timeout_s - waited) * 1000) + 1) if timeout_s > waited else 0
            if (answers := self._receive(step)) >= 0:
                return answers
            waited += step / 1000
            answers = self._look_after_scheduler()
            if answers or waited >= timeout_s:
                return answers

    def _look_after_scheduler(self) -> int:
        """No message comes: see whether a scheduler is there that knows this client; how many answers came
        meanwhile."""
        now = time.monotonic()
        if now - self._looked_at < ALIVE_CHECK_MS / 1000:
            return 0
        self._looked_at = now
        if self.access.scheduler_is_gone:
            # What it sent before it ended, for example at the end of a drain, may still be on its way.
            if (answers := self._receive(LAST_WORDS_MS)) > 0:
                self._looked_at = 0.0
                return answers
            self.session.scheduler_gone(time.monotonic_ns(), stopped=self.access.is_stopped)
            assert self.session.lost is not None
            raise self.session.lost
        self._wake()
        return 0

    # -- waiting --------------------------------------------------------------------------------

    def slot(self, layout: Layout, timeout_s: float | None) -> Grant:
        """A slot for such a request; waits for one, at most `timeout_s` seconds.

        Raises:
            InvalidRequest: no slot is large enough.
            NotInTime: none became free in time.
            Overloaded: none will: this client itself keeps too many results, and waits for nothing else.
            Unavailable: the pipeline has stopped or died.
        """
        session = self.session
        segment = session.slots.segment_for(layout.nbytes, layout.rows)
        if (grant := session.grant(segment)) is not None:
            return grant
        try:
            now = time.monotonic_ns()
            end = None if timeout_s is None else now + int(timeout_s * 1e9)
            ask = session.ask(segment, now, end)
            self._until_over(ask)
            if (grant := ask.take()) is None:
                raise NotInTime(f"no slot became free within {timeout_s} s; the pipeline is full")
            return grant
        except PipelineError:
            raise
        except BaseException:
            with suppress(Exception):
                self._until_over(session.give_up(segment, time.monotonic_ns()))
            raise

    def slot_now(self, layout: Layout) -> Grant | None:
        """As `slot`, but None if no slot is free now.

        Raises:
            InvalidRequest: no slot is large enough.
            Unavailable: the pipeline has stopped or died.
        """
        session = self.session
        segment = session.slots.segment_for(layout.nbytes, layout.rows)
        if (grant := session.grant(segment)) is not None:
            return grant
        ask = session.ask_now(segment, time.monotonic_ns())
        if ask is None:
            return None
        self._until_over(ask)
        return ask.take()

    def _until_over(self, ask: Ask) -> None:
        session = self.session
        self.send()
        while not ask.done:
            next_at = session.next_at
            left = _STEP_S if next_at is None else (next_at - time.monotonic_ns()) / 1e9
            self.pump(min(max(left, 0.0), _STEP_S))
            if not ask.done:
                self._wake()

    def tell(self, message: Sent) -> None:
        """Send the scheduler something, behind the requests that were kept back."""
        self.session.flush()
        self.session.tell(message)
        self.send()

    def status(self, timeout_s: float) -> PipelineStatus:
        """The scheduler's status.

        Raises:
            NotInTime: it does not answer.
            Unavailable: the pipeline has died.
        """
        session = self.session
        if session.lost is not None:
            raise session.lost
        session.ask_status()
        self.send()
        end = time.monotonic() + timeout_s
        while not session.statuses:
            if (left := end - time.monotonic()) <= 0:
                raise NotInTime(f"the scheduler did not answer within {timeout_s:g} s: {NO_STATUS}")
            self.pump(left)
        return session.statuses.pop()
