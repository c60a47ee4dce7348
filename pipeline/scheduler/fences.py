"""Fences: when a slot may be given to another request. Pure.

A slot may be given away when no process is left that could still read or write it. After a finished step that is at
once. A step that was cancelled is *fenced*: its worker is told to leave the order alone, and until the worker has
answered, or is dead, every slot of the whole family waits in `fenced_slots` of the root.
"""

from __future__ import annotations

from pipeline.graph.compiled import CompiledStage
from pipeline.scheduler.ledger import Request
from pipeline.scheduler.state import State
from pipeline.wire.messages import Fence, Fenced, SlotRef

__all__ = ["Fencing"]


class Fencing:
    """Takes back what was ordered, and the slots that no request needs any more."""

    def __init__(self, state: State) -> None:
        self._state = state

    def give_back(self, request: Request, lease: SlotRef) -> None:
        """A request has no more use for a slot: the slot comes back now, or after the last fence."""
        root = request.root
        if root.fences:
            root.fenced_slots.append(lease)
        else:
            self._state.let_go(self._state.ingress.clients.get(root.client), lease)

    def cancel(self, request: Request, stages: int) -> None:
        """Take back what was ordered of `stages`, a mask of unfinished ones."""
        for stage in self._state.compiled.stages:
            if not stage.bit & stages & request.claimed:
                continue
            request.claimed &= ~stage.bit
            step = request.steps[stage.index]
            if step is None:
                self._state.unqueue(request, stage)
                continue
            key = (request.id, step.attempt)
            worker = self._state.workers.get(step.worker)
            if worker is not None and key in worker.orders:
                request.root.fences.add((step.worker, *key))
                self._state.out.fences[step.worker].append(Fence(*key))

    def take_back(self, request: Request, current: CompiledStage) -> None:
        """A stage has not finished with this request: it, and what was ordered after it, will run again.

        The slots that those stages were given are given back. The scheduler ignores the notices of that attempt.
        """
        reopened = current.bit
        for stage in self._state.compiled.stages[current.index + 1 :]:
            step = request.steps[stage.index]
            if stage.needs & reopened and step is not None and not stage.bit & request.done:
                reopened |= stage.bit
        # Cancel first: `give_back` keeps slots back while a fence is out.
        self.cancel(request, reopened)
        for stage in self._state.compiled.stages[current.index :]:
            if stage.bit & reopened:
                step = request.steps[stage.index]
                request.steps[stage.index] = None
                if step is not None and step.lease is not None:
                    self.give_back(request, step.lease)
        request.attempt += 1

    def fenced(self, message: Fenced) -> None:
        """A worker has left orders alone, as it was told to."""
        if message.epoch != self._state.epoch:
            return
        worker = self._state.workers.get(message.worker)
        for fence in message.fences:
            if worker is not None:
                worker.close(fence.request, fence.attempt)
            request = self._state.requests.get(fence.request)
            if request is not None:
                self.lift(request, message.worker, fence.attempt)

    def lift(self, request: Request, worker: int, attempt: int) -> None:
        """A worker can no longer touch the slots of an attempt. After the last fence the kept slots come back."""
        root = request.root
        root.fences.discard((worker, request.id, attempt))
        if root.fences:
            return
        fenced_slots, root.fenced_slots = root.fenced_slots, []
        for lease in fenced_slots:
            self.give_back(root, lease)
        if root.answered:
            self.forget(tuple(root.family()))

    def forget(self, family: tuple[Request, ...]) -> None:
        """Requests that are answered, and whose fences are all lifted, leave the ledger."""
        for member in family:
            self._state.requests.pop(member.id, None)
            # Child and parent refer to each other: dropped here, since otherwise only the collector would free them.
            member.children.clear()
