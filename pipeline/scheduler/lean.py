"""Lean: the common orders of one decision, as columns. Pure.

An order is common if nothing about it is rare: its request has one row, is no child and of no stream, and is suspected
of nothing; and every stage of its way takes and makes tensors of fixed shapes, in slots of one size, and is run for
every request. All other orders go as they are.

    dispatch ──order──▶ add ──▶ rows of one way ──take──▶ Orders.columns
                         └─ None: it is not common
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from pipeline.graph.compiled import CompiledPlan, CompiledStage
from pipeline.graph.plan import Plan, StagePlan
from pipeline.scheduler.ledger import Request
from pipeline.wire.columns import Columns, HopColumn, TensorColumn
from shm.handle import ENCODED, TensorHandle

__all__ = ["Lean", "Rows", "Taken", "Way", "is_common"]

Way = tuple[int, int, int, int, int]
"""One hop: stage, worker, and the slot to fill: segment, slot, generation; generation 0: it fills none."""


class Rows:
    """Orders that take the same way, with the same tensors at the same places of their slots."""

    __slots__ = (
        "attempts", "deadlines", "hops", "labels", "requests", "slots", "started", "tensors", "traceparents",
    )  # fmt: skip

    def __init__(self, hops: Sequence[Way], tensors: Sequence[tuple[int, TensorHandle]]) -> None:
        #: (stage, worker, segment) of each hop.
        self.hops = [(hop[0], hop[1], hop[2]) for hop in hops]
        #: (number, segment, offset, dtype, shape) of each tensor that is there.
        self.tensors = [(number, h.segment, h.offset, h.dtype, h.shape) for number, h in tensors]
        self.requests: list[int] = []
        self.attempts: list[int] = []
        self.labels: list[str] = []
        self.deadlines: list[int] = []
        self.started: list[int] = []
        self.traceparents: list[str] = []
        #: Slots and generations: of each hop, then of each tensor.
        self.slots: list[tuple[list[int], list[int]]] = [([], []) for _ in range(len(hops) + len(tensors))]

    def columns(self) -> Columns:
        """What is sent."""
        packed = [(array("I", slots).tobytes(), array("Q", gens).tobytes()) for slots, gens in self.slots]
        count = len(self.hops)
        return Columns(
            array("Q", self.requests).tobytes(),
            array("I", self.attempts).tobytes(),
            tuple(self.labels),
            tuple([HopColumn(*hop, *slots) for hop, slots in zip(self.hops, packed)]),
            tuple([TensorColumn(*tensor, *slots) for tensor, slots in zip(self.tensors, packed[count:])]),
            (),
            array("Q", self.deadlines).tobytes() if any(self.deadlines) else b"",
            array("Q", self.started).tobytes() if any(self.started) else b"",
            tuple(self.traceparents) if any(self.traceparents) else (),
        )


class Taken:
    """Orders that take the same way."""

    __slots__ = ("reads", "rows", "story")

    def __init__(self, reads: tuple[int, ...], story: tuple[tuple[int, int], ...]) -> None:
        #: The tensors that are read and that none of its stages makes.
        self.reads = reads
        #: The stage and the worker of each hop.
        self.story = story
        #: By where those tensors lie.
        self.rows: dict[tuple[object, ...], Rows] = {}

    def rows_of(self, request: Request, way: Sequence[Way]) -> Rows | None:
        """Those among which an order belongs; None: it is not common."""
        values = request.values
        place: tuple[object, ...] = ()
        for number in self.reads:
            handle = values[number]
            if type(handle) is not TensorHandle:
                return None
            place += (handle.segment, handle.offset, handle.shape)
        rows = self.rows.get(place)
        if rows is None:
            tensors = [(number, values[number]) for number in self.reads]
            rows = self.rows[place] = Rows(way, tensors)  # type: ignore[arg-type]
        return rows


    def add(self, request: Request, way: Sequence[Way]) -> bool:
        """Take in the order of a common request; False: it is not common all the same."""
        rows = self.rows_of(request, way)
        if rows is None:
            return False
        rows.requests.append(request.id)
        rows.attempts.append(request.attempt)
        rows.labels.append(request.label)
        rows.deadlines.append(request.deadline)
        rows.started.append(request.started)
        rows.traceparents.append(request.traceparent)
        at = 0
        for hop in way:
            if hop[4]:
                slots, generations = rows.slots[at]
                slots.append(hop[3])
                generations.append(hop[4])
            at += 1
        values = request.values
        for number in self.reads:
            handle = values[number]
            assert type(handle) is TensorHandle
            slots, generations = rows.slots[at]
            slots.append(handle.slot)
            generations.append(handle.generation)
            at += 1
        return True


class Lean:
    """Says which orders are common, and puts those side by side.

    Args:
        enabled: False: none is common. For tests, which compare both ways.
    """

    def __init__(self, plan: Plan, compiled: CompiledPlan, enabled: bool = True) -> None:
        self._stages = compiled.stages
        self._may = [enabled and _may(mine, stage) for mine, stage in zip(plan.stages, compiled.stages)]
        #: By the stages of a way: the tensors that they read and do not make; None: it is not common.
        self._reads: dict[tuple[int, ...], tuple[int, ...] | None] = {}
        #: By the workers of a way: all orders that take it, or None if it is not common.
        self._taken: dict[tuple[int, ...], Taken | None] = {}

    def add(self, request: Request, way: Sequence[Way]) -> Taken | None:
        """Take in an order; None: it is not common. Otherwise those that take the same way."""
        if not is_common(request):
            return None
        workers = tuple([hop[1] for hop in way])
        if workers in self._taken:
            taken = self._taken[workers]
        else:
            taken = self._taken[workers] = self._take_in(way)
        return taken if taken is not None and taken.add(request, way) else None

    def _take_in(self, way: Sequence[Way]) -> Taken | None:
        stages = tuple([hop[0] for hop in way])
        if stages not in self._reads:
            self._reads[stages] = self._reads_of(stages)
        reads = self._reads[stages]
        return None if reads is None else Taken(reads, tuple([(hop[0], hop[1]) for hop in way]))

    def take(self) -> dict[int, list[Columns]]:
        """What was added since the last call, by the worker that is sent it."""
        if not self._taken:
            return {}
        ways, self._taken = self._taken, {}
        found: dict[int, list[Columns]] = {}
        for taken in ways.values():
            if taken is not None and taken.rows:
                found.setdefault(taken.story[0][1], []).extend([rows.columns() for rows in taken.rows.values()])
        return found

    def _reads_of(self, way: Sequence[int]) -> tuple[int, ...] | None:
        reads: dict[int, None] = {}
        made: set[int] = set()
        for index in way:
            stage = self._stages[index]
            if not self._may[index]:
                return None
            reads.update(dict.fromkeys([tensor for tensor in stage.sources if tensor not in made]))
            made.update(range(stage.base, stage.base + stage.fields))
        return tuple(reads)


def is_common(request: Request) -> bool:
    """Whether nothing about a request is rare."""
    # A deadline below 0, which a client may name, is over; no column holds it.
    return request.plain and not (request.deaths or request.group or request.skipped) and request.deadline >= 0


def _may(mine: StagePlan, stage: CompiledStage) -> bool:
    """Whether orders of a stage can be common."""
    fixed = all(spec.is_static and spec.dtype not in ENCODED and spec.many is None for spec in mine.inputs)
    return (
        fixed
        and stage.made is not None
        and stage.in_route
        and not (stage.lists or stage.may_miss or stage.ends_order)
        and stage.when is None
        and len(stage.pools) <= 1
    )
