"""Door: what passes between the scheduler and its shell, besides the messages of the wire. Values only.

    in    every message that arrives, and `ClientGone`
    out   (receiver, message); to SHELL, which is the process itself: `Connect`, `Disconnect` and `Log`

The shell opens a connection to a worker with the first message for it, and to a client when it is told to.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.wire.address import SUPERVISOR, Address
from pipeline.wire.codec import Sent

__all__ = [
    "CLIENT",
    "NO_LIMITS",
    "SHELL",
    "STRANGER",
    "SUPERVISOR",
    "WORKER",
    "ClientGone",
    "Connect",
    "Decided",
    "Disconnect",
    "Instruction",
    "Limits",
    "Log",
    "Receiver",
    "client",
    "stranger",
    "worker",
]

WORKER = "worker"
CLIENT = "client"
STRANGER = "stranger"


Receiver = Address
"""To whom a message goes: SUPERVISOR, a worker, a client, SHELL, or of kind STRANGER: a process with an inbox among the
clients' that is no client, and is sent this one message if it lives."""

SHELL = Receiver("shell")
"""The process that the scheduler is in."""


def worker(number: int) -> Receiver:
    """The receiver that a worker is."""
    return Receiver(WORKER, number)


def client(number: int) -> Receiver:
    """The receiver that a client is."""
    return Receiver(CLIENT, number)


def stranger(number: int) -> Receiver:
    """The receiver that a process is which calls itself a client and is not known as one."""
    return Receiver(STRANGER, number)


class ClientGone(NamedTuple):
    """The shell reports: the lock of a client is free, or there is none: it writes and reads no slot any more."""

    client: int


class Connect(NamedTuple):
    """Open a connection to a client, or a new one in place of the old, and watch its lock from now on.

    If the lock cannot be watched, the shell drops what is for the client, and reports `ClientGone`.
    """

    client: int


class Disconnect(NamedTuple):
    """Close the connection to a worker or a client, and watch its lock no longer."""

    receiver: Receiver
    linger_ms: int
    """How long what was sent before may take to leave this process."""


class Log(NamedTuple):
    """A line for people."""

    text: str


Instruction = Connect | Disconnect | Log

Decided = tuple[Receiver, Sent | Instruction]
"""What is sent, and to whom."""


class Limits(NamedTuple):
    """How many connections the process has descriptors for."""

    clients: int
    strangers: int
    """So many are answered at a time."""


NO_LIMITS = Limits(1 << 30, 1 << 30)
"""Of a scheduler whose connections take no descriptors."""
