"""Lean: runs a stage over a batch that came as columns. Part of the worker's execution, beside `Execution.run`.

    columns ─▶ are all slots current? ─▶ process ─▶ nothing has failed ─▶ columns: passed, and onward
                    │ no                                │ otherwise
                    ▼                                   ▼
               Execution.run                     Execution.come_to         with the orders that the columns stand for

No object is made for a row, unless the stage asks for its view. Whatever is not as it should be is settled by
`Execution`, row by row, so that both ways have one outcome.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.graph.compiled import CompiledStage
from pipeline.graph.plan import Field, StagePlan
from pipeline.wire.columns import Columns, PassedColumns, TensorColumn, integers, joined, longs, picked
from pipeline.worker.candidates import Waiting
from pipeline.worker.column_queue import Part
from pipeline.worker.execution import Execution
from pipeline.worker.filling import Filling, Onwards
from pipeline.worker.flight import ColumnFlight, Flight, Outcome
from pipeline.worker.grouping import arrays_of
from pipeline.worker.unpacking import handles_of, orders_of
from shm.errors import HandleRefused
from shm.handle import TensorHandle
from shm.view import SegmentTable
from stages.errors import StageBroken
from stages.request import RequestInfo
from stages.stage import Array, Batch, Stage

__all__ = ["Lean"]


class _Views(Mapping[str, Sequence[Any]]):
    """The views of each input, one a row; made when the stage asks."""

    def __init__(self, table: SegmentTable, columns: Mapping[str, TensorColumn]) -> None:
        self._table = table
        self._columns = columns
        self._made: dict[str, list[Array]] = {}

    def __getitem__(self, name: str) -> list[Array]:
        made = self._made.get(name)
        if made is None:
            view = self._table.view
            made = self._made[name] = [view(handle) for handle in handles_of(self._columns[name])]
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


class _Filling(Filling):
    """As `Filling`, out of columns."""

    __slots__ = ("_deadlines", "_generations", "_labels", "_segment", "_slots", "_traceparents")

    def __init__(
        self, table: SegmentTable, fields: Mapping[str, Field], columns: Columns, context: Onwards
    ) -> None:
        super().__init__(table, fields, 0, (), context=context)
        hop = columns.hops[0]
        self._labels, self._deadlines, self._traceparents = columns.labels, columns.deadlines, columns.traceparents
        self._segment = hop.segment
        self._slots, self._generations = integers(hop.slots), longs(hop.generations)
        self.handles = [{} for _ in range(len(columns))]

    def allocate(self, row: int, name: str, shape: tuple[int, ...]) -> Array:
        """The place of one row's output."""
        field = self._fields[name]
        handle = TensorHandle(
            self._segment, self._slots[row], self._generations[row], field.offset, field.spec.dtype, shape
        )
        view = self._table.view(handle, writable=True)
        self.handles[row][name] = handle
        return view

    def requests(self) -> list[RequestInfo]:
        """The request of each row."""
        traces = self._traceparents or ("",) * len(self._labels)
        found = [
            RequestInfo.parse(label)._replace(traceparent=self._context(label, trace))
            for label, trace in zip(self._labels, traces)
        ]
        if not self._deadlines:
            return found
        return [each._replace(deadline=deadline) for each, deadline in zip(found, longs(self._deadlines))]


