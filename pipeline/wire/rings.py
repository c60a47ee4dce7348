"""Rings: the second link (see `pipeline.wire.links`), `link: ring`: rings in shared memory, beside ZeroMQ.

    inbox    a ZeroMQ inbox, and the rings that others have handed over at the socket beside it (RING_SUFFIX)
    outbox   a ring, handed over at its first message; ZeroMQ wherever there is none

ZeroMQ stays under it. It carries the first message of a client or worker, all messages of and to processes without
rings (the supervisor, `pipeline status`, clients that are not let in), and all others if no ring can be had. So a ring
is never needed: a process that has no descriptor left for one, or a client of a run folder on another kernel, is only
slower.

Who holds both ends holds two descriptors of a ring and its memory: the connection that it was handed over by, and its
bell. See `pipeline.wire.handover` for the connection, and `shm.ring` for the memory.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from pathlib import Path

from pipeline.wire import zeromq
from pipeline.wire.address import RING_SUFFIX, SCHEDULER, Address
from pipeline.wire.ring_inbox import RingInbox
from pipeline.wire.ring_outbox import RingOutbox
from pipeline.wire.sockets import path_of
from shm.ring import why_no_rings

__all__ = ["connect", "forget", "listen", "taken_in"]

_living: weakref.WeakSet[RingInbox | RingOutbox] = weakref.WeakSet()


def taken_in(run_dir: Path) -> bool:
    """Whether the scheduler of a run takes rings, and this machine can have them."""
    return not why_no_rings() and os.path.lexists(path_of(run_dir, SCHEDULER, RING_SUFFIX))


def listen(
    run_dir: Path, *addresses: Address, signalled: bool = False, polled: bool = False, spins: bool = False
) -> RingInbox:
    """An inbox under these addresses; see `pipeline.wire.links.listen`."""
    inbox = RingInbox(run_dir, *addresses, signalled=signalled, polled=polled, spins=spins)
    _living.add(inbox)
    return inbox


def connect(run_dir: Path, address: Address, inbox: RingInbox) -> RingOutbox:
    """A way to the inbox of this address; see `pipeline.wire.links.connect`."""
    outbox = RingOutbox(run_dir, address, inbox)
    _living.add(outbox)
    return outbox


def forget(run_dir: Path, address: Address) -> None:
    """Remove the files of a dead process's sockets, if they are there."""
    zeromq.forget(run_dir, address)
    with suppress(OSError):
        os.unlink(path_of(run_dir, address, RING_SUFFIX))


def _forget_all() -> None:
    for end in tuple(_living):
        end.forget()


os.register_at_fork(after_in_child=_forget_all)
