"""Completion: what workers say of their orders, and the end of a request. Pure.

When a slot may be given to somebody else: when nobody is left who could still read or write it. For
a finished step that is at once. For a step that was cancelled it is when its worker has answered the
fence, or is dead; until then every slot of its request waits in `scrap`.
"""

from __future__ import annotations

from pipeline.scheduler.ledger import Lease, Request
from pipeline.scheduler.routes import Route
from pipeline.scheduler.state import State
from pipeline.wire.messages import OK, Answer, Fence, Fenced, Notice
from shm.handle import TensorHandle

__all__ = ["Completion"]


class Completion:
    """Notices, answers, cancellations and fences."""

    def __init__(self, state: State) -> None:
        self._state = state

    def notice(self, number: int, notice: Notice) -> None:
        worker = self._state.workers.get(number)
        if worker is None or not worker.close(notice.request, notice.attempt):
            # Fenced, from a worker that was declared dead, or not ours: the step runs elsewhere by now.
            self._state.counts["late_notices"] += 1
            return
        request = self._state.requests.get(notice.request)
        if request is None:
            return
        if request.fences:
            # It has run: as good as the answer to its fence, which may never come if the worker dies now.
            self.unfence(request, number, notice.attempt)
        if request.answered:
            return
        route = self._state.routes.stages[worker.stage]
        step = request.steps[route.index]
        if step is None or step.worker != number or step.attempt != notice.attempt:
            self._state.counts["late_notices"] += 1
            return
        if notice.code != OK:
            self.finish(request, notice.code, notice.message)
            return
        lease = step.lease
        if lease is not None:
            if len(notice.outputs) != route.fields:
                self.finish(request, "StageFailed", f"stage {route.name} gave {len(notice.outputs)} tensors")
                return
            pool = self._state.pools[lease.pool]
            pool.commit(lease.slot, lease.generation)
            pool.borrow(lease.slot, lease.generation)
            request.values[route.base : route.base + route.fields] = notice.outputs
        if notice.trace[: len(request.traces)] == request.traces:
            request.traces = notice.trace
        else:
            # Branches run side by side; each brings what was before it, and its own.
            request.traces += tuple(trace for trace in notice.trace if trace not in request.traces)
        request.done |= route.bit
        # It has survived this stage: whatever killed its worker before, it was not this request.
        request.deaths = request.group = 0
        self._state.last_ok[route.index] = self._state.now
        self._settle_before(request, route)
        if not self._state.routes.last & ~request.done and self._has_outputs(request):
            self.finish(request, OK, "")
            return
        self._inputs_read(request, route)
        self._queue_followers(request, route)

    def _settle_before(self, request: Request, route: Route) -> None:
        """What had to run before `route` has run, or `route` could not have.

        Where all that follow a stage have finished, nothing is missed of its notice, which may come much
        later or die with its worker: it is taken for said. Else a stage could run again, for nobody, and
        read and write while the request is answered.
        """
        for stage in self._state.routes.stages:
            if not stage.bit & route.needs & ~request.done or self._state.routes.kept[stage.index + 1]:
                continue
            if any(not self._state.routes.stages[index].bit & request.done for index in stage.followers):
                continue
            request.done |= stage.bit
            self._state.last_ok[stage.index] = self._state.now
            step = request.steps[stage.index]
            worker = None if step is None else self._state.workers.get(step.worker)
            if step is not None and worker is not None:
                worker.close(request.id, step.attempt)
            self._inputs_read(request, stage)
            self._settle_before(request, stage)

    def _has_outputs(self, request: Request) -> bool:
        values = request.values
        return all(values[tensor] is not None for tensor in self._state.routes.outputs)

    def _inputs_read(self, request: Request, route: Route) -> None:
        """`route` has finished: give back every slot that nobody else is going to read."""
        for producer in route.reads:
            request.readers[producer + 1] -= 1
            if request.readers[producer + 1] or self._state.routes.kept[producer + 1]:
                continue
            if producer < 0:
                lease, request.ingress = request.ingress, None
            else:
                step = request.steps[producer]
                lease = None if step is None else step.lease
                if step is not None:
                    request.steps[producer] = step._replace(lease=None)
            if lease is not None:
                self.give_back(request, lease)

    def _queue_followers(self, request: Request, route: Route) -> None:
        for index in route.followers:
            follower = self._state.routes.stages[index]
            if not (follower.needs & ~request.done) and not (request.claimed | request.done) & follower.bit:
                request.claimed |= follower.bit
                self._state.backlogs[index].push(request)

    def finish(self, request: Request, code: str, message: str) -> None:
        """Answer, and let go of every slot, as soon as nobody can touch it any more."""
        request.answered = True
        client = self._state.ingress.clients.get(request.client)
        if code != OK:
            self.cancel(request, self._state.routes.everything & ~request.done)
        kept = self._state.routes.kept
        outputs: tuple[TensorHandle, ...] = ()
        if code == OK:
            outputs = tuple([request.values[tensor] for tensor in self._state.routes.outputs])  # type: ignore[misc]
        for producer in range(-1, len(request.steps)):
            if producer < 0:
                lease, request.ingress = request.ingress, None
            else:
                step = request.steps[producer]
                if step is None:
                    continue
                lease = step.lease
                request.steps[producer] = None
            if lease is None:
                continue
            if code == OK and client is not None and kept[producer + 1]:
                client.borrowed.add(lease)
                if request.fences:
                    # A cancelled order may still read it, also after the client has let go.
                    self._state.pools[lease.pool].borrow(lease.slot, lease.generation)
                    request.scrap.append(lease)
            else:
                self.give_back(request, lease)
        self._state.counts["answered" if code == OK else f"failed_{code}"] += 1
        if client is not None:
            client.requests.discard(request.id)
            self._state.ingress.wake(client)
            self._state.out.answers[client.number].append(Answer(request.tag, code, message, outputs, request.traces))
        if not request.fences:
            del self._state.requests[request.id]

    def give_back(self, request: Request, lease: Lease) -> None:
        if request.fences:
            request.scrap.append(lease)
        else:
            self._state.let_go(self._state.ingress.clients.get(request.client), lease)

    def cancel(self, request: Request, stages: int) -> None:
        """Take back what was ordered of `stages`, a mask of unfinished ones."""
        for route in self._state.routes.stages:
            if not route.bit & stages & request.claimed:
                continue
            request.claimed &= ~route.bit
            step = request.steps[route.index]
            if step is None:
                self._state.backlogs[route.index].remove(request)
                continue
            key = (request.id, step.attempt)
            worker = self._state.workers.get(step.worker)
            if worker is not None and key in worker.orders:
                request.fences.add((step.worker, step.attempt))
                self._state.out.fences[step.worker].append(Fence(*key))

    def fenced(self, message: Fenced) -> None:
        if message.epoch != self._state.epoch:
            return
        worker = self._state.workers.get(message.worker)
        for fence in message.fences:
            if worker is not None:
                worker.close(fence.request, fence.attempt)
            request = self._state.requests.get(fence.request)
            if request is not None:
                self.unfence(request, message.worker, fence.attempt)

    def unfence(self, request: Request, worker: int, attempt: int) -> None:
        request.fences.discard((worker, attempt))
        if request.fences:
            return
        scrap, request.scrap = request.scrap, []
        for lease in scrap:
            self.give_back(request, lease)
        if request.answered:
            self._state.requests.pop(request.id, None)
