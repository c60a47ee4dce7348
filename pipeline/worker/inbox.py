"""Inbox: where orders wait for their batch, inside the worker.

Pure: orders and times in, batches out. The worker's process feeds it and runs what it gives.

A batch closes for one of these reasons, which are counted, since they tell which knob to turn:

    full       it has `max_size` rows
    delay      its oldest row has waited `max_delay_ms`
    drained    nothing more is waiting, and there is no delay to wait for (or the pipeline is stopping)
    deadline   one of its rows would be late if it waited on
    slots      every order that this worker may hold at once is here: waiting cannot bring another
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from pipeline.wire.messages import Order

__all__ = ["CLOSE_REASONS", "Closed", "Inbox", "Waiting"]

CLOSE_REASONS = ("full", "delay", "drained", "deadline", "slots")

_MAX_FENCES = 65_536


class Waiting(NamedTuple):
    """One order in the inbox."""

    order: Order
    arrived: int
    """Monotonic nanoseconds."""


class Closed(NamedTuple):
    """A batch that is to run now."""

    rows: list[Waiting]
    reason: str


class Inbox:
    """Forms batches of at most `max_size` orders that wait at most `max_delay` nanoseconds.

    Args:
        max_size: rows of a batch, at most.
        max_delay: nanoseconds that the oldest row waits for company, at most; 0: it does not wait.
        credits: how many orders can be here at once.
    """

    def __init__(self, max_size: int, max_delay: int, credits: int) -> None:
        self._max_size = max_size
        self._max_delay = max_delay
        self._credits = credits
        self._waiting: deque[Waiting] = deque()
        self._fences: dict[tuple[int, int], None] = {}
        self._deadlines = 0
        self.draining = False
        #: Orders that are out of here and still being computed, where several batches are in flight.
        self.flying = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, order: Order, now: int) -> bool:
        """Take in one order; False where it was fenced before it came."""
        if self._fences and (order.request, order.attempt) in self._fences:
            return False
        self._waiting.append(Waiting(order, now))
        if order.deadline:
            self._deadlines += 1
        return True

    def fence(self, request: int, attempt: int) -> None:
        """Forget an order, whether it is here or still on its way from another worker."""
        for waiting in self._waiting:
            if (waiting.order.request, waiting.order.attempt) == (request, attempt):
                self._waiting.remove(waiting)
                self._deadlines -= bool(waiting.order.deadline)
                break
        # A copy may still come, out of the socket buffer of a worker that is dead by now; by the time
        # that this many younger fences have come, it has. The slot's generation guards what is older.
        self._fences[(request, attempt)] = None
        if len(self._fences) > _MAX_FENCES:
            del self._fences[next(iter(self._fences))]

    def clear(self) -> None:
        """Forget everything: the scheduler that ordered it is gone."""
        self._waiting.clear()
        self._fences.clear()
        self._deadlines = 0

    def take(self, now: int) -> Closed | None:
        """The next batch, where one closes now."""
        waiting = self._waiting
        if not waiting:
            return None
        group = waiting[0].order.group
        if group:
            return Closed(self._take_group(group), "full")
        reason = self._reason(now)
        if reason is None:
            return None
        rows: list[Waiting] = []
        while waiting and len(rows) < self._max_size and not waiting[0].order.group:
            row = waiting.popleft()
            self._deadlines -= bool(row.order.deadline)
            rows.append(row)
        return Closed(rows, reason)

    def wake_at(self) -> int | None:
        """When `take` must be asked again though nothing came; None: not before something comes."""
        if not self._waiting:
            return None
        return min(self._waiting[0].arrived + self._max_delay, self._earliest_deadline() or 1 << 62)

    def _reason(self, now: int) -> str | None:
        waiting = self._waiting
        if len(waiting) >= self._max_size:
            return "full"
        if not self._max_delay or self.draining:
            return "drained"
        if len(waiting) + self.flying >= self._credits:
            return "slots"
        if now - waiting[0].arrived >= self._max_delay:
            return "delay"
        earliest = self._earliest_deadline()
        return "deadline" if earliest is not None and now >= earliest else None

    def _earliest_deadline(self) -> int | None:
        """The latest time to start, halfway to the first deadline: the other half is for computing."""
        if not self._deadlines:
            return None
        return min((w.arrived + w.order.deadline) // 2 for w in self._waiting if w.order.deadline)

    def _take_group(self, group: int) -> list[Waiting]:
        rows = [w for w in self._waiting if w.order.group == group][: self._max_size]
        for row in rows:
            self._waiting.remove(row)
            self._deadlines -= bool(row.order.deadline)
        return rows
