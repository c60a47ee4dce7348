"""Patience: how long a connection of HTTP may take for what it is at. Pure.

    waiting ──first byte──▶ head ──end of its headers──▶ under way ──answered──▶ waiting
                                                             └──answered before its body was there──▶ rest ──▶ waiting

Beside that, what was written must leave: a caller that does not read its answer has the memory of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Patience", "Phase", "TimeLimits", "most_s", "to_close"]

_LEAST_RATE = 4096
"""Bytes in a second that a body and an answer need on average, once `TimeLimits.idle_s` are over."""


class Phase(Enum):
    """What a connection is at."""

    WAITING = "no request"
    HEAD = "the headers of a request"
    UNDER_WAY = "a request that has no answer yet"
    REST = "the rest of a body whose request has its answer"


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """In seconds."""

    waiting_s: float
    """Without a request."""
    head_s: float
    """From the first byte of a request to the end of its headers."""
    rest_s: float
    """For the rest of a body that is not wanted."""
    idle_s: float
    """Until the next bytes of a body come, or of an answer are read."""


def most_s(idle_s: float, moved: int) -> float:
    """Seconds that `moved` bytes of a body, or of an answer, may take."""
    return idle_s + moved / _LEAST_RATE


class Patience:
    """That with one connection.

    Args:
        now: in seconds, as every `now`.
    """

    def __init__(self, limits: TimeLimits, now: float) -> None:
        self._limits = limits
        self.phase = Phase.WAITING
        #: When this phase began.
        self.since = now
        #: Bytes that have not left yet: when they were written, how many there were, how many there are, since when.
        self._written_at = self._moved_at = now
        self._written = self._unsent = 0

    def enter(self, phase: Phase, now: float) -> None:
        """The connection is at something else."""
        self.phase, self.since = phase, now

    def received(self, now: float) -> None:
        """Bytes have come."""
        if self.phase is Phase.WAITING:
            self.enter(Phase.HEAD, now)

    def idle_since(self) -> float | None:
        """Since when it has no request under way; None: it has one."""
        return None if self.phase is Phase.UNDER_WAY else self.since

    def why_over(self, now: float, unsent: int) -> str:
        """Why the connection ends; empty: it goes on.

        Args:
            unsent: bytes that were written and have not left.
        """
        if unsent > self._unsent or not unsent:
            self._written_at = self._moved_at = now
            self._written = unsent
        elif unsent < self._unsent:
            self._moved_at = now
        self._unsent = unsent
        limits = self._limits
        stuck = now - self._moved_at >= limits.idle_s
        slow = now - self._written_at >= most_s(limits.idle_s, self._written - unsent)
        if unsent and (stuck or slow):
            return "its answer is not read"
        allowed = {Phase.WAITING: limits.waiting_s, Phase.HEAD: limits.head_s, Phase.REST: limits.rest_s}.get(
            self.phase
        )
        return (
            "" if unsent or allowed is None or now - self.since < allowed else f"it is too slow with {self.phase.value}"
        )


def to_close(idle: list[float | None], now: float, least_s: float) -> int | None:
    """Which connection makes room for another one: the one that has no request for the longest time.

    Args:
        idle: `Patience.idle_since` of each.
        least_s: seconds that it must have had none.
    """
    found = [(since, number) for number, since in enumerate(idle) if since is not None]
    since, number = min(found, default=(now, 0))
    return number if now - since >= least_s and found else None
