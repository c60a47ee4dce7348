"""Batcher: where orders wait for their batch, inside the worker.

Pure: orders and times in, batches out. The worker's process feeds it and runs what it gives.

A batch closes for one of these reasons, which are counted, since they tell which knob to turn:

    full       it has `max_size` rows
    delay      its oldest row has waited `max_delay_ms`
    drained    nothing more is waiting, and there is no delay to wait for (or the pipeline is stopping)
    deadline   one of its rows would be late if it waited on
    slots      every order that this worker may hold at once is here: waiting cannot bring another

An order of several rows counts as so many, and stays whole: if it does not fit into what is left of a batch, a younger
one that does goes first, and it leads the next batch.

Rows may share a batch if their *forms* are equal (see `pipeline.worker.grouping`), and, without `gather`, only if they
lie side by side. Rows that have waited long enough go first, together with their own kind, and full batches only after
them, so nothing starves. With `gather`, and more rows of a form than fit, neighbours of the oldest go with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from typing import NamedTuple

from pipeline.graph.compiled import CompiledStage
from pipeline.wire.columns import Columns, integers, longs
from pipeline.wire.messages import Order
from pipeline.worker.candidates import Candidates, Place, Run, Waiting, rows_in
from pipeline.worker.column_queue import ColumnQueue, Part
from pipeline.worker.unpacking import orders_of

__all__ = ["Batcher", "Closed"]

_MAX_FENCES = 65_536


class Closed(NamedTuple):
    """A batch whose turn has come: orders that have `max_size` rows at most, or one order of more."""

    rows: list[Waiting]
    reason: str
    columns: Sequence[Part] = ()
    """In place of `rows`."""


class Batcher:
    """Forms batches of orders that have at most `max_size` rows and wait at most `max_delay` nanoseconds.

    Args:
        max_size: rows of a batch, at most; an order of more is a batch by itself.
        max_delay: nanoseconds that the oldest row waits for company, at most; 0: it does not wait.
        credits: with so many rows here no further order comes.
        form: of an order; those of equal forms may share a batch. None: all may.
        place: of an order. None: the stage does not care.
        gather: rows that do not lie side by side may share a batch. False needs `place`.
        stages: of the pipeline, to take columns apart.
        columns: where columns wait.
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
        stages: Sequence[CompiledStage] = (),
        columns: ColumnQueue | None = None,
    ) -> None:
        self._max_size = max_size
        self._max_delay = max_delay
        self._credits = credits
        self._form = form
        self._place = place
        self._gather = gather or place is None
        self._stages = stages
        #: Columns wait whole only while all that waits is columns.
        self._columns = ColumnQueue((), False) if columns is None else columns
        #: Whether the worker can compute columns; otherwise they are taken apart when they come.
        self.lean = False
        #: What may share a batch: by form, and by the order's own group if it has one.
        self._groups: dict[Hashable, Candidates] = {}
        self._added = 0
        self._count = 0
        self._fences: dict[tuple[int, int], None] = {}
        self.draining = False
        #: Rows that have left the batcher and are still being computed, if several batches are in flight.
        self.flying = 0

    def __len__(self) -> int:
        return self._count

    @property
    def has_suspects(self) -> bool:
        """Whether orders wait here that must run with their own group alone."""
        return any(candidates and candidates.oldest.order.group for candidates in self._groups.values())

    def add(self, order: Order, now: int) -> bool:
        """Take in one order; False if it was fenced before it came."""
        if self._fences and (order.request, order.attempt) in self._fences:
            return False
        if self._columns:
            self._take_apart()
        key = self._key(order)
        candidates = self._groups.get(key)
        if candidates is None:
            candidates = self._groups[key] = Candidates(self._place)
        self._added += 1
        candidates.add(self._added, Waiting(order, now))
        self._count += order.rows
        return True

    def add_columns(self, columns: Columns, now: int) -> None:
        """Take in common orders."""
        if (
            not self.lean
            or self._groups
            or self._form is not None
            or not self._gather
            or (self._fences and self._is_fenced(columns))
        ):
            self._take_apart()
            for order in orders_of(columns, self._stages):
                self.add(order, now)
            return
        self._columns.add(columns, now)
        self._count += len(columns)

    def _is_fenced(self, columns: Columns) -> bool:
        fences = self._fences
        return not fences.keys().isdisjoint(zip(longs(columns.requests), integers(columns.attempts)))

    def _take_apart(self) -> None:
        """From now on all that waits is single orders."""
        for arrived, columns in self._columns.clear():
            self._count -= len(columns)
            for order in orders_of(columns, self._stages):
                self.add(order, arrived)

    def _take_columns(self, now: int) -> Closed | None:
        """As `take`, if all that waits is columns."""
        arrived = self._columns.arrived
        full = self._count >= self._max_size
        queue = self._columns
        if not (full or now - arrived >= self._max_delay or now >= queue.hurry_at or self.draining or self._all_here):
            return None
        reason = "full" if full else self._reason(arrived, now)
        batch = self._columns.take(self._max_size)
        if batch is None:
            self._take_apart()
            return self.take(now)
        self._count = len(self._columns)
        return Closed([], reason, batch)

    def fence(self, request: int, attempt: int) -> None:
        """Forget an order, whether it is here or still on its way from another worker."""
        self._take_apart()
        fenced = (request, attempt)
        # A copy may still come out of the socket buffer of a worker that is dead by now. Once this many younger fences
        # have come, it has come too; what is older still is caught by the slot's generation.
        self._fences[fenced] = None
        if len(self._fences) > _MAX_FENCES:
            del self._fences[next(iter(self._fences))]
        for key, candidates in self._groups.items():
            for number, row in candidates.rows.items():
                if (row.order.request, row.order.attempt) == fenced:
                    self._left(key, candidates, candidates.remove([number]))
                    return

    def clear(self) -> None:
        """Forget everything: the scheduler that ordered it is gone."""
        self._groups.clear()
        self._columns.clear()
        self._fences.clear()
        self._count = 0

    def take(self, now: int) -> Closed | None:
        """The next batch, if one closes now."""
        if not self._count:
            return None
        if self._columns:
            return self._take_columns(now)
        # Groups that could be a batch, each led by its oldest row. With `gather` a group may have more rows than one
        # batch takes.
        batches: Collection[Candidates | Run] = self._groups.values()
        if not self._gather:
            batches = [run for candidates in self._groups.values() for run in candidates.runs(self._max_size)]
        oldest = next(iter(batches)) if len(batches) == 1 else min(batches, key=_arrival)
        # An overdue group goes before a full one: otherwise a rare form would wait for as long as others are busy.
        overdue = now - oldest.oldest.arrived >= self._max_delay
        chosen = oldest if overdue else self._choose(batches, oldest, now)
        if chosen is None:
            return None
        row = chosen.oldest
        # An order's own group came at once and as a whole: no other order will join it.
        full = len(chosen) >= self._max_size or row.order.group
        reason = "full" if full else self._reason(row.arrived, now)
        key = self._key(row.order)
        return Closed(self._left(key, self._groups[key], chosen.take(self._max_size)), reason)

    def wake_at(self) -> int | None:
        """When `take` must be called again though no order came; None: not before an order comes."""
        if not self._count:
            return None
        if self._columns:
            return min(self._columns.arrived + self._max_delay, self._columns.hurry_at)
        return min([min(_arrival(group) + self._max_delay, group.hurry_at) for group in self._groups.values()])

    def _choose(
        self, batches: Collection[Candidates | Run], oldest: Candidates | Run, now: int
    ) -> Candidates | Run | None:
        """The rows to go now, if none have waited for long enough."""
        if any(candidates.is_urgent(now) for candidates in self._groups.values()):
            for batch in batches:
                if batch.is_urgent(now):
                    return batch
        for batch in batches:
            if len(batch) >= self._max_size or batch.oldest.order.group:
                return batch
        return oldest if self.draining or self._all_here else None

    @property
    def _all_here(self) -> bool:
        """Whether no further order comes before some are computed."""
        return self._count + self.flying >= self._credits

    def _reason(self, arrived: int, now: int) -> str:
        """Why a batch that is not full goes now. `arrived`: when its oldest row came."""
        if not self._max_delay or self.draining:
            return "drained"
        if self._all_here:
            return "slots"
        return "delay" if now - arrived >= self._max_delay else "deadline"

    def _left(self, key: Hashable, candidates: Candidates, rows: list[Waiting]) -> list[Waiting]:
        """These have left their candidates."""
        if not candidates:
            del self._groups[key]
        self._count -= rows_in(rows)
        return rows

    def _key(self, order: Order) -> Hashable:
        if self._max_size == 1:
            return 0
        return order.group if self._form is None else (order.group, self._form(order))


def _arrival(batch: Candidates | Run) -> int:
    return batch.oldest.arrived