class Lean:
    """One stage, ready to run batches of common orders.

    Args:
        plan: the stage.
        index: its index in the pipeline's plan.
        stage: the user's object, set up.
        table: every segment of the run.
        stages: all of the pipeline.
        execution: of the same stage; it settles what is not common after all.
        clock: monotonic nanoseconds.
    """

    def __init__(
        self,
        plan: StagePlan,
        index: int,
        stage: Stage,
        table: SegmentTable,
        stages: Sequence[CompiledStage],
        execution: Execution,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._stage, self._table, self._execution, self._clock = stage, table, execution, clock
        self._stages = stages
        self._mine = stages[index]
        self._outputs = {field.spec.name: field.spec for field in plan.fields}
        self._fields = {field.spec.name: field for field in plan.fields}
        #: The inputs, each with the number of its tensor.
        self._inputs = list(zip([spec.name for spec in plan.inputs], self._mine.sources))
        #: The first tensor that the stage may take as one array of all rows; None: there is none.
        self._leading = next((self._mine.sources[number] for number, _ in arrays_of(plan)), None)
        #: The tensors that each stage reads.
        self._readers = [frozenset(each.sources) for each in stages]
        #: The labels of the rows that the stage has in its hands at this moment.
        self.labels: Sequence[str] = ()

    @property
    def able(self) -> bool:
        """Whether the stage can run batches of common orders at all."""
        return self._mine.made is not None and not self._mine.asked and not self._execution.parted

    def run(self, batch: Sequence[Part]) -> Outcome:
        """Compute one batch.

        Args:
            batch: columns, and when they came.

        Raises:
            StageBroken: the process must not be used any more.
        """
        flight = self._flight(batch)
        if flight is None:
            return self._execution.run(self._rows(batch))
        self.labels = flight.columns.labels
        failed: Exception | None = None
        try:
            flight.batch.finish(self._stage.process(flight.batch))
        except StageBroken:
            raise
        except Exception as error:
            failed = error
        outcome = self._come_to(flight, failed)
        # Else the exception and this frame, which it refers to, would wait for the collector.
        failed = None
        return outcome

    def start(self, batch: Sequence[Part]) -> tuple[Outcome, Flight | ColumnFlight | None]:
        """Begin one batch of a stage that has `start` and `done`: as `Execution.start`."""
        flight = self._flight(batch)
        if flight is None:
            return self._execution.start(self._rows(batch))
        self.labels = flight.columns.labels
        failed: Exception | None = None
        try:
            flight.token = self._stage.start(flight.batch)  # type: ignore[attr-defined]
        except StageBroken:
            raise
        except Exception as error:
            failed = error
        if failed is None:
            self.labels = ()
            return Outcome(), flight
        outcome = self._come_to(flight, failed)
        failed = None
        return outcome, None

    def finish(self, flight: ColumnFlight) -> Outcome | None:
        """The outcome of a batch that was begun; None while it is computed: as `Execution.finish`."""
        self.labels = flight.columns.labels
        failed: Exception | None = None
        try:
            if not self._stage.done(flight.token):  # type: ignore[attr-defined]
                self.labels = ()
                return None
            flight.batch.finish(None)
        except StageBroken:
            raise
        except Exception as error:
            failed = error
        outcome = self._come_to(flight, failed)
        failed = None
        return outcome

    def _flight(self, batch: Sequence[Part]) -> ColumnFlight | None:
        """A batch that the stage can begin; None: it is not common after all."""
        columns = joined([part for _, part in batch])
        if columns is None:
            return None
        arrived = [came for came, part in batch for _ in range(len(part))] if len(batch) > 1 else [batch[0][0]]
        tensors = {column.tensor: column for column in columns.tensors}
        order = self._order(columns, tensors)
        if order is not None:
            columns = picked(columns, order)
            tensors = {column.tensor: column for column in columns.tensors}
            arrived = [arrived[row] for row in order] if len(arrived) > 1 else arrived
        began = self._clock()
        if columns.deadlines and min([each for each in longs(columns.deadlines) if each], default=began + 1) <= began:
            return None
        if not self._are_current(tensors):
            return None
        inputs = _Views(self._table, {name: tensors[number] for name, number in self._inputs})
        filling = _Filling(self._table, self._fields, columns, self._execution.context)
        given = Batch(
            len(columns), inputs, self._outputs, filling.allocate, filling.allocate_many, filling.requests, None
        )
        return ColumnFlight(columns, arrived, filling, given, began)

    def _come_to(self, flight: ColumnFlight, failed: Exception | None) -> Outcome:
        """Settle a batch that is over. Not called while its exception is handled, as `Execution.come_to`."""
        columns, batch, arrived, began = flight.columns, flight.batch, flight.arrived, flight.began
        if failed is None and not batch.failed and self._are_filled(flight.filling):
            outcome = self._passed(columns, batch, arrived, began)
        else:
            outcome = self._settled(columns, flight.filling, batch, arrived, began, failed)
        self.labels = ()
        return outcome

    def _rows(self, batch: Sequence[Part]) -> list[Waiting]:
        return [Waiting(order, came) for came, part in batch for order in orders_of(part, self._stages)]

    def _order(self, columns: Columns, tensors: Mapping[int, TensorColumn]) -> list[int] | None:
        """In which order the rows lie in memory; None if they are in it: a batch without a gap is one view."""
        column = columns.hops[0].slots
        if self._leading is not None and self._leading in tensors:
            column = tensors[self._leading].slots
        slots = integers(column)
        rows = sorted(range(len(slots)), key=slots.__getitem__)
        return None if rows == list(range(len(rows))) else rows

    def _are_current(self, tensors: Mapping[int, TensorColumn]) -> bool:
        """Whether all inputs are there, in slots that are out for these rows, and inside of them."""
        for _, number in self._inputs:
            column = tensors.get(number)
            if column is None:
                return False
            slots, generations = integers(column.slots), longs(column.generations)
            if not self._table.are_current(column.segment, slots, generations):
                return False
            place = column.offset, column.dtype, column.shape
            try:
                # All slots of a segment have one size, so what is true of one row is true of all.
                self._table.view(TensorHandle(column.segment, slots[0], generations[0], *place))
            except HandleRefused:
                return False
        return True

    def _are_filled(self, filling: Filling) -> bool:
        count = len(self._fields)
        return not count or min([len(made) for made in filling.handles]) == count

    def _passed(self, columns: Columns, batch: Batch, arrived: Sequence[int], began: int) -> Outcome:
        """What comes of a batch of which no row has failed."""
        outcome = Outcome()
        execution, ended, size = self._execution, self._clock(), len(columns)
        execution.count(batch)
        copied, took = batch.bytes_copied // size, (ended - began) // 1000
        if columns.started:
            own = self._aged(columns, arrived, began, ended, took, copied)
        elif len(arrived) == 1:
            waited = max(0, began - arrived[0]) // 1000
            own = execution.times.traces(waited, took, size, copied, size, began=began)
        else:
            waits = [max(0, began - at) // 1000 for at in arrived]
            own = b"".join([execution.times.trace(waited, took, size, copied, began=began) for waited in waits])
        traces = (*columns.traces, own)
        if len(columns.hops) == 1:
            outcome.notices.append(PassedColumns(columns.requests, columns.attempts, traces))
            return outcome
        if self._mine.notifies_at_once:
            outcome.notices.append(PassedColumns(columns.requests, columns.attempts, traces))
        else:
            outcome.late.append(PassedColumns(columns.requests, columns.attempts, (own,)))
        outcome.columns[columns.hops[1].worker] = [self._onward(columns, traces)]
        return outcome

    def _aged(
        self, columns: Columns, arrived: Sequence[int], began: int, ended: int, took: int, copied: int
    ) -> bytes:
        """The traces of rows of which the clients have said when they began."""
        started = longs(columns.started)
        size, times = len(started), self._execution.times
        came = arrived if len(arrived) == size else [arrived[0]] * size
        traces = []
        for at, since in zip(came, started):
            age = (ended - since) // 1000 if since else 0
            traces.append(times.trace(max(0, began - at) // 1000, took, size, copied, age, began=began))
        return b"".join(traces)

    def _onward(self, columns: Columns, traces: tuple[bytes, ...]) -> Columns:
        """What is left of common orders that go on: as `onward`."""
        hop, later = columns.hops[0], columns.hops[1:]
        read = self._readers[later[0].stage]
        for following in later[1:]:
            read = read | self._readers[following.stage]
        tensors = [column for column in columns.tensors if column.tensor in read]
        assert self._mine.made is not None
        for number, (offset, dtype, shape) in enumerate(self._mine.made, self._mine.base):
            if number in read:
                tensors.append(TensorColumn(number, hop.segment, offset, dtype, shape, hop.slots, hop.generations))
        return Columns(
            columns.requests, columns.attempts, columns.labels, later, tuple(tensors), traces,
            columns.deadlines, columns.started, columns.traceparents,
        )  # fmt: skip

    def _settled(
        self,
        columns: Columns,
        filling: Filling,
        batch: Batch,
        arrived: Sequence[int],
        began: int,
        failed: Exception | None,
    ) -> Outcome:
        """What comes of a batch of which a row has failed, or all."""
        orders = orders_of(columns, self._stages)
        times = arrived if len(arrived) == len(orders) else [arrived[0]] * len(orders)
        rows = [Waiting(order, at) for order, at in zip(orders, times)]
        try:
            views = [self._execution.views(row.order.hop) for row in rows]
        except HandleRefused:
            # A slot has come back while the stage ran, which only a process that breaks the rules can have caused.
            return self._execution.run(rows)
        outcome = Outcome()
        self._execution.come_to(outcome, Flight(rows, views, filling, batch, began), failed)
        return outcome

