"""Invariants: what holds of the scheduler's state after every event, whatever has happened. Pure.

The simulation checks them after each decision. A person who looks for a fault calls `Scheduler.validate`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pipeline.scheduler.ledger import Request
from pipeline.scheduler.state import State
from pipeline.wire.messages import SlotRef

__all__ = ["violations"]


def violations(state: State) -> list[str]:
    """What does not hold, one line each; empty if all holds."""
    return [*_credits(state), *_queues(state), *_fences(state), *_slots(state), *_clients(state)]


def _credits(state: State) -> Iterator[str]:
    """A credit is either free or stands for a row of an order."""
    apart_from_others = {*state.retiring, *state.retired, *state.trials.values()}
    for worker in state.workers.values():
        most = state.compiled.stages[worker.stage].credits
        rows = worker.orders.values()
        # An order goes out if there is one credit for its rows.
        if worker.credits + sum(rows) != most or worker.credits + max(rows, default=1) <= 0:
            yield f"worker {worker.number} has {worker.credits} credits and orders of {sum(rows)} rows, of {most}"
        apart = worker.number in apart_from_others
        if (worker in state.stage_workers[worker.stage]) is apart:
            yield f"worker {worker.number} {'leaves' if apart else 'is no worker of'} stage {worker.stage}"
        # Otherwise its notice would still be needed: see `Orders.settled`.
        if over := [number for number, _ in worker.orders if number not in state.requests]:
            yield f"worker {worker.number} has orders of requests {over}, which are over"
    if sum(map(len, state.stage_workers)) != len(state.workers.keys() - apart_from_others):
        yield "a stage has a worker that is not known"


def _queues(state: State) -> Iterator[str]:
    """A request that has claimed a stage and was not ordered waits for the stage, and no other does."""
    waiting: Counter[int] = Counter()
    for request in state.unfinished():
        for stage in state.compiled.stages:
            step = request.steps[stage.index]
            if request.claimed & stage.bit and not request.done & stage.bit and step is None:
                waiting[stage.index] += 1
            if step is not None and not request.done & stage.bit and not _is_ordered(state, request, stage.index):
                yield f"{request} waits for {stage.name} of worker {step.worker}, which has no order of it"
    for stage in state.compiled.stages:
        if (found := state.waiting(stage.index)) != waiting[stage.index]:
            yield f"{waiting[stage.index]} requests wait for {stage.name}, {found} are in its backlog"


def _is_ordered(state: State, request: Request, stage: int) -> bool:
    step = request.steps[stage]
    worker = None if step is None else state.workers.get(step.worker)
    return step is not None and worker is not None and (request.id, step.attempt) in worker.orders


def _fences(state: State) -> Iterator[str]:
    """A fence stands for an order that its worker still has."""
    for request in state.requests.values():
        for number, ordered, attempt in request.fences:
            if number >= 0 and (
                (worker := state.workers.get(number)) is None or (ordered, attempt) not in worker.orders
            ):
                yield f"{request} waits for worker {number} to give up {ordered}, attempt {attempt}, which it has not"
        if request.fenced_slots and not request.fences:
            yield f"{request} keeps slots back for no fence"
        if request.answered and request.parent is None and not request.fences:
            yield f"{request} is over and still known"


def _slots(state: State) -> Iterator[str]:
    """Every slot that is out is held by a request or by a client, and every slot that is held is out."""
    held: set[SlotRef] = set()
    for request in state.requests.values():
        held.update(request.fenced_slots)
        if request.ingress is not None:
            held.add(request.ingress)
        held.update(step.lease for step in request.steps if step is not None and step.lease is not None)
    for client in state.ingress.clients.values():
        held |= client.granted | client.borrowed
    for segment, pool in zip(state.segments, state.pools):
        mine = sum(lease.segment == segment for lease in held)
        if mine != pool.in_use:
            yield f"{pool.in_use} slots of segment {segment} are out, {mine} are held"
    roots = sum(request.parent is None for request in state.requests.values())
    if roots > sum(pool.slots for pool in state.pools):
        yield f"{roots} requests are inside, which is more than there are slots"


def _clients(state: State) -> Iterator[str]:
    """The counts of what clients have out, and in hand, are right."""
    clients = state.ingress.clients.values()
    for segment, in_hand in state.ingress.in_hand.items():
        granted = sum(lease.segment == segment for client in clients for lease in client.granted)
        if granted != in_hand:
            yield f"clients have {granted} slots of segment {segment} in hand, {in_hand} are counted"
        out = sum(client.out.get(segment, 0) for client in clients)
        if not 0 <= out <= state.pools[state.segments.index(segment)].in_use:
            yield f"clients have {out} slots of segment {segment} out, which is not what its pool says"
    for client in clients:
        for number in client.requests:
            request = state.requests.get(number)
            if request is None or request.answered or request.client != client.number:
                yield f"client {client.number} waits for request {number}, which is not its own, or is over"
