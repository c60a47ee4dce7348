"""Dispatch: hands work to workers, as far ahead as can be decided now. Pure.

An order begins with the stage that the request waits for. While the next stage has a worker with credit and a free
slot, and no request waits for it, that stage becomes a further hop of the same order: the worker before it forwards the
request without the scheduler. The order ends with a stage that fans out, or whose output a condition asks for: what
comes next is known only when that stage has run.
"""

from __future__ import annotations

from pipeline.graph.compiled import NO_POOL, CompiledStage
from pipeline.scheduler.backlog import Backlog, due
from pipeline.scheduler.ledger import Request, Step, Worker
from pipeline.scheduler.recovery import Recovery
from pipeline.scheduler.state import NO_WORKER, State
from pipeline.wire.messages import Hop, Known, Order, SlotRef
from pipeline.wire.route import packed
from shm.handle import TensorHandle

__all__ = ["Dispatch"]


class Dispatch:
    """Orders and grants.

    Args:
        recovery: says of a request that is suspected of deaths, before it is ordered, whether it may still run.
    """

    def __init__(self, state: State, recovery: Recovery) -> None:
        self._state = state
        self._recovery = recovery

    def orders(self) -> None:
        """Order as much as there are credits and slots for."""
        for held, entered in self._state.streams.released():
            self._state.queue(held, entered)
        # Later stages first: the requests nearest to their end free slots soonest.
        for stage in reversed(self._state.compiled.stages):
            backlog, lines = self._state.backlogs[stage.index], self._state.streams.lines[stage.index]
            if lines:
                self._order_lines(stage, lines, backlog)
            while backlog and (worker := self._idle(stage)) is not None:
                # If no slot is large enough, the request waits, and so do those behind it.
                pool = self._state.sizes.pool_for(backlog.peek(), stage)
                if pool is None or (request := self._next(stage)) is None:
                    break
                stream = request.stream
                if stream is not None and stream.workers.get(stage.index, worker.number) != worker.number:
                    # Another child of its request was ordered a moment ago.
                    self._state.queue(request, stage)
                elif not (request.deaths and self._recovery.condemn(request, stage)):
                    self._order(request, stage, worker, pool)
            if lines:
                self._order_lines(stage, lines, None)

    def _order_lines(self, stage: CompiledStage, lines: dict[int, Backlog], backlog: Backlog | None) -> None:
        """Order what waits for one particular worker of a stage.

        Args:
            backlog: of the stage. If the turn of its head comes before that of the head of a line, the line waits.
                None: do not compare, since the backlog was served already.
        """
        for worker in self._state.stage_workers[stage.index]:
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

    def _order(self, request: Request, stage: CompiledStage, worker: Worker, pool: int) -> None:
        state = self._state
        stages, sizes = state.compiled.stages, state.sizes
        number = worker.number
        key = (request.id, request.attempt)
        hop: Hop | None = None
        route: list[bytes] = []
        known: dict[int, TensorHandle] = {}
        sender = NO_WORKER
        ahead = request.done
        while True:
            lease = None
            segment = slot = generation = 0
            if pool != NO_POOL:
                slot, generation = state.pools[pool].loan()
                segment = state.segments[pool]
                lease = SlotRef(segment, slot, generation)
            worker.credits -= request.rows
            worker.orders[key] = request.rows
            request.claimed |= stage.bit
            if request.stream is not None:
                request.stream.workers.setdefault(stage.index, worker.number)
            request.steps[stage.index] = Step(worker.number, request.attempt, lease, sender)
            if hop is None:
                inputs, lengths = request.inputs_of(stage)
                awaited = stage.notifies_at_once
                hop = Hop(stage.index, worker.number, segment, slot, generation, awaited, inputs, lengths)
            else:
                missing = request.missing_of(stage) if request.skipped & stage.may_miss else 0
                known.update(request.known_of(stage))
                route.append(packed(stage.index, missing, worker.number, segment, slot, generation))
            if stage.ends_order:
                break
            ahead |= stage.bit
            for index in stage.followers:
                follower = stages[index]
                if (
                    not follower.needs & ~ahead
                    and request.is_open(follower)
                    and request.holds(follower)
                    and not state.backlogs[index]
                    and not (request.group and index == request.suspected)
                    # A route cannot say these.
                    and follower.in_route
                    and (idle := self._worker_ahead(request, follower)) is not None
                    and (room := sizes.pool_for(request, follower)) is not None
                    and self._may_have(request, follower)
                ):
                    sender = worker.number
                    stage, worker, pool = follower, idle, room
                    break
            else:
                break
        order = Order(
            request.id,
            request.attempt,
            request.deadline,
            request.group,
            hop,
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
        request.events.append((state.now, order))
        state.out.orders[number].append(order)
