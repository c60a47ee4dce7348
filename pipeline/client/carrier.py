"""Carrier: moves messages between a session and the sockets of its client, and never waits.

It decides nothing of the protocol. The code that waits is over it: `pipeline.client.exchange` in the caller's thread,
and `pipeline.client.driver` for an I/O thread or an event loop.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.client.access import Access, join
from pipeline.client.connection import Connection
from pipeline.client.future import Pending
from pipeline.client.session import Session
from pipeline.errors import Unavailable, WireError
from pipeline.wire.messages import Message

__all__ = ["ALIVE_CHECK_MS", "LAST_WORDS_MS", "LOOK_MS", "Carrier"]

#: While nothing comes, the scheduler's lock is looked at this often: its death is seen within this time.
ALIVE_CHECK_MS = 50

#: How long to wait for a dead scheduler's last messages.
LAST_WORDS_MS = 40

#: How often a pipeline is looked for that is not there yet.
LOOK_MS = 50


class Carrier:
    """A session and its place in the folder of a run. `now` is monotonic nanoseconds in every call.

    Args:
        access: the way into the run.
        session: not attached yet.
    """

    def __init__(self, access: Access, session: Session) -> None:
        self.access = access
        self.session = session

    @property
    def there(self) -> Connection:
        """The place in the run's folder."""
        assert self.access.connection is not None
        return self.access.connection

    # -- coming and going -----------------------------------------------------------------------

    def attach(self) -> None:
        """Have a place in the folder of the run; does nothing if there is one already.

        Raises:
            Unavailable: it does not run.
        """
        if self.session.moving:
            # The scheduler has let go of this client.
            self.detach()
        if self.access.connection is None:
            self.access.attach()
        if self.session.leases is not self.access.connection:
            self.session.attached(self.there)

    def detach(self) -> None:
        """Give up the place. Results that are still read keep their slots if the scheduler lives."""
        # In this order: it may be interrupted, and is begun again then.
        self.access.detach(known=self.session.moving)
        self.session.detached()

    def check(self) -> None:
        """See whether the client can still be let in where it has its place.

        Raises:
            Unavailable: it never will be: its scheduler is of another version, or the run has stopped.
        """
        if self.session.other_version:
            raise Unavailable(f"the pipeline in {self.there.run_dir}: {self.session.other_version}")
        if self.session.lost is not None and self.access.is_over:
            raise Unavailable(f"the pipeline in {self.there.run_dir} has stopped")

    def not_ready(self) -> Unavailable:
        """Why the client was not let in within the time that there was."""
        why = f": {self.session.refusal}" if self.session.refusal else ""
        return Unavailable(
            f"the pipeline in {self.there.run_dir} is not ready{why}; waited until the time was over"
        )

    def leave(self, now: int) -> None:
        """Leave: what is under way is dropped, and what is held comes back."""
        self.session.close(now)
        self.access.detach(known=self.session.lost is None or self.session.moving)

    # -- to another run ---------------------------------------------------------------------------

    @property
    def replaced(self) -> bool:
        """Whether another run has taken over, and this client has not left for it yet."""
        return bool(self.session.successor) and self.access.follows

    def depart(self) -> None:
        """Leave for the run that has taken over; `attach` finds it. What is under way here has been answered."""
        session = self.session
        # From here on every call finds the connection lost. If this is interrupted, it is begun again.
        session.move()
        successor = session.successor
        self.access.move(successor, known=session.moving)
        session.detached()
        # Last: until then it is begun again.
        session.successor = ""

    def mend(self) -> None:
        """A call was interrupted, at any point of it."""
        self.session.mend()
        self.send()

    # -- moving messages ------------------------------------------------------------------------

    def send(self) -> None:
        """Send what the session has to say."""
        if self.session.has_to_send:
            self.there.carry(self.session)

    def flush(self) -> None:
        """Send what was kept back: submissions, and slots that are not needed any more."""
        self.session.flush()
        self.send()

    def wake(self, now: int) -> None:
        """Have the session do what is due."""
        if self.session.wake(now):
            self.access.renew()
        self.send()

    def receive(self, timeout_ms: int = 0) -> list[Message | WireError]:
        """The messages that are here, or come within `timeout_ms`. What was held back on its way to the scheduler goes
        on, if it can."""
        inbox = self.access.inbox
        messages = inbox.receive(timeout_ms)
        if inbox.resumable():
            self.there.proceed()
        return messages

    def take(self, messages: Iterable[object], now: int) -> list[Pending]:
        """Take in messages that have come; the requests that they finish.

        Raises:
            Unavailable: the client was let in, but the pipeline's memory cannot be attached.
        """
        session = self.session
        finished = []
        for message in messages:
            finished += session.receive(message, now)
            if session.welcome is not None:
                self._join()
        return finished

    def _join(self) -> None:
        """Attach the segments that the welcome names."""
        session = self.session
        assert session.welcome is not None
        if (joined := join(session.welcome)) is None:
            session.refuse()
        else:
            session.join(*joined)
            self.access.watch_scheduler()

    def cancel(self, tag: int) -> None:
        """Tell the scheduler that a request is not wanted any more."""
        self.session.cancel(tag)
        self.send()
