"""Loops: when a load generator sends its next request, and what becomes of those that it has sent. Pure.

The *open loop* of `pipeline siege` sends at the times of a schedule, whatever the answers do:

    due          free            sent                         answered
     │            │               │                              │
     ├── held ────┤── lateness ───┤──────── from sending ────────┤
     ├─────────────────────────── latency ───────────────────────┤

A request is due when the schedule says so. It is *held* while `max_outstanding` requests are outstanding, and it is
late if it is not sent although it is due and not held. Both count in its latency, which begins when it is due: a server
that answers slowly, and so delays the requests behind, cannot hide it ("coordinated omission", Gil Tene). Requests are
sent in their order; of the places that are free, each takes the one that has been free for longest.

The *closed loop* of `pipeline client` sends the next request when there is a place for it: its rate is that of the
answers, and a request is due when it is sent.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from pipeline.load.tally import Failure, Tally

__all__ = ["ClosedLoop", "Loop", "OpenLoop"]


@dataclass(slots=True)
class _Outstanding:
    due: float
    sent: float


class Loop(ABC):
    """What both have. All times are seconds from the beginning.

    Args:
        max_outstanding: requests that may be without an answer at a time.
    """

    def __init__(self, max_outstanding: int) -> None:
        self.max_outstanding = max_outstanding
        self.stopped = False
        self.tally = Tally()
        #: When the last request was due that was sent or left out.
        self.last_due = 0.0
        #: Places that no request has had yet.
        self._fresh = max_outstanding
        #: Since when the other places are free, the oldest first.
        self._freed: deque[float] = deque()
        self._outstanding: dict[int, _Outstanding] = {}
        self._number = 0

    @property
    def outstanding(self) -> int:
        """Requests without an answer now."""
        return len(self._outstanding)

    @property
    def full(self) -> bool:
        """Whether an answer must come before the next request can be sent."""
        return len(self._outstanding) >= self.max_outstanding

    @property
    def over(self) -> bool:
        """Whether nothing more can happen."""
        return self.sent_all and not self._outstanding

    @property
    @abstractmethod
    def sent_all(self) -> bool:
        """Whether no request will be sent any more."""

    @abstractmethod
    def wait_s(self, now: float) -> float:
        """Seconds until the next request can be sent; infinity if that needs an answer before, or there is none."""

    @abstractmethod
    def take(self, now: float) -> int | None:
        """The number of the request to send now; None if there is none."""

    @abstractmethod
    def unsent(self, now: float) -> int:
        """At the end: how many requests were due before `now` and are not sent."""

    @abstractmethod
    def behind_s(self, now: float) -> float:
        """How far behind its schedule the sending is."""

    def came(self, number: int, at: float, failure: Failure | None = None) -> None:
        """The answer to a request came, or its error, at that time."""
        request = self._outstanding.pop(number)
        self._freed.append(at)
        self.tally.came(request.due, request.sent, at, failure)

    def stop(self) -> None:
        """Send no more."""
        self.stopped = True

    def oldest_s(self, now: float) -> float:
        """For how long the oldest request without an answer has been due; 0 if there is none."""
        return max((now - request.due for request in self._outstanding.values()), default=0.0)

    def _goes(self, due: float, now: float) -> int:
        """A request that was due then is sent now; its number."""
        if self._fresh:
            self._fresh -= 1
            free = due
        else:
            free = self._freed.popleft()
        number = self._number
        self._number += 1
        self.last_due = due
        self._outstanding[number] = _Outstanding(due, now)
        self.tally.went(due, free, now)
        return number


class OpenLoop(Loop):
    """Requests at the times of a schedule.

    Args:
        times: when requests are due, rising.
        max_outstanding: as of `Loop`.
        count: requests at most.
    """

    def __init__(self, times: Iterator[float], max_outstanding: int, count: int) -> None:
        super().__init__(max_outstanding)
        self.count = count
        self._times = islice(times, count)
        self._due = next(self._times, None)

    @property
    def sent_all(self) -> bool:
        return self.stopped or self._due is None

    def wait_s(self, now: float) -> float:
        if self.sent_all or self._due is None or self.full:
            return math.inf
        return max(0.0, self._due - now)

    def take(self, now: float) -> int | None:
        due = self._due
        if due is None or self.wait_s(now) > 0:
            return None
        number = self._goes(due, now)
        self._due = next(self._times, None)
        return number

    def unsent(self, now: float) -> int:
        count = 0
        while self._due is not None and self._due <= now:
            self.tally.timeline.row(self._due).wanted += 1
            self.last_due = self._due
            count += 1
            self._due = next(self._times, None)
        return count

    def behind_s(self, now: float) -> float:
        return 0.0 if self.sent_all or self._due is None else max(0.0, now - self._due)


class ClosedLoop(Loop):
    """As many requests as there are places for, until there were `count`, or for so many seconds."""

    def __init__(self, max_outstanding: int, count: int, seconds: float = math.inf) -> None:
        super().__init__(max_outstanding)
        self._count = count
        self._seconds = seconds

    @property
    def sent_all(self) -> bool:
        return self.stopped or self._number >= self._count

    def wait_s(self, now: float) -> float:
        if now >= self._seconds:
            self.stop()
        return math.inf if self.sent_all or self.full else 0.0

    def take(self, now: float) -> int | None:
        if self.wait_s(now) > 0:
            return None
        return self._goes(now, now)

    def unsent(self, now: float) -> int:
        return 0

    def behind_s(self, now: float) -> float:
        return 0.0
