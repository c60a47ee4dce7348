"""Links: how the processes of a run reach each other.

    listen(run_dir, address, ...)     the receiving end: an inbox, which any number of others send into
    connect(run_dir, address, ...)    a sending end: an outbox, to the inbox of one process

Every process, clients too, has one inbox, so it can wait with a plain receive. All other code knows these functions
and the protocols below, and none knows what carries the messages:

    zmq     ZeroMQ alone (`pipeline.wire.zeromq`): the default, and what every process of every run understands
    ring    rings in shared memory beside it (`pipeline.wire.rings`), for the messages of requests

What may be on its way is bounded by credits and by the slots that exist, and not by the links: a sender never blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from pipeline.errors import WireError
from pipeline.wire import rings, zeromq
from pipeline.wire.address import Address
from pipeline.wire.codec import Sent
from pipeline.wire.messages import Message
from pipeline.wire.ring_inbox import RingInbox
from pipeline.wire.zeromq import MOST_SOCKETS

__all__ = ["LINKS", "MOST_SOCKETS", "Inbox", "Link", "Outbox", "connect", "forget", "leave", "link_of", "listen"]

Link = Literal["zmq", "ring"]
"""What carries the messages of a run."""

LINKS: tuple[Link, ...] = ("zmq", "ring")



class Inbox(Protocol):
    """The receiving end of one process, under one address or several."""

    @property
    def descriptor(self) -> int:
        """What a loop can wait on instead of this: input there says that something has changed, and only once. So
        after it, `receive` until `waiting` is False."""

    @property
    def waiting(self) -> bool:
        """Whether a message is here."""

    def receive(self, timeout_ms: int = 0) -> list[Message | WireError]:
        """All messages that are here, waiting up to `timeout_ms` for the first; a bad frame comes as its error. It ends
        without one if something is `resumable`."""

    def resumable(self) -> Sequence[Outbox]:
        """Outboxes of this process that had to hold back what was sent, and can go on: each must `proceed`, in the
        thread that sends by it."""

    def wait(self, descriptors: Iterable[int], timeout_ms: int) -> set[int]:
        """Wait until a message is here, or one of these descriptors has input; those that have, after `timeout_ms`."""

    def renew(self) -> list[str]:
        """Make anew what was removed of its files, and say which: none while the folder is gone."""

    def close(self) -> None:
        """Close it, and remove its files."""


class Outbox(Protocol):
    """A sending end, to one inbox. It may be made before that inbox is there: what is sent waits."""

    def send(self, message: Sent) -> bool:
        """Send without ever blocking, in order; False if the other side has gone for good."""

    def proceed(self) -> None:
        """Go on with what was held back, if there is anything; see `Inbox.resumable`."""

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""

    def close(self, linger_ms: int = 0) -> None:
        """Close; what has been sent has `linger_ms` more, in the background, to leave this process."""


def leave() -> None:
    """The process ends: close what is open, and wait for what outboxes that are closed may still send, each as long as
    it was given. The interpreter does so too, but not for objects that its collector was told to leave alone."""
    zeromq.leave()


def link_of(run_dir: Path) -> Link:
    """The link that a client of a run has: rings, if its scheduler takes them."""
    return "ring" if rings.taken_in(run_dir) else "zmq"


def listen(
    run_dir: Path,
    *addresses: Address,
    signalled: bool = False,
    link: Link = "zmq",
    polled: bool = False,
    spins: bool = False,
) -> Inbox:
    """The inbox of this process.

    Args:
        run_dir: the folder of the run.
        addresses: of this process: at least one, several if it is several workers.
        signalled: the process is an application's, in which signals may come at any rate: they must not prolong a wait.
        link: what it takes. Whatever it is, it takes messages of ZeroMQ.
        polled: the process only ever waits by `receive`, and not on `descriptor`: so it need not be woken while it is
            at work.
        spins: such a process looks for a while before it sleeps, if that pays lately: there is a core for it.

    Raises:
        StartError: the folder is not there, its path is too long, or it takes no file.
    """
    if link == "ring":
        return rings.listen(run_dir, *addresses, signalled=signalled, polled=polled, spins=spins)
    return zeromq.listen(run_dir, *addresses, signalled=signalled)


def connect(run_dir: Path, address: Address, inbox: Inbox | None = None) -> Outbox:
    """A way to the inbox of `address`, whether that is there already or not.

    Args:
        run_dir: the folder of the run.
        address: of the other process.
        inbox: of this process. If it takes rings, the other one is sent rings, if it takes them too; without it,
            ZeroMQ carries all.

    Raises:
        StartError: the path of the folder is too long.
    """
    if isinstance(inbox, RingInbox):
        return rings.connect(run_dir, address, inbox)
    return zeromq.connect(run_dir, address)


def forget(run_dir: Path, address: Address) -> None:
    """Remove what a dead process has left of its inbox: a killed one cannot do so itself."""
    rings.forget(run_dir, address)
