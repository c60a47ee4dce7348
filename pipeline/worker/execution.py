"""Execution: runs a stage over the views of a batch's slots, and says what came of each row.

It sends nothing itself: orders go in, notices and forwarded orders come out. The worker's process sends those.
A batch is either computed on the spot (`run`), or started and finished later, if the stage can do that (`start` and
`finish`): then several are in flight. Whatever a stage raises is caught here and put into the notices of the rows it
concerns, except StageBroken.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from pipeline.graph.compiled import CompiledStage
from pipeline.graph.plan import StagePlan
from pipeline.graph.slots import places_of, slot_bytes
from pipeline.wire.flattening import parts, position_of
from pipeline.wire.messages import MISSING, OK, TOO_SMALL, Copied, Hop, Notice, Passed
from pipeline.worker.abandonment import Abandoned, all_wanted
from pipeline.worker.candidates import Waiting
from pipeline.worker.failures import Failures, Home, examine, message_of
from pipeline.worker.filling import Filling, Onwards, as_given
from pipeline.worker.flight import Flight, Outcome, Piece
from pipeline.worker.grouping import arrays_of
from pipeline.worker.joint import Joint, RowResult, rows_of
from pipeline.worker.onward import Onward
from pipeline.worker.times import Times
from shm.elements import Elements
from shm.errors import HandleRefused
from shm.handle import BYTES, JSON, TensorHandle
from shm.layout import round_up
from shm.view import SegmentTable
from stages.declared import declared
from stages.errors import AnsweredError, StageBroken
from stages.stage import Array, Batch, Stage

__all__ = ["Execution"]


class Execution:
    """One stage, ready to run batches of orders.

    Args:
        plan: the stage.
        index: its index in the pipeline's plan.
        base: the number of its first tensor (see `pipeline.graph.compiled`).
        stage: the user's object, set up.
        table: every segment of the run.
        asked: positions of the fields that some stage's `when:` asks about.
        clock: monotonic nanoseconds.
        sized: whether the stage's slots are of several sizes.
        raised: called with each exception that makes a row fail; what it raises itself ends the run.
        stages: all of the pipeline, so that orders can go on to them. Empty: every order ends here.
        tell: takes the notices of parts of answers, as soon as they are made. None: they are kept for the outcome.
        unwanted: asked after each part for the places of the rows that need no more of them.
        piece: called before each piece of an order that is cut, with the row if it is one alone (a suspect's), else -1.
        context: see `filling.Onwards`.
    """

    def __init__(
        self,
        plan: StagePlan,
        index: int,
        base: int,
        stage: Stage,
        table: SegmentTable,
        asked: Sequence[int] = (),
        clock: Callable[[], int] = time.monotonic_ns,
        sized: bool = False,
        raised: Callable[[Exception], None] | None = None,
        tell: Callable[[Sequence[Notice]], None] | None = None,
        stages: Sequence[CompiledStage] = (),
        unwanted: Callable[[Sequence[Waiting]], Sequence[int]] = all_wanted,
        piece: Callable[[int], None] | None = None,
        context: Onwards = as_given,
    ) -> None:
        self._name = plan.name
        self._raised, self._tell, self._unwanted, self._piece = raised, tell, unwanted, piece
        self._most_rows = plan.batch.max_size
        #: By the rows of an order, where the outputs lie in its slot.
        self._places: dict[int, dict[str, int]] = {}
        #: Whether the stage gives its outputs in parts.
        self.parted = declared(stage).parted
        self.times = Times(index)
        self._base = base
        self._stage, self._table, self._clock, self.context = stage, table, clock, context
        self._inputs = tuple(spec.name for spec in plan.inputs)
        #: The inputs of dtype "bytes", with their index.
        self._of_bytes = tuple((number, spec.name) for number, spec in enumerate(plan.inputs) if spec.dtype == BYTES)
        self._fields = {field.spec.name: field for field in plan.fields}
        #: Bytes of the stage's largest slots, if its slots are of several sizes; else 0.
        self._largest = slot_bytes(plan.fields) if sized else 0
        self._outputs = {field.spec.name: field.spec for field in plan.fields}
        self._singles = tuple(field.spec.name for field in plan.fields if field.spec.many is None)
        self._manies = tuple(field.spec.name for field in plan.fields if field.spec.many is not None)
        #: Whether outputs lie where the plan says, so that they need not be told.
        self._planned = bool(stages) and stages[index].made is not None and not self.parted and not asked
        self._onward = Onward(stages, base, len(plan.fields))
        self._asked = tuple((1 << position, plan.fields[position].spec) for position in asked)
        #: The first input that the stage may take as one array of all rows.
        self._leading = next((number for number, _ in arrays_of(plan)), None)
        #: (side, tensor, reason) -> bytes copied, and in how many batches.
        self._copies: dict[tuple[str, str, str], tuple[int, int]] = {}
        self.refused = 0  # handles that named no bytes here; each one failed its row
        self._home = Home.of(stage)
        self.failures = Failures(clock)  # what the stage did not mean to raise
        self.under_way: Sequence[Waiting] = ()  # the rows that the stage has in its hands at this moment

    @property
    def copies(self) -> tuple[Copied, ...]:
        """What was copied so far, in all batches."""
        return tuple([Copied(*key, *counted) for key, counted in self._copies.items()])

    def run(self, rows: Sequence[Waiting]) -> Outcome:
        """Compute one batch.

        Raises:
            StageBroken: the process must not be used any more.
        """
        outcome = Outcome()
        pieces = self._pieces(*self._admit(outcome, rows))
        for piece in pieces:
            if len(pieces) > 1:
                self._tell_piece(piece[0])
            self._run(outcome, *piece)
        return outcome

    def start(self, rows: Sequence[Waiting]) -> tuple[Outcome, Flight | None]:
        """Begin one batch of a stage that has `start` and `done`.

        Returns:
            What is settled already, and the batch, None if nothing of it is left.

        Raises:
            StageBroken: the process must not be used any more.
        """
        outcome = Outcome()
        pieces = self._pieces(*self._admit(outcome, rows))
        cut = len(pieces) > 1
        flight = self._begin(outcome, pieces, cut)
        if flight is not None and cut:
            flight.ahead, flight.size = pieces, sum([row.order.rows for row in rows])
        return outcome, flight

    def _begin(self, outcome: Outcome, pieces: list[Piece], cut: bool) -> Flight | None:
        """Begin the first of these that the stage begins, which leaves them as those before it do; None: none."""
        while pieces:
            rows, views = pieces.pop(0)
            if cut:
                self._tell_piece(rows)
            flight = self._flight(rows, views)
            self.under_way = rows
            failed: Exception | None = None
            try:
                flight.token = self._stage.start(flight.batch)  # type: ignore[attr-defined]
            except StageBroken:
                raise
            except Exception as error:
                failed = error
            self.under_way = ()
            if failed is None:
                return flight
            self.come_to(outcome, flight, failed)
            failed = None
        return None

    def finish(self, flight: Flight) -> Outcome | None:
        """The outcome of a batch; None while it is computed.

        Raises:
            StageBroken: the process must not be used any more.
        """
        outcome = flight.outcome
        self.under_way = flight.rows
        failed: Exception | None = None
        try:
            if not self._stage.done(flight.token):  # type: ignore[attr-defined]
                self.under_way = ()
                return None
            flight.batch.finish(None)
        except StageBroken:
            raise
        except Exception as error:
            failed = error
        self.come_to(outcome, flight, failed)
        # Else the exception and this frame, which it refers to, would wait for the collector.
        failed = None
        if flight.ahead and (following := self._begin(outcome, flight.ahead, True)) is not None:
            flight.go_on(following)
            return None
        return outcome

    def _pieces(self, rows: list[Waiting], views: list[list[Any]]) -> list[Piece]:
        """What is computed together: all of a batch; of one order less, if it has more rows than a batch may have, or
        is suspected of a death (see `pipeline.scheduler.recovery`)."""
        if not rows:
            return []
        joint = rows[0].joint
        if joint is None or rows[-1].joint is not joint:
            return [(rows, views)]
        most = 1 if rows[0].order.group else self._most_rows
        return [(rows[at : at + most], views[at : at + most]) for at in range(0, len(rows), most)]

    def _tell_piece(self, rows: Sequence[Waiting]) -> None:
        if self._piece is not None:
            self._piece(rows[0].at if len(rows) == 1 else -1)

    def _admit(self, outcome: Outcome, rows: Sequence[Waiting]) -> tuple[list[Waiting], list[list[Any]]]:
        """The rows that can be computed, with their inputs; the others are settled."""
        began = self._clock()
        alive: list[Waiting] = []
        views: list[list[Any]] = []
        if len(rows) > 1:
            # No order of rows is promised, so those that lie side by side are put one after the other: a batch without
            # a gap is handed over as one view, and nothing is copied.
            rows = sorted(rows, key=self._address)
        for row in rows:
            order = row.order
            if order.deadline and order.deadline <= began:
                late = (began - order.deadline) / 1e6
                self._settle(outcome, row, began, began, 1, 0, RowResult("DeadlineExceeded", f"{late:.1f} ms late"))
                continue
            try:
                if order.rows > 1:
                    self._admit_rows(row, alive, views)
                    continue
                found = self.views(order.hop)
                if self._of_bytes:
                    self._as_elements(order.hop, found)
                views.append(found)
            except HandleRefused as error:
                self.refused += 1
                why = f"stage {self._name}: {type(error).__name__}: {error}"
                self._settle(outcome, row, began, began, 1, 0, RowResult("StageFailed", why))
                continue
            alive.append(row)
        return alive, views

    def _admit_rows(self, row: Waiting, alive: list[Waiting], views: list[list[Any]]) -> None:
        """The rows of an order of several, each as one that could be an order's own. Raises as `joint.rows_of`."""
        order, rows = row.order, row.order.rows
        columns = [[self._table.view(each) for each in rows_of(handle, rows)] for handle in order.hop.inputs]
        places = self._places.get(rows)
        if places is None:
            fields = list(self._fields.values())
            places = self._places[rows] = dict(zip(self._fields, places_of(fields, rows)))
        joint = Joint(order, places)
        for at in range(rows):
            alive.append(Waiting(order, row.arrived, at, joint))
            views.append([column[at] for column in columns])

    def _address(self, row: Waiting) -> tuple[int, int, int]:
        """Where a row's first array lies; its output, if it has none."""
        hop = row.order.hop
        if self._leading is not None:
            handle = hop.inputs[position_of(self._leading, hop.lengths)]
            if isinstance(handle, TensorHandle):
                return handle.segment, handle.slot, handle.offset
        return hop.segment, hop.slot, 0

    def views(self, hop: Hop) -> list[Any]:
        """The inputs of one row: an array for each, a list if it takes many, None if it is missing."""
        if not hop.lengths:
            return [self._view(handle) for handle in hop.inputs]
        return [
            [self._view(handle) for handle in part] if many else self._view(part[0])
            for part, many in parts(hop.inputs, hop.lengths)
        ]

    def _view(self, handle: TensorHandle | int) -> Array | None:
        if type(handle) is int:
            if handle == MISSING:
                return None
            raise HandleRefused(f"tensor {handle} was not filled in by the stage before")
        return self._table.view(handle)  # type: ignore[arg-type]

    def _as_elements(self, hop: Hop, views: list[Any]) -> None:
        """Give the views of dtype "bytes" the shapes of their elements."""
        for index, _ in self._of_bytes:
            first, found = position_of(index, hop.lengths), views[index]
            if isinstance(found, list):
                views[index] = [_elements(view, hop.inputs[first + at]) for at, view in enumerate(found)]
            else:
                views[index] = _elements(found, hop.inputs[first])

    def _flight(self, rows: Sequence[Waiting], views: Sequence[Sequence[Any]]) -> Flight:
        filling = Filling(self._table, self._fields, self._largest, rows, self.parted, self.context)
        inputs = {name: [of_row[index] for of_row in views] for index, name in enumerate(self._inputs)}
        elements = {name: inputs.pop(name) for _, name in self._of_bytes} if self._of_bytes else None
        batch = Batch(
            len(rows), inputs, self._outputs, filling.allocate, filling.allocate_many, filling.requests, elements
        )
        return Flight(rows, views, filling, batch, self._clock())

    def _run(self, outcome: Outcome, rows: Sequence[Waiting], views: Sequence[Sequence[Any]]) -> None:
        flight = self._flight(rows, views)
        self.under_way = rows
        if self.parted:
            self._run_in_parts(outcome, flight)
            return
        failed: Exception | None = None
        try:
            flight.batch.finish(self._stage.process(flight.batch))
        except StageBroken:
            raise
        except Exception as error:
            failed = error
        self.come_to(outcome, flight, failed)
        # Else the exception and this frame, which it refers to, would wait for the collector.
        failed = None

    def _run_in_parts(self, outcome: Outcome, flight: Flight) -> None:
        given = [0] * len(flight.rows)
        failed: Exception | None = None
        try:
            for yielded in self._stage.process(flight.batch):  # type: ignore[union-attr]
                self._give(outcome, flight, flight.batch.part(yielded), given)
                for number in self._unwanted(flight.rows):
                    flight.batch.fail(number, Abandoned("not wanted any more"))
                if len(flight.batch.failed) == len(flight.rows):
                    # What it yields from here on is of no use, and it may have no end. Leaving the loop closes it.
                    break
            flight.batch.end_parts()
        except StageBroken:
            raise
        except Exception as error:
            failed = error
        self._end_parts(outcome, flight, given, failed)
        self.under_way = ()
        failed = None

    def _give(self, outcome: Outcome, flight: Flight, rows: Sequence[int], given: list[int]) -> None:
        """Tell of a part of each of these rows."""
        notices = []
        for number in rows:
            if (too_long := flight.filling.too_long.get(number)) is not None:
                flight.batch.fail(number, too_long)
                continue
            given[number] += 1
            order, made = flight.rows[number].order, flight.filling.take_part(number)
            outputs = tuple([made[name] for name in self._singles])
            notices.append(
                Notice(order.request, order.attempt, OK, "", outputs, b"", (), 0, 0, 0, "", False, True)  # type: ignore[arg-type]
            )
        if self._tell is None:
            outcome.notices += notices
        elif notices:
            self._tell(notices)

    def _end_parts(self, outcome: Outcome, flight: Flight, given: Sequence[int], error: Exception | None) -> None:
        """No further part will come. Rows of a failed batch that have none run again alone; the others fail."""
        self.count(flight.batch)
        size, ended, copied = len(flight.rows), self._clock(), flight.batch.bytes_copied // len(flight.rows)
        for number, row in enumerate(flight.rows):
            if (own := flight.batch.failed.get(number)) is not None:
                result = self._failure(own, row)
            elif error is None:
                result = RowResult(OK, parted=True)
            elif size > 1 and not given[number]:
                self._run(outcome, [row], [flight.views[number]])
                continue
            else:
                result = self._blame(error, row)
            self._settle(outcome, row, flight.began, ended, size, copied, result)

    def _blame(self, error: Exception, row: Waiting) -> RowResult:
        """A row fails by what its batch has raised."""
        if self._raised is not None:
            self._raised(error)
        return self._failure(error, row)

    def come_to(self, outcome: Outcome, flight: Flight, failed: Exception | None) -> None:
        """Settle a batch that is over. Not called while its exception is handled: that would be the context of what its
        rows raise alone."""
        if failed is None:
            self._conclude(outcome, flight)
        else:
            self._recover(outcome, flight, failed)
        self.under_way = ()

    def _recover(self, outcome: Outcome, flight: Flight, error: Exception) -> None:
        self.count(flight.batch)
        if too_small := flight.too_small:
            # The rows at fault are known, and the others are not to blame: those go on together.
            ended = self._clock()
            for number, nbytes in too_small.items():
                result = RowResult(TOO_SMALL, nbytes=nbytes)
                self._settle(outcome, flight.rows[number], flight.began, ended, len(flight.rows), 0, result)
            left = [number for number in range(len(flight.rows)) if number not in too_small]
            if left:
                self._run(outcome, [flight.rows[number] for number in left], [flight.views[number] for number in left])
        elif len(flight.rows) > 1:
            # Which row is at fault is not known. If each runs alone, only the guilty one fails again.
            before = len(outcome.notices)
            for row, of_row in zip(flight.rows, flight.views):
                self._run(outcome, [row], [of_row])
            if not any(isinstance(said, Notice) and said.code != OK for said in outcome.notices[before:]):
                self._only_together(flight, error)
        else:
            failed = self._blame(error, flight.rows[0])
            self._settle(outcome, flight.rows[0], flight.began, self._clock(), 1, 0, failed)

    def _conclude(self, outcome: Outcome, flight: Flight) -> None:
        began, ended = flight.began, self._clock()
        self.count(flight.batch)
        size, handles = len(flight.rows), flight.filling.handles
        failed: Mapping[int, BaseException] = flight.batch.failed
        copied = flight.batch.bytes_copied // size
        too_small = flight.too_small
        for number, row in enumerate(flight.rows):
            if number in too_small:
                result = RowResult(TOO_SMALL, nbytes=too_small[number])
            elif number in failed:
                result = self._failure(failed[number], row)
            elif len(handles[number]) < len(self._fields):
                missing = [name for name in self._fields if name not in handles[number]]
                result = RowResult("StageFailed", f"stage {self._name}: process left output {missing[0]!r} unfilled")
            else:
                result = self._success(handles[number])
            self._settle(outcome, row, began, ended, size, copied, result)

    def count(self, batch: Batch) -> None:
        """Count what was copied for a batch."""
        for key, nbytes in batch.copies.items():
            before, batches = self._copies.get(key, (0, 0))
            self._copies[key] = before + nbytes, batches + 1

    def _success(self, filled: Mapping[str, Any]) -> RowResult:
        outputs = tuple([filled[name] for name in self._singles])
        children = tuple([filled[name] for name in self._manies])
        nbytes = _slot_bytes_of(chain(outputs, *children)) if self._largest else 0
        if not self._manies and not self._asked:
            return RowResult(OK, "", outputs, nbytes=nbytes)
        conditions = 0
        for bit, spec in self._asked:
            view = self._table.view(filled[spec.name])
            try:
                holds = bool(json.loads(view.tobytes())) if spec.dtype == JSON else bool(view.any())
            except ValueError as error:
                why = f"stage {self._name}: output {spec.name!r} is no JSON document: {error}"
                return RowResult("StageFailed", why)
            conditions |= bit * holds
        return RowResult(OK, "", outputs, children, conditions, nbytes)

    def _settle(
        self, outcome: Outcome, row: Waiting, began: int, ended: int, size: int, copied: int, result: RowResult
    ) -> None:
        order, joint = row.order, row.joint
        if joint is not None:
            if not joint.take(row.at, result, began, ended, size, copied):
                return
            began, ended, size, copied, result = joint.began, joint.ended, joint.size, joint.copied, joint.result()
        code, message, outputs, children, conditions, nbytes, traceback, parted = result
        age = (ended - order.started) // 1000 if order.started else 0
        waited, took = max(0, began - row.arrived) // 1000, (ended - began) // 1000
        own = self.times.trace(waited, took, size, copied, age, order.rows, began=began)
        trace = order.trace + own
        goes_on = code == OK and bool(order.route)
        told = own if (late := goes_on and not order.hop.awaited) else trace
        said: Notice | Passed
        if self._planned and code == OK:
            said = Passed(order.request, order.attempt, told)
        else:
            handles = [h for h in order.hop.inputs if isinstance(h, TensorHandle)] if self._largest else []
            said = Notice(
                order.request, order.attempt, code, message, outputs, told, children, conditions,
                sum([h.nbytes for h in handles]), nbytes, traceback, True, parted,
            )  # fmt: skip
        (outcome.late if late else outcome.notices).append(said)
        if goes_on:
            forward = self._onward.order(order, outputs, trace)
            outcome.forwards.setdefault(forward.hop.worker, []).append(forward)

    def _failure(self, error: BaseException, row: Waiting) -> RowResult:
        if isinstance(error, AnsweredError):
            return RowResult(error.code, message_of(error))
        story = examine(error, self._home)
        self.failures.add(story, row.order.label, self._name)
        return RowResult("StageFailed", f"stage {self._name}: {story.message}", traceback=story.traceback)

    def _only_together(self, flight: Flight, error: Exception) -> None:
        """No row has failed alone, so no answer would tell what the batch has raised; and running again costs time."""
        story = examine(error, self._home)
        hint = " (each of its rows was computed again alone, and none failed: is process right for several rows?)"
        together = story._replace(kind=f"together {story.kind}", message=story.message + hint)
        self.failures.add(together, "", self._name, len(flight.rows))


def _elements(view: Array | None, handle: TensorHandle | int) -> Elements | None:
    if view is None or not isinstance(handle, TensorHandle):
        return None
    return Elements(view, handle.shape[:-1])


def _slot_bytes_of(handles: Iterable[TensorHandle]) -> int:
    """The bytes that tensors take in a slot, one after the other."""
    return sum(round_up(handle.nbytes) for handle in handles)
