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
    "NO_LIMITS",
    "SHELL",
    "STRANGER",
    "SUPERVISOR",
    "ClientGone",
    "Connect",
    "Decided",
    "Disconnect",
    "Instruction",
    "Limits",
    "Log",
    "Receiver",
    "stranger",
]

STRANGER = "stranger"


Receiver = Address
"""The receiver of a message: SUPERVISOR, a worker, a client, SHELL, or a STRANGER, which is a process that has an inbox
where clients have theirs, and is no client. A stranger is sent this one message, if it lives."""

SHELL = Receiver("shell")
"""The process in which the scheduler runs."""


def stranger(number: int) -> Receiver:
    """A receiver that calls itself a client and is not known as one."""
    return Receiver(STRANGER, number)


class ClientGone(NamedTuple):
    """The shell reports that the lock of a client is free, or that there is none: it touches no slot any more."""

    client: int


class Connect(NamedTuple):
    """Open a connection to a client, a new one if there is one already, and watch its lock from now on.

    If the lock cannot be watched, the shell drops the messages for the client, and reports `ClientGone`.
    """

    client: int


class Disconnect(NamedTuple):
    """Close the connection to a worker or a client, and stop watching its lock."""

    receiver: Receiver
    linger_ms: int
    """How long earlier messages may take to leave this process."""


class Log(NamedTuple):
    """A line for people."""

    text: str


Instruction = Connect | Disconnect | Log

Decided = tuple[Receiver, Sent | Instruction]
"""A message, and its receiver."""


class Limits(NamedTuple):
    """How many connections the process has descriptors for."""

    clients: int
    strangers: int
    """How many strangers are answered at a time."""


NO_LIMITS = Limits(1 << 30, 1 << 30)
"""For a scheduler whose connections take no descriptors."""
