"""Outage: what the death of a process cost those who asked, from what was noted while it happened. Pure.

    ──calls──────────────┤ kill ├─x──x──x──────┤ first answer after the last failure ├──calls──
                         0        failed        recovered

Times are seconds from the kill on; those before it are negative.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Call", "Look", "Outage", "outage_of", "table"]


class Call(NamedTuple):
    """A request that is over."""

    sent: float
    over: float
    failure: str
    """The status; "": it was answered, rightly."""


class Look(NamedTuple):
    """What a server said of itself. None: it did not answer."""

    at: float
    server: bool | None
    model: bool | None


@dataclass(frozen=True)
class Outage:
    """What one kill cost."""

    subject: str
    answered: int
    failed: dict[str, int]
    """How many, by their status."""
    rate_before: float
    """Answers a second before the kill."""
    rate_after: float
    """From the recovery on; 0: there was none."""
    silence_s: float
    """The longest time between two answers, of all callers together, that the kill lies in or before."""
    recovered_s: float | None
    """The first answer to a request that was sent after the kill, and after the last failure. None: none came."""
    looks: int
    """How often it was asked whether it is ready, from the kill until it had recovered, or the end."""
    server_ready: int
    """How often of these the server said that it is."""
    model_ready: int
    """And that the model is."""


def outage_of(subject: str, calls: Sequence[Call], looks: Sequence[Look], end: float) -> Outage:
    """The figures.

    Args:
        calls: all of them, in any order; those before the kill included.
        end: when the load ended.
    """
    answers = sorted(call.over for call in calls if not call.failure)
    failures = [call for call in calls if call.failure]
    # A failure that was sent before the kill counts too: it may be the kill's.
    since = max([0.0, *[call.over for call in failures]])
    recovered = min([call.over for call in calls if not call.failure and call.sent >= since], default=None)
    until = end if recovered is None else recovered
    seen = [look for look in looks if 0 <= look.at <= until]
    begin = min([call.sent for call in calls], default=0.0)
    return Outage(
        subject,
        len(answers),
        dict(Counter(call.failure for call in failures)),
        _rate(answers, begin, 0.0),
        0.0 if recovered is None else _rate(answers, recovered, end),
        _silence([begin, *answers, end]),
        recovered,
        len(seen),
        sum(look.server is True for look in seen),
        sum(look.model is True for look in seen),
    )


def _rate(answers: Sequence[float], begin: float, end: float) -> float:
    return sum(begin <= at < end for at in answers) / (end - begin) if end > begin else 0.0


def _silence(moments: Sequence[float]) -> float:
    """The longest pause that ends after the kill."""
    return max([after - before for before, after in itertools.pairwise(moments) if after > 0], default=0.0)


def table(outages: Sequence[Outage]) -> str:
    """For people."""
    head = (
        "server", "answered", "failed", "longest silence", "recovered after", "said ready meanwhile", "model ready",
        "requests/s before", "after",
    )  # fmt: skip
    body = [head, *map(_row, outages)]
    widths = [max(map(len, column)) for column in zip(*body)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in body]
    causes = [
        f"{outage.subject}: {number} x {failure}" for outage in outages for failure, number in outage.failed.items()
    ]
    return "\n".join([*lines, *causes])


def _row(outage: Outage) -> tuple[str, ...]:
    return (
        outage.subject,
        str(outage.answered),
        str(sum(outage.failed.values())),
        f"{outage.silence_s:.2f} s",
        "never" if outage.recovered_s is None else f"{outage.recovered_s:.2f} s",
        f"{outage.server_ready} of {outage.looks}",
        f"{outage.model_ready} of {outage.looks}",
        f"{outage.rate_before:.0f}",
        f"{outage.rate_after:.0f}",
    )
