"""Candidates: the orders in a batcher that may share a batch, oldest first, and which of them lie side by side. Pure.

Part of the batcher, which says what may share a batch, and when one closes.

A batch is taken in the time that its own rows need, however many wait: a worker of a GPU forms thousands of batches a
second out of hundreds of orders. So places are looked up, not searched for:

    starts    (segment 3, slot 5) ──▶ 17      the order whose tensors begin there
    ends      (segment 3, slot 5) ──▶ 12      the order that it would be the neighbour of

Without `gather` a batch is a run of neighbours: then all orders are parted into runs, to find the run that is due.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from pipeline.wire.messages import Order
from pipeline.worker.joint import Joint

__all__ = ["NEVER", "Candidates", "Place", "Run", "Waiting", "rows_in"]

NEVER = 1 << 62
"""In monotonic nanoseconds."""


class Waiting(NamedTuple):
    """One order in the batcher; for its execution, one row of an order."""

    order: Order
    arrived: int
    """Monotonic nanoseconds."""
    at: int = 0
    """Which row of the order."""
    joint: Joint | None = None
    """What becomes of the order's rows; None if it has one."""


class Place(NamedTuple):
    """Where an order's tensors lie: a row whose `start` is another one's `next` is its neighbour."""

    start: tuple[int, ...]
    next: tuple[int, ...]


class Candidates:
    """Orders that may share a batch, by a number that the batcher gives each, which rises.

    Args:
        place: of an order; None: the stage does not care.
    """

    __slots__ = ("_count", "_ends", "_place", "_places", "_starts", "_unplaced", "hurry_at", "rows")

    def __init__(self, place: Callable[[Order], Place] | None) -> None:
        self._place = place
        #: Oldest first. (A plain dict would search for its first entry past the holes of all that have left before it.)
        self.rows: OrderedDict[int, Waiting] = OrderedDict()
        self._count = 0
        #: No deadline makes any of them urgent before this time; the first may do so only later.
        self.hurry_at = NEVER
        #: Those that were not looked up yet: if all fit into a batch, no look-up is needed.
        self._unplaced: list[int] = []
        self._places: dict[int, Place] = {}
        self._starts: dict[tuple[int, ...], int] = {}
        self._ends: dict[tuple[int, ...], int] = {}

    def __len__(self) -> int:
        """How many rows the orders have."""
        return self._count

    @property
    def oldest(self) -> Waiting:
        """Of one at least."""
        return next(iter(self.rows.values()))

    def add(self, number: int, row: Waiting) -> None:
        """Take in an order."""
        self.rows[number] = row
        self._count += row.order.rows
        if row.order.deadline:
            self.hurry_at = min(self.hurry_at, _latest_start(row))
        if self._place is not None:
            self._unplaced.append(number)

    def is_urgent(self, now: int) -> bool:
        """Whether one of them would be late if it waited on."""
        if now < self.hurry_at:
            return False
        # The most urgent may have gone.
        self.hurry_at = min([_latest_start(row) for row in self.rows.values() if row.order.deadline], default=NEVER)
        return now >= self.hurry_at

    def remove(self, numbers: Sequence[int]) -> list[Waiting]:
        """Let go of orders."""
        if self._places:
            for number in numbers:
                place = self._places.pop(number, None)
                if place is not None:
                    if self._starts.get(place.start) == number:
                        del self._starts[place.start]
                    if self._ends.get(place.next) == number:
                        del self._ends[place.next]
        left = [self.rows.pop(number) for number in numbers]
        self._count -= rows_in(left)
        return left

    def take(self, most: int) -> list[Waiting]:
        """Let go of a batch: the oldest, its neighbours, and the next oldest, as far as they fit."""
        rows = self.rows
        if self._count <= most:
            return self.remove(list(rows))
        if self._place is None:
            if self._count == len(rows):
                return self.remove(list(islice(rows, most)))
            numbers = [next(iter(rows))]
        else:
            self._look_up(self._place)
            numbers = self._run(next(iter(rows)), most, rows)
        room = most - sum([rows[number].order.rows for number in numbers])
        if room > 0:
            chosen = set(numbers)
            for number, row in rows.items():
                # An order stays whole: one that has more rows than there is room for waits, and is the oldest soon.
                if number not in chosen and row.order.rows <= room:
                    numbers.append(number)
                    room -= row.order.rows
                    if not room:
                        break
        return self.remove(numbers)

    def runs(self, most: int) -> list[Run]:
        """All of them, parted into rows that lie side by side, `most` at most; each begins with its oldest."""
        assert self._place is not None
        self._look_up(self._place)
        left = dict.fromkeys(self.rows)
        found = []
        while left:
            numbers = self._run(next(iter(left)), most, left)
            for number in numbers:
                del left[number]
            found.append(Run(self, numbers))
        return found

    def _look_up(self, place: Callable[[Order], Place]) -> None:
        for number in self._unplaced:
            row = self.rows.get(number)
            if row is not None:
                # Two orders may have one place, if only what they read counts. Then the younger one is found, and once
                # that has left, none is: the only consequence is smaller batches.
                self._places[number] = found = place(row.order)
                self._starts[found.start] = self._ends[found.next] = number
        self._unplaced.clear()

    def _run(self, first: int, most: int, among: Mapping[int, object]) -> list[int]:
        """One, those behind it, and those before it, as far as they fit and are `among` these."""
        run = [first]
        room = most - self.rows[first].order.rows
        # A row without extent is its own neighbour.
        seen = {first}
        for ahead in (True, False):
            place = self._places[first]
            while room > 0:
                number = self._starts.get(place.next, first) if ahead else self._ends.get(place.start, first)
                if number in seen or number not in among:
                    break
                room -= 1  # An order of several rows has no neighbours, so the others of its run are of one row.
                run.append(number)
                seen.add(number)
                place = self._places[number]
        return run


class Run:
    """Some candidates that lie side by side."""

    __slots__ = ("_candidates", "_numbers")

    def __init__(self, candidates: Candidates, numbers: Sequence[int]) -> None:
        self._candidates = candidates
        self._numbers = numbers

    def __len__(self) -> int:
        """How many rows the orders have."""
        return sum([self._candidates.rows[number].order.rows for number in self._numbers])

    @property
    def oldest(self) -> Waiting:
        return self._candidates.rows[self._numbers[0]]

    def is_urgent(self, now: int) -> bool:
        """Whether one of them would be late if it waited on."""
        rows = [self._candidates.rows[number] for number in self._numbers]
        return any(row.order.deadline and now >= _latest_start(row) for row in rows)

    def take(self, most: int) -> list[Waiting]:
        """Let go of them: the oldest, those behind it, those before it."""
        assert len(self) <= most or len(self._numbers) == 1
        return self._candidates.remove(self._numbers)


def rows_in(orders: Sequence[Waiting]) -> int:
    """How many rows they have."""
    return sum([each.order.rows for each in orders])


def _latest_start(row: Waiting) -> int:
    """When a row must start at the latest: halfway to its deadline, the other half is for computing."""
    return (row.arrived + row.order.deadline) // 2
