"""Links: how the processes of a run reach each other.

    listen(run_dir, address, ...)     the receiving end: an inbox, which any number of others send into
    connect(run_dir, address)         a sending end: an outbox, to the inbox of one process

Every process, clients too, has one inbox, so it can wait with a plain receive. All other code knows these functions
and the three protocols below, and none knows what carries the messages. ZeroMQ does (`pipeline.wire.zeromq`). Another
link is one more module that is a `Link`, and a line in `_link`.

What may be on its way is bounded by credits and by the slots that exist, and not by the links: a sender never blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from pipeline.errors import WireError
from pipeline.wire import zeromq
from pipeline.wire.address import Address
from pipeline.wire.codec import Sent
from pipeline.wire.messages import Message
from pipeline.wire.zeromq import MOST_SOCKETS

__all__ = ["MOST_SOCKETS", "Inbox", "Link", "Outbox", "connect", "forget", "listen"]


class Inbox(Protocol):
    """The receiving end of one process, under one address or several."""

    def receive(self, timeout_ms: int = 0) -> list[Message | WireError]:
        """All messages that are here, waiting up to `timeout_ms` for the first; a bad frame comes as its error."""

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

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""

    def close(self, linger_ms: int = 0) -> None:
        """Close; what has been sent has `linger_ms` more, in the background, to leave this process."""


class Link(Protocol):
    """What carries messages."""

    def listen(self, run_dir: Path, *addresses: Address, signalled: bool = False) -> Inbox:
        """See the function `listen`."""

    def connect(self, run_dir: Path, address: Address) -> Outbox:
        """See the function `connect`."""

    def forget(self, run_dir: Path, address: Address) -> None:
        """See the function `forget`."""


def _link(address: Address) -> Link:
    """The link by which the process of this address is reached."""
    return zeromq


def listen(run_dir: Path, *addresses: Address, signalled: bool = False) -> Inbox:
    """The inbox of this process.

    Args:
        run_dir: the folder of the run.
        addresses: of this process: at least one, several if it is several workers.
        signalled: the process is an application's, in which signals may come at any rate: they must not prolong a wait.

    Raises:
        StartError: the folder is not there, its path is too long, or it takes no file.
    """
    return _link(addresses[0]).listen(run_dir, *addresses, signalled=signalled)


def connect(run_dir: Path, address: Address) -> Outbox:
    """A way to the inbox of `address`, whether that is there already or not.

    Raises:
        StartError: the path of the folder is too long.
    """
    return _link(address).connect(run_dir, address)


def forget(run_dir: Path, address: Address) -> None:
    """Remove what a dead process has left of its inbox: a killed one cannot do so itself."""
    _link(address).forget(run_dir, address)
