"""Flight: a batch that a stage has begun and that is not settled. Outcome: what came of a batch.

A batch of columns that a stage has begun is a `ColumnFlight`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.wire.columns import Columns, PassedColumns, longs
from pipeline.wire.messages import Notice, Order, Passed
from pipeline.worker.candidates import Waiting
from pipeline.worker.filling import Filling
from stages.stage import Batch

__all__ = ["ColumnFlight", "Flight", "Outcome", "Piece"]

Piece = tuple[list[Waiting], list[list[Any]]]
"""Rows that are computed together, and the inputs of each."""


class Outcome:
    """The outcome of one batch."""

    __slots__ = ("columns", "forwards", "late", "notices")

    def __init__(self) -> None:
        #: For the scheduler, now.
        self.notices: list[Notice | Passed | PassedColumns] = []
        #: For the scheduler, later: the order goes on without it.
        self.late: list[Notice | Passed | PassedColumns] = []
        #: Orders for the workers of the next hops, by worker number.
        self.forwards: dict[int, list[Order]] = {}
        #: The same of common orders.
        self.columns: dict[int, list[Columns]] = {}


class Flight:
    """A batch that the stage has begun and that is not settled."""

    __slots__ = ("ahead", "batch", "began", "filling", "outcome", "requests", "rows", "size", "token", "views")

    def __init__(
        self,
        rows: Sequence[Waiting],
        views: Sequence[Sequence[Any]],
        filling: Filling,
        batch: Batch,
        began: int,
    ) -> None:
        self.rows = rows
        #: The numbers of their requests, each once.
        self.requests = list(dict.fromkeys([row.order.request for row in rows]))
        #: How many rows it has in all, with those that are `ahead`.
        self.size = len(rows)
        self.views = views
        self.filling = filling
        self.batch = batch
        #: Monotonic nanoseconds.
        self.began = began
        #: What the stage's `start` returned.
        self.token: Any = None
        #: What is computed after it, if an order of many rows is cut.
        self.ahead: list[Piece] = []
        #: What is settled of it so far.
        self.outcome = Outcome()

    def go_on(self, following: Flight) -> None:
        """The rows so far are settled; those that follow have begun."""
        self.rows, self.views = following.rows, following.views
        self.filling, self.batch = following.filling, following.batch
        self.began, self.token = following.began, following.token

    @property
    def is_suspect(self) -> bool:
        """Whether its rows are suspected of a death, so that nothing may be computed beside them."""
        return bool(self.rows[0].order.group)

    @property
    def too_small(self) -> dict[int, int]:
        """The rows whose slots are too small, and how many bytes those should have had."""
        return {row: packing.needed for row, packing in self.filling.packings.items() if packing.needed}


class ColumnFlight:
    """A batch of columns that the stage has begun and that is not settled."""

    __slots__ = ("arrived", "batch", "began", "columns", "filling", "requests", "size", "token")

    #: Common orders are suspected of nothing.
    is_suspect = False

    def __init__(self, columns: Columns, arrived: Sequence[int], filling: Filling, batch: Batch, began: int) -> None:
        self.columns = columns
        #: When each row came, or when all did.
        self.arrived = arrived
        self.filling = filling
        self.batch = batch
        #: Monotonic nanoseconds.
        self.began = began
        #: The numbers of their requests.
        self.requests = longs(columns.requests)
        self.size = len(columns)
        #: What the stage's `start` returned.
        self.token: Any = None
