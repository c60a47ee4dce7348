"""Connection: a client's place in a run, and what outlives the client: its lock, its way to the scheduler, its leases.

The last array of a result may be dropped in any thread, and in the middle of a call of the client's. So what is sent is
sent under a mutex, and a thread that has it already reports the lease when it lets go.

If the client is closed and arrays of its process live on, so does the connection, without an inbox, until the last of
them is gone.
"""

from __future__ import annotations

import _thread
import os
import sys
import threading
import weakref
from pathlib import Path

from pipeline.client.leases import Leases
from pipeline.client.session import Session
from pipeline.errors import ClientMisuse
from pipeline.wire.address import SCHEDULER
from pipeline.wire.links import Inbox, connect
from pipeline.wire.messages import Bye
from pipeline.wire.run_dir import lock_path
from shm.owner import Dead, OwnerLock, probe

__all__ = ["Connection"]

#: How long a goodbye may take to leave this process.
_GOODBYE_MS = 200


class Connection(Leases):
    """One client's lock, way to the scheduler, and leases.

    Args:
        run_dir: of the run.
        number: the client's.
        lock: held; it says that this process may still touch the client's slots.
        inbox: the client's.
    """

    def __init__(self, run_dir: Path, number: int, lock: OwnerLock, inbox: Inbox | None = None) -> None:
        super().__init__(number)
        self.run_dir = run_dir
        #: Whether it belongs to another process: the child of a fork owns nothing of its parent's.
        self.forked = False
        #: A message is about to go that tells of all leases that end until then: they need no message of their own.
        self.about_to_send = False
        self._lock = lock
        self._scheduler = connect(run_dir, SCHEDULER, inbox)
        self._mutex = threading.Lock()
        #: The thread that has the mutex.
        self._holder = 0
        self._left = False
        self._ended = False
        _connections.add(self)

    def renew_lock(self) -> None:
        """Make the lock's file anew if it was removed. Raises as `OwnerLock.renew`."""
        self._lock.renew()

    # -- what is sent -------------------------------------------------------------------------------
    #
    # The mutex is taken by a plain `with`, and by no context manager of ours: a signal's handler that raises at the
    # entry of that one's `__exit__` would leave it locked.

    def carry(self, session: Session) -> None:
        """Send what a session has to say."""
        self._refuse_nested()
        with self._mutex:
            self._holder = threading.get_ident()
            for message in session.to_send():
                self._scheduler.send(message)
                session.sent(message)
            self._holder = 0
        # Leases that ended in the middle of it.
        self.settle_idle()

    def proceed(self) -> None:
        """Go on with what was held back on its way to the scheduler."""
        self._refuse_nested()
        with self._mutex:
            self._holder = threading.get_ident()
            self._scheduler.proceed()
            self._holder = 0
        self.settle_idle()

    def settle(self) -> None:
        """Report the leases that are gone, if there are any; after the last one of a client that has left, end."""
        while self.dropped and not self._ended:
            self._report()
        if self._left and self.empty:
            self._end()

    def settle_idle(self) -> None:
        """As `Leases.settle_idle`."""
        # In this order: nearly always something is under way.
        if (self.idle or self._left) and self._reports_at_once:
            self.settle()

    @property
    def _reports_at_once(self) -> bool:
        return self._left or (self.idle and not self.about_to_send and not self.in_no_hurry)

    def _report(self) -> None:
        self._refuse_nested()
        with self._mutex:
            self._holder = threading.get_ident()
            self._send_dropped()
            self._holder = 0

    def _send_dropped(self) -> None:
        if (message := self.message()) is not None:
            self._scheduler.send(message)
            self.sent(message)

    def ended(self) -> None:
        """As `Leases.ended`: report it, unless a message is about to go that it can share."""
        if self.held or not (self.idle or self._left) or not self._reports_at_once or sys.is_finalizing():
            return
        # In the middle of a message of this thread's, it is reported after that.
        if not (self._holder == threading.get_ident() and self._mutex.locked()):
            try:
                self.settle()
            except KeyboardInterrupt:
                # Python shows and forgets what a callback raises: so the Ctrl-C is raised again where it counts.
                _thread.interrupt_main()

    def _refuse_nested(self) -> None:
        # If a holder was interrupted, it is still noted here, but the mutex is free or another thread's.
        if self._holder == threading.get_ident() and self._mutex.locked():
            raise ClientMisuse("a client was used by a signal's handler while it was sending; set a flag there instead")

    # -- the end ------------------------------------------------------------------------------------

    def leave(self, known: bool) -> None:
        """The client is closed. What arrays of this process still read stays leased until they are gone.

        Args:
            known: the scheduler knows this client.
        """
        if self.forked or self._ended:
            return
        self._refuse_nested()
        with self._mutex:
            self._holder = threading.get_ident()
            if known and not self._scheduler.closed:
                self._send_dropped()
                if (goodbye := self.goodbye()).kept:
                    self._scheduler.send(goodbye)
            else:
                self.renew()
            self._left = True
            self._holder = 0
        self.settle()

    def _end(self) -> None:
        self._refuse_nested()
        with self._mutex:
            self._holder = threading.get_ident()
            if self._ended:
                self._holder = 0
                return
            # Each step may be repeated: this may be interrupted, and is begun again then.
            if not self._scheduler.closed:
                # A message without a receiver would be kept for those 200 ms, and this process with it if it ends.
                there = not isinstance(probe(lock_path(self.run_dir, SCHEDULER)), Dead)
                if there:
                    self._scheduler.send(Bye(self.number, ()))
                self._scheduler.close(linger_ms=_GOODBYE_MS if there else 0)
            # After that: the lock says that this process may still touch slots.
            self._lock.release()
            self._ended = True
            self._holder = 0

    def __del__(self) -> None:
        # Of a client that has left, and whose last leases the collector frees together with this: then their end is not
        # told. Each of them refers to this, so no array is left.
        if getattr(self, "_left", False) and not (self._ended or self.forked or sys.is_finalizing()):
            self._end()

    def forget(self) -> None:
        """This process is the child of a fork: it has a copy of everything, and must touch none of it."""
        self.forked = True
        # A mutex that another thread of the parent held would never be free here.
        self._mutex = threading.Lock()
        self._ended = True


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _forget_all() -> None:
    for connection in tuple(_connections):
        connection.forget()


os.register_at_fork(after_in_child=_forget_all)
