"""Instructions: what the supervision of a run wants done, as values; and the children that it speaks of.

`pipeline.supervisor.supervision` makes them, `pipeline.supervisor.supervisor` carries them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.graph.plan import Plan, Post
from pipeline.supervisor.roles import Role
from pipeline.wire.address import Address
from pipeline.wire.messages import Message

__all__ = ["Child", "Instruction", "Interrupt", "Kill", "Log", "NewEpoch", "Report", "Spawn", "Tell", "end_of"]


@dataclass(slots=True)
class Child:
    """One process, from its spawn to its end."""

    address: Address
    """The worker's number; of a process of several workers that of the first."""
    role: Role
    title: str
    """For people: "scheduler", "detect/0"."""
    plan: Plan
    """What it is told; that of another worker may be a newer one."""
    posts: tuple[Post, ...] = ()
    """The workers in this process, one for each stage; none if it has another role."""
    replica: int = 0
    ready: bool = False
    epoch: int = 0
    """The scheduler's life whose segments it was told to attach."""
    overran: str = ""
    """It is being killed, since it has been computing this for too long: "one batch for 1500 ms"."""
    failure: str = ""
    """Why it could not start, as it has said; its exit follows."""
    retiring: bool = False
    """It finishes what it has, then it leaves; the supervisor starts no other one in its place."""
    newcomer: bool = False
    """It was started beside what the run has, and is not part of that yet: no other one is started in its place."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Values that it alone is told, beside those of its role."""

    def shares_place(self, other: Child) -> bool:
        """Whether both are the same replica of the same stages."""
        places = [[post.stage for post in child.posts] + [child.replica] for child in (self, other)]
        return bool(self.posts) and places[0] == places[1]


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start this child."""

    child: Child


@dataclass(frozen=True, slots=True)
class Tell:
    """Send a message to a child that listens."""

    receiver: Address
    message: Message


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Send SIGTERM."""

    child: Address


@dataclass(frozen=True, slots=True)
class Kill:
    """Send SIGKILL."""

    child: Address


@dataclass(frozen=True, slots=True)
class NewEpoch:
    """Replace every segment by a new one, and let every worker know."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Log:
    """A line for people."""

    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """Say how far the replacement of a stage's workers is."""

    step: str
    """A `Milestone`."""
    text: str
    replaced: int = 0
    """How many of the workers are of the new version by now."""
    workers: int = 0
    outcome: str = ""
    """One of `pipeline.wire.status.OUTCOMES`, if it is the last step."""


Instruction = Spawn | Tell | Interrupt | Kill | NewEpoch | Log | Report


def end_of(child: Child) -> Instruction:
    """What ends a child that takes no messages."""
    return Interrupt(child.address) if child.role.closes else Kill(child.address)
