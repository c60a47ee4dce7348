"""Inbox: where orders wait for their batch, inside the worker.

Pure: orders and times in, batches out. The worker's process feeds it and runs what it gives.

A batch closes for one of these reasons, which are counted, since they tell which knob to turn:

    full       it has `max_size` rows
    delay      its oldest row has waited `max_delay_ms`
    drained    nothing more is waiting, and there is no delay to wait for (or the pipeline is stopping)
    deadline   one of its rows would be late if it waited on
    slots      every order that this worker may hold at once is here: waiting cannot bring another

Rows share a batch where their *forms* are equal (see `pipeline.worker.grouping`), and, without `gather`, only
where they lie side by side. What has waited long enough goes first, together with its own kind; only then what
is full: so nothing starves. With `gather`, and more rows of a form than fit, neighbours of the oldest go with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from pipeline.wire.messages import Order

__all__ = ["CLOSE_REASONS", "Closed", "Inbox", "Place", "Waiting"]

CLOSE_REASONS = ("full", "delay", "drained", "deadline", "slots")

_MAX_FENCES = 65_536


class Waiting(NamedTuple):
    """One order in the inbox."""

    order: Order
    arrived: int
    """Monotonic nanoseconds."""


class Place(NamedTuple):
    """Where an order's tensors lie: a row whose `start` is another one's `next` is its neighbour."""

    start: tuple[int, ...]
    next: tuple[int, ...]


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
        form: of an order; those of equal forms may share a batch. None: all may.
        place: of an order. None: nobody cares.
        gather: rows that do not lie side by side may share a batch. False needs `place`.
    """

    def __init__(
        self,
        max_size: int,
        max_delay: int,
        credits: int,
        *,
        form: Callable[[Order], Hashable] | None = None,
        place: Callable[[Order], Place] | None = None,
        gather: bool = True,
    ) -> None:
        self._max_size = max_size
        self._max_delay = max_delay
        self._credits = credits
        self._form = form
        self._place = place
        self._gather = gather or place is None
        #: What may share a batch, oldest first: by form, and by the order's own group where it has one.
        self._groups: dict[Hashable, deque[Waiting]] = {}
        self._count = 0
        self._fences: dict[tuple[int, int], None] = {}
        self._deadlines = 0
        self.draining = False
        #: Orders that are out of here and still being computed, where several batches are in flight.
        self.flying = 0

    def __len__(self) -> int:
        return self._count

    @property
    def has_suspects(self) -> bool:
        """Whether orders wait here that must run with nobody but their own group."""
        return any(rows and rows[0].order.group for rows in self._groups.values())

    def add(self, order: Order, now: int) -> bool:
        """Take in one order; False where it was fenced before it came."""
        if self._fences and (order.request, order.attempt) in self._fences:
            return False
        key = self._key(order)
        if key in self._groups:
            self._groups[key].append(Waiting(order, now))
        else:
            self._groups[key] = deque((Waiting(order, now),))
        self._count += 1
        if order.deadline:
            self._deadlines += 1
        return True

    def fence(self, request: int, attempt: int) -> None:
        """Forget an order, whether it is here or still on its way from another worker."""
        for row in self._all():
            if (row.order.request, row.order.attempt) == (request, attempt):
                self._remove([row])
                break
        # A copy may still come, out of the socket buffer of a worker that is dead by now; by the time
        # that this many younger fences have come, it has. The slot's generation guards what is older.
        self._fences[(request, attempt)] = None
        if len(self._fences) > _MAX_FENCES:
            del self._fences[next(iter(self._fences))]

    def clear(self) -> None:
        """Forget everything: the scheduler that ordered it is gone."""
        self._groups.clear()
        self._fences.clear()
        self._count = self._deadlines = 0

    def take(self, now: int) -> Closed | None:
        """The next batch, where one closes now."""
        if not self._count:
            return None
        if self._max_size == 1:
            row = self._groups[0].popleft()
            self._count -= 1
            self._deadlines -= bool(row.order.deadline)
            return Closed([row], "full")
        # What could be a batch, each led by its oldest row. With `gather` that may be more rows than one takes.
        groups: Collection[Sequence[Waiting]] = self._groups.values()
        if not self._gather:
            groups = [run for group in groups for run in self._runs(group)]
        oldest = next(iter(groups)) if len(groups) == 1 else min(groups, key=_arrival)
        # Overdue goes before full, or a rare form would wait for as long as others are busy.
        chosen = oldest if now - oldest[0].arrived >= self._max_delay else self._choose(groups, oldest, now)
        if chosen is None:
            return None
        # An order's own group came at once and as a whole: nobody else will join it.
        full = len(chosen) >= self._max_size or chosen[0].order.group
        reason = "full" if full else self._reason(chosen, now)
        return Closed(self._remove(chosen), reason)

    def wake_at(self) -> int | None:
        """When `take` must be asked again though nothing came; None: not before something comes."""
        if not self._count:
            return None
        delay = min(group[0].arrived for group in self._groups.values()) + self._max_delay
        if not self._deadlines:
            return delay
        return min(delay, *(_latest_start(row) for row in self._all() if row.order.deadline))

    def _choose(
        self, groups: Collection[Sequence[Waiting]], oldest: Sequence[Waiting], now: int
    ) -> Sequence[Waiting] | None:
        """The rows to go now, where none have waited for long enough."""
        if self._deadlines:
            for group in groups:
                if any(row.order.deadline and now >= _latest_start(row) for row in group):
                    return group
        for group in groups:
            if len(group) >= self._max_size or group[0].order.group:
                return group
        return oldest if self.draining or self._count + self.flying >= self._credits else None

    def _reason(self, rows: Sequence[Waiting], now: int) -> str:
        if not self._max_delay or self.draining:
            return "drained"
        if self._count + self.flying >= self._credits:
            return "slots"
        return "delay" if now - rows[0].arrived >= self._max_delay else "deadline"

    def _remove(self, chosen: Sequence[Waiting]) -> list[Waiting]:
        """Take a batch out of a group, or a run of it: all that fit."""
        key = self._key(chosen[0].order)
        group = self._groups[key]
        if len(chosen) == len(group) <= self._max_size:
            rows = list(chosen)
            del self._groups[key]
        elif chosen is group and self._place is None:
            rows = [group.popleft() for _ in range(self._max_size)]
        else:
            rows = self._part(chosen)
            gone = {id(row) for row in rows}
            self._groups[key] = deque([row for row in group if id(row) not in gone])
        self._count -= len(rows)
        if self._deadlines:
            self._deadlines -= sum([1 for row in rows if row.order.deadline])
        return rows

    def _part(self, rows: Sequence[Waiting]) -> list[Waiting]:
        """As many as fit of the rows that may share a batch: the oldest, its neighbours, and the next oldest."""
        most = self._max_size
        if len(rows) <= most:
            return list(rows)
        # Neighbours mostly come one after the other: then the others need not be looked at.
        run = next(self._runs(list(islice(rows, most))))
        if len(run) < most:
            run = next(self._runs(rows))
            chosen = {id(row) for row in run}
            run += [row for row in rows if id(row) not in chosen][: most - len(run)]
        return run

    def _runs(self, rows: Sequence[Waiting]) -> Iterator[list[Waiting]]:
        """Part `rows` into batches of rows that lie side by side; each begins with its oldest."""
        assert self._place is not None
        places = [self._place(row.order) for row in rows]
        starts = {place.start: index for index, place in enumerate(places)}
        ends = {place.next: index for index, place in enumerate(places)}
        #: For each row, the one behind it and the one before it; -1: none.
        behind = [starts.get(place.next, -1) for place in places]
        before = [ends.get(place.start, -1) for place in places]
        left = dict.fromkeys(range(len(places)))
        while left:
            first = next(iter(left))
            del left[first]
            run = [first]
            for neighbour in (behind, before):
                found = neighbour[first]
                while found in left and len(run) < self._max_size:
                    del left[found]
                    run.append(found)
                    found = neighbour[found]
            yield [rows[index] for index in run]

    def _key(self, order: Order) -> Hashable:
        if self._max_size == 1:
            return 0
        return order.group if self._form is None else (order.group, self._form(order))

    def _all(self) -> Iterator[Waiting]:
        return (row for group in self._groups.values() for row in group)


def _arrival(rows: Sequence[Waiting]) -> int:
    return rows[0].arrived


def _latest_start(row: Waiting) -> int:
    """When a row must start at the latest: halfway to its deadline, the other half is for computing."""
    return (row.arrived + row.order.deadline) // 2
