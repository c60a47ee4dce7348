"""Exchange: moves messages between a session and the sockets of its client, and waits in the caller's thread.

It decides nothing of the protocol. What it adds is time: how long a call may take, how often the scheduler's lock is
looked at, and when to look for a pipeline that is not there yet.
"""

from __future__ import annotations

import time
from contextlib import suppress

from pipeline.client.access import Access, join
from pipeline.client.connection import Connection
from pipeline.client.session import Session
from pipeline.client.slots import Ask, Grant
from pipeline.errors import NotInTime, PipelineError, Unavailable
from pipeline.wire.status import PipelineStatus

__all__ = ["Exchange"]

#: While nothing comes, the scheduler's lock is looked at this often: its death is seen within this time.
_ALIVE_CHECK_MS = 50

#: How long to wait for a dead scheduler's last messages.
_LAST_WORDS_MS = 40

#: How often a pipeline is looked for that is not there yet.
_LOOK_S = 0.05

#: The longest wait of one step, in which nothing is due.
_STEP_S = 1.0


class Exchange:
    """A session of the caller's thread.

    Args:
        access: the way into the run.
        session: not attached yet.
    """

    def __init__(self, access: Access, session: Session) -> None:
        self.access = access
        self.session = session
        self._looked_at = 0.0

    @property
    def there(self) -> Connection:
        """The place in the run's folder."""
        assert self.access.connection is not None
        return self.access.connection

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
                self._attach()
                self._await_welcome(end)
                return
            except Unavailable:
                over = access.is_over
                if over:
                    self._detach()
                left = end - time.monotonic()
                if left <= 0 or not patient or (over and access.by_path) or self.session.other_version:
                    raise
            time.sleep(min(_LOOK_S, left))

    def _attach(self) -> None:
        if self.access.connection is None:
            self.access.attach()
        if self.session.leases is not self.access.connection:
            self.session.attached(self.there)

    def _detach(self) -> None:
        self.session.detached()
        self.access.detach(known=False)

    def _await_welcome(self, end: float) -> None:
        while self.session.lost is not None:
            left = end - time.monotonic()
            if left <= 0:
                why = f": {self.session.refusal}" if self.session.refusal else ""
                where = self.there.run_dir
                raise Unavailable(f"the pipeline in {where} is not ready{why}; waited until the time was over")
            self._say_hello(min(_ALIVE_CHECK_MS, int(left * 1000) + 1))

    def _say_hello(self, wait_ms: int) -> None:
        """Ask to be let in, and take in a welcome that has come."""
        self._wake()
        self._receive(wait_ms)
        if self.session.other_version:
            raise Unavailable(f"the pipeline in {self.there.run_dir}: {self.session.other_version}")
        if self.session.lost is not None and self.access.is_over:
            raise Unavailable(f"the pipeline in {self.there.run_dir} has stopped")

    def _join(self) -> None:
        """Attach the segments that the welcome names."""
        session = self.session
        assert session.welcome is not None
        if (joined := join(session.welcome)) is None:
            session.refuse()
        else:
            session.join(*joined)
            self.access.watch_scheduler()

    def be_connected(self) -> None:
        """Make sure that there is a connection.

        Raises:
            Unavailable: there is none; it is asked for, and may be there at the next call.
        """
        session = self.session
        if session.lost is None:
            return
        # The scheduler may be back by now, or the pipeline of that name: then a caller that tries again succeeds.
        if self.access.is_over and not self.access.by_path:
            self._detach()
        self._attach()
        self._say_hello(0)
        if session.lost is not None:
            raise session.lost

    def notice(self) -> None:
        """See whether the scheduler is still there, without waiting."""
        session = self.session
        with suppress(Unavailable):
            if session.lost is None:
                self._receive(0)
        if session.lost is None and self.access.scheduler_is_gone:
            session.scheduler_gone(time.monotonic_ns())

    def leave(self) -> None:
        """Leave: what is under way is dropped, and what is held comes back."""
        self.session.close(time.monotonic_ns())
        self.access.detach(known=self.session.lost is None)

    def mend(self) -> None:
        """A call was interrupted, at any point of it."""
        self.session.mend()
        self.send()

    # -- moving messages ------------------------------------------------------------------------

    def send(self) -> None:
        """Send what the session has to say."""
        if self.session.has_to_send:
            self.there.carry(self.session)

    def _wake(self) -> None:
        if self.session.wake(time.monotonic_ns()):
            self.access.renew()
        self.send()

    def _receive(self, wait_ms: int) -> int:
        """Take in the messages that are here, or come within `wait_ms`; how many answers, and -1 if no message came."""
        session = self.session
        connected, before = session.lost is None, session.came
        messages = self.access.inbox.receive(wait_ms)
        if messages:
            now = time.monotonic_ns()
            for message in messages:
                session.receive(message, now)
                if session.welcome is not None:
                    self._join()
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
            step = min(_ALIVE_CHECK_MS, int((timeout_s - waited) * 1000) + 1) if timeout_s > waited else 0
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
        if now - self._looked_at < _ALIVE_CHECK_MS / 1000:
            return 0
        self._looked_at = now
        if self.access.scheduler_is_gone:
            # What it sent before it ended, for example at the end of a drain, may still be on its way.
            if (answers := self._receive(_LAST_WORDS_MS)) > 0:
                self._looked_at = 0.0
                return answers
            self.session.scheduler_gone(time.monotonic_ns())
            assert self.session.lost is not None
            raise self.session.lost
        self._wake()
        return 0

    def flush(self) -> None:
        """Send what was kept back: submissions, and slots that are not needed any more."""
        self.session.flush()
        self.send()

    def cancel(self, tag: int) -> None:
        """Tell the scheduler that a request is not wanted any more."""
        self.session.cancel(tag)
        self.send()

    # -- waiting --------------------------------------------------------------------------------

    def slot(self, nbytes: int, timeout_s: float | None) -> Grant:
        """A slot that holds this many bytes; waits for one, at most `timeout_s` seconds.

        Raises:
            InvalidRequest: no slot is large enough.
            NotInTime: none became free in time.
            Overloaded: none will: this client itself keeps too many results, and waits for nothing else.
            Unavailable: the pipeline has stopped or died.
        """
        session = self.session
        segment = session.slots.segment_for(nbytes)
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

    def slot_now(self, nbytes: int) -> Grant | None:
        """As `slot`, but None if no slot is free now.

        Raises:
            InvalidRequest: no slot is large enough.
            Unavailable: the pipeline has stopped or died.
        """
        session = self.session
        segment = session.slots.segment_for(nbytes)
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
                raise NotInTime(f"the scheduler did not answer within {timeout_s} s")
            self.pump(left)
        return session.statuses.pop()
