"""Dispatch: hands work to workers, as far ahead as can be decided now. Pure.

An order begins with the stage that the request waits for. While the next stage has a worker with credit and a free
slot, and no request waits for it, that stage becomes a further hop of the same order: the worker before it forwards the
request without the scheduler. The order ends with a stage that fans out, or whose output a condition asks for: what
comes next is known only when that stage has run.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.graph.compiled import NO_POOL, CompiledStage
from pipeline.scheduler.backlog import Backlog, due
from pipeline.scheduler.lean import Lean, Taken, Way, is_common
from pipeline.scheduler.ledger import Request, Step, Worker
from pipeline.scheduler.recovery import Recovery
from pipeline.scheduler.state import NO_WORKER, State
from pipeline.wire.messages import Hop, Known, Order, SlotRef
from pipeline.wire.route import packed
from shm.handle import TensorHandle
from shm.pool import SlotPool

__all__ = ["Dispatch"]

_SHARED_STEPS = 4096


class _Repeated:
    """The way of a common order, for the requests behind it that are exactly as far: within one row of orders nothing
    changes but credits and free slots. So as long as each of its workers has a credit and each of its pools a slot,
    they take the same way, and it need not be looked for again.

    Args:
        first: the request that was ordered, as it was before.
        taken: what takes in the orders of this way.
    """

    __slots__ = ("before", "conditions", "done", "hops", "stages", "taken")

    def __init__(self, first: Request, before: int, taken: Taken, hops: list[_Hop]) -> None:
        #: Masks of the stages that are claimed and done, and of the conditions that hold.
        self.before, self.done, self.conditions = before, first.done, first.conditions
        self.taken = taken
        self.hops = hops
        #: Mask of its stages.
        self.stages = first.claimed

    def fits(self, request: Request) -> bool:
        """Whether a request takes this way, if there is room."""
        return (
            is_common(request)
            and request.done == self.done
            and request.claimed == self.before
            and request.conditions == self.conditions
        )

    @property
    def has_room(self) -> bool:
        """Whether each worker has a credit, and each pool a slot."""
        for hop in self.hops:  # noqa: SIM110 - for each order
            if hop.worker.credits <= 0 or (hop.pool is not None and not hop.pool.free):
                return False
        return True


class _Hop:
    """One hop of it."""

    __slots__ = ("index", "pool", "segment", "sender", "way", "worker")

    def __init__(self, worker: Worker, way: Way, sender: int, pool: SlotPool | None) -> None:
        self.worker = worker
        self.index = way[0]
        self.segment = way[2]
        #: Of the first request; those of the others differ by the slot, if there is one.
        self.way = way
        self.sender = sender
        self.pool = pool


class Dispatch:
    """Orders and grants.

    Args:
        recovery: says of a request that is suspected of deaths, before it is ordered, whether it may still run.
        lean: takes in the common orders.
    """

    def __init__(self, state: State, recovery: Recovery, lean: Lean) -> None:
        self._state = state
        self._recovery = recovery
        self._lean = lean
        self._shared: dict[tuple[int, int, int], Step] = {}
        #: Whether requests have no slot kept for one of them: otherwise each must be looked at.
        self._repeats = not any(stage.guards_last_slot for stage in state.compiled.stages)

    def orders(self) -> None:
        """Order as much as there are credits and slots for."""
        for held, entered in self._state.streams.released():
            self._state.queue(held, entered)
        # Later stages first: the requests nearest to their end free slots soonest.
        for stage in reversed(self._state.compiled.stages):
            backlog, lines = self._state.backlogs[stage.index], self._state.streams.lines[stage.index]
            if lines:
                self._order_lines(stage, lines, backlog)
            last: _Repeated | None = None
            while backlog:
                if last is not None and last.has_room and last.fits(backlog.peek()):
                    self._order_again(backlog.pop(), last)
                    continue
                last = None
                if (worker := self._idle(stage)) is None:
                    break
                # If no slot is large enough, the request waits, and so do those behind it.
                pool = self._state.sizes.pool_for(backlog.peek(), stage)
                if pool is None or (request := self._next(stage)) is None:
                    break
                stream = request.stream
                if stream is not None and stream.workers.get(stage.index, worker.number) != worker.number:
                    # Another child of its request was ordered a moment ago.
                    self._state.queue(request, stage)
                elif not (request.deaths and self._recovery.condemn(request, stage)):
                    last = self._order(request, stage, worker, pool)
            if lines:
                self._order_lines(stage, lines, None)

    def _order_lines(self, stage: CompiledStage, lines: dict[int, Backlog], backlog: Backlog | None) -> None:
        """Order what waits for one particular worker of a stage.

        Args:
            backlog: of the stage. If the turn of its head comes before that of the head of a line, the line waits.
                None: do not compare, since the backlog was served already.
        """
        for worker in self._state.takers(stage.index):
            line = lines.get(worker.number)
            while line and worker.credits > 0:
                head = line.peek()
                if backlog and due(backlog.peek()) < due(head):
                    break
                pool = self._state.sizes.pool_for(head, stage)
                if pool is None or not self._may_have(head, stage):
                    break
                line.pop()
                if not (head.deaths and self._recovery.condemn(head, stage)):
                    self._order(head, stage, worker, pool)

    def grants(self) -> None:
        """Give free ingress slots to the clients that want them."""
        state = self._state
        for client, slot in state.ingress.grants(state.now, state.out.answers):
            state.out.grants[client.number].append(slot)
        for client in state.ingress.settled():
            # Even if it was granted nothing: the client waits to be told so.
            state.out.grants[client.number] += ()

    def _idle(self, stage: CompiledStage) -> Worker | None:
        """The worker of a stage with the most credits; None if none has any."""
        best: Worker | None = None
        most = 0
        for worker in self._state.stage_workers[stage.index]:
            if worker.credits > most:
                best, most = worker, worker.credits
        return best

    def _worker_ahead(self, request: Request, stage: CompiledStage) -> Worker | None:
        """The worker of a later stage to which the request may be forwarded; None if there is none with credit."""
        stream = request.stream
        if stream is None:
            return self._idle(stage)
        if not stream.may_enter(request, stage):
            return None
        number = stream.workers.get(stage.index)
        if number is None:
            return self._idle(stage)
        worker = self._state.workers.get(number)
        if worker is None or worker.credits <= 0 or self._state.streams.line(request, stage):
            return None
        return worker

    def _next(self, stage: CompiledStage) -> Request | None:
        """The request to order next; None: the last slot is kept for a request that does not wait for it yet."""
        backlog = self._state.backlogs[stage.index]
        if not stage.guards_last_slot or self._state.pools[stage.pools[0]].free > 1:
            return backlog.pop()
        eldest = self._eldest(stage)
        return eldest if eldest is not None and backlog.remove(eldest) else None

    def _eldest(self, stage: CompiledStage) -> Request | None:
        return self._state.eldest(
            stage.scope, lambda r: bool(stage.bit & r.done) or r.steps[stage.index] is not None
        )

    def _may_have(self, request: Request, stage: CompiledStage) -> bool:
        """Whether a request that does not wait for a stage may have the slot that it would fill."""
        if not stage.guards_last_slot or self._state.pools[stage.pools[0]].free > 1:
            return True
        return self._eldest(stage) is request

    def _order(self, request: Request, stage: CompiledStage, worker: Worker, pool: int) -> _Repeated | None:
        """Order a request from a stage on, as far ahead as can be. Returns its way, if others may take the same."""
        state = self._state
        stages = state.compiled.stages
        attempt, rows, stream = request.attempt, request.rows, request.stream
        key = (request.id, attempt)
        way: list[Way] = []
        sender = NO_WORKER
        first, ahead, before = stage.index, request.done, request.claimed
        while True:
            if pool != NO_POOL:
                slot, generation = state.pools[pool].loan()
                segment = state.segments[pool]
                step = Step(worker.number, attempt, SlotRef(segment, slot, generation), sender)
                way.append((stage.index, worker.number, segment, slot, generation))
            else:
                step = self._slotless(worker.number, attempt, sender)
                way.append((stage.index, worker.number, 0, 0, 0))
            worker.credits -= rows
            worker.orders[key] = rows
            request.claimed |= stage.bit
            if stream is not None:
                stream.workers.setdefault(stage.index, worker.number)
            request.steps[stage.index] = step
            if stage.ends_order:
                break
            ahead |= stage.bit
            for index in stage.followers:
                follower = stages[index]
                if (
                    not follower.needs & ~ahead
                    and not state.backlogs[index]
                    and request.is_open(follower)
                    and request.holds(follower)
                    and not (request.group and index == request.suspected)
                    # A route cannot say these.
                    and follower.in_route
                    and (idle := self._worker_ahead(request, follower)) is not None
                    and (room := state.sizes.pool_for(request, follower)) is not None
                    and self._may_have(request, follower)
                ):
                    sender = worker.number
                    stage, worker, pool = follower, idle, room
                    break
            else:
                break
        if (taken := self._lean.add(request, way)) is None:
            self._order_apart(request, way)
            return None
        request.events.append((state.now, taken.story))
        # With one request in flight none is behind it.
        return self._repeated(request, before, taken, way) if state.backlogs[first] else None

    def _order_apart(self, request: Request, way: Sequence[Way]) -> None:
        """Send an order that is not common, as a message's own."""
        order = self._order_of(request, way)
        request.events.append((self._state.now, order))
        self._state.out.orders[order.hop.worker].append(order)

    def _repeated(self, request: Request, before: int, taken: Taken, way: Sequence[Way]) -> _Repeated | None:
        """The way that a common order has taken; None: the next one may have to take another.

        Args:
            before: the request's `claimed` before it.
        """
        state = self._state
        hops: list[_Hop] = []
        for hop in way:
            # Of several workers, the one with the most credits is next.
            if not self._repeats or len(state.stage_workers[hop[0]]) != 1:
                return None
            step = request.steps[hop[0]]
            assert step is not None
            pool = None if step.lease is None else state.pool_of(step.lease)
            hops.append(_Hop(state.stage_workers[hop[0]][0], hop, step.sender, pool))
        return _Repeated(request, before, taken, hops)

    def _order_again(self, request: Request, last: _Repeated) -> None:
        """As `_order`, of a request that takes the way of the one before it."""
        key = (request.id, request.attempt)
        way: list[Way] = []
        for hop in last.hops:
            worker = hop.worker
            worker.credits -= 1
            worker.orders[key] = 1
            if hop.pool is None:
                request.steps[hop.index] = self._slotless(worker.number, request.attempt, hop.sender)
                way.append(hop.way)
                continue
            slot, generation = hop.pool.loan()
            lease = SlotRef(hop.segment, slot, generation)
            request.steps[hop.index] = Step(worker.number, request.attempt, lease, hop.sender)
            way.append((hop.index, worker.number, hop.segment, slot, generation))
        request.claimed = last.stages
        if last.taken.add(request, way):
            request.events.append((self._state.now, last.taken.story))
        else:
            self._order_apart(request, way)

    def _slotless(self, worker: int, attempt: int, sender: int) -> Step:
        """A step that fills no slot. Many requests share it, since it has nothing that is one request's own."""
        key = (worker, attempt, sender)
        step = self._shared.get(key)
        if step is None:
            if len(self._shared) > _SHARED_STEPS:
                self._shared.clear()
            step = self._shared[key] = Step(worker, attempt, None, sender)
        return step

    def _order_of(self, request: Request, way: Sequence[Way]) -> Order:
        """The order of a request that goes this way."""
        stages = self._state.compiled.stages
        first = stages[way[0][0]]
        inputs, lengths = request.inputs_of(first)
        known: dict[int, TensorHandle] = {}
        route: list[bytes] = []
        for index, worker, segment, slot, generation in way[1:]:
            stage = stages[index]
            missing = request.missing_of(stage) if request.skipped & stage.may_miss else 0
            known.update(request.known_of(stage))
            route.append(packed(index, missing, worker, segment, slot, generation))
        return Order(
            request.id,
            request.attempt,
            request.deadline,
            request.group,
            Hop(*way[0], first.notifies_at_once, inputs, lengths),
            b"",
            request.label,
            0 if request.stream is None else request.stream.number,
            request.sequence,
            request.started,
            request.traceparent,
            b"".join(route),
            tuple([Known(tensor, handle) for tensor, handle in known.items()]),
            request.rows,
        )
