"""Scheduler: the one place that decides which request runs where, and which slot belongs to whom.

A pure state machine: `handle` takes one message, `decide` hands out what can be handed out and
returns the instructions. The process around it (`pipeline.processes.scheduler`) does the I/O. It
never touches a tensor's bytes.

The life of a request:

    Submit ─▶ backlog of its first stage ─▶ order ─▶ Notice ─▶ backlog of the next ... ─▶ Answer
                     ▲                        │
                     └── its worker died ─────┘   (next attempt, fresh slots, old worker's orders fenced)

An order goes as far ahead as can be told now: while the next stage has a worker with credit and a
free slot, and nobody waits for it, that stage becomes a further hop of the same order, and the
worker before it forwards the request without coming back here.

When a slot may be given to somebody else: when nobody is left who could still read or write it.
For a finished step that is at once. For a step that was cancelled it is when its worker has
answered the fence, or is dead.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.graph.plan import Plan
from pipeline.scheduler.backlog import Backlog
from pipeline.scheduler.ingress import Client, Ingress
from pipeline.scheduler.instructions import Instructions
from pipeline.scheduler.ledger import Lease, Request, Step, Worker
from pipeline.scheduler.routes import NO_POOL, Route, Routes
from pipeline.wire.messages import (
    OK,
    Answer,
    Drain,
    Drained,
    Fence,
    Fenced,
    Grant,
    Hop,
    Loan,
    Notice,
    Notices,
    Order,
    Ready,
    SlotRef,
    StageBroken,
    Submission,
    Submit,
    WorkerGone,
    WorkerReport,
)
from shm.handle import TensorHandle, itemsize
from shm.pool import SlotPool

__all__ = ["Scheduler"]

MAX_DEATHS = 2
"""A request that was being run by this many workers when they died fails; it is taken for the cause."""

_NO_SLOT = (0, 0, 0)

_NOBODY = -1
"""No client, and no worker, has this number."""


class Scheduler:
    """The state of everything that is inside the pipeline."""

    def __init__(self, plan: Plan, pools: Sequence[SlotPool], segments: Sequence[int], epoch: int) -> None:
        """
        Args:
            plan: what runs.
            pools: one for each of `plan.pools`, in that order.
            segments: the segment number of each pool.
            epoch: which life of the scheduler this is; workers and clients drop what is older.
        """
        self.plan = plan
        self.routes = Routes.of(plan)
        self.epoch = epoch
        self._pools = pools
        self._segments = segments
        self._pool_of_segment = {number: index for index, number in enumerate(segments)}
        self.ingress = Ingress(pools, self.routes.ingress_pools)
        self.requests: dict[int, Request] = {}
        self.workers: dict[int, Worker] = {}
        #: Numbers of the dead, so that a Ready that was still on its way does not raise them.
        self._gone: set[int] = set()
        self._crews: list[list[Worker]] = [[] for _ in plan.stages]
        self._backlogs = [Backlog() for _ in plan.stages]
        self._broken: dict[int, str] = {}
        # Numbers of an earlier epoch never come again, so that a late message cannot hit a new request.
        self._next_request = (epoch << 40) + 1
        self._deadlines: list[tuple[int, int]] = []
        self._accepted: dict[tuple[int, int, str, tuple[int, ...], int], str | None] = {}
        self._draining = False
        self._drained = False
        self.counts: Counter[str] = Counter()
        self.reports: dict[int, WorkerReport] = {}
        self._out = Instructions()
        self._now = 0

    # -- events -----------------------------------------------------------------------------------

    def handle(self, message: Any, now: int) -> None:
        """Take in one message of a worker or of the supervisor. `now`: monotonic nanoseconds."""
        self._now = now
        if type(message) is Notices:
            if message.epoch == self.epoch:
                for notice in message.notices:
                    self._notice(message.worker, notice)
            return
        handler = _HANDLERS.get(type(message))
        if handler is None:
            self.counts["unexpected_messages"] += 1
        else:
            handler(self, message)

    def hello(self, number: int, name: str, now: int) -> Client:
        """A client has connected. One that says hello again has lost its memory: it starts anew."""
        self._now = now
        if number in self.ingress.clients:
            self.client_gone(number, now)
        return self.ingress.join(number, name)

    def loan(self, message: Loan) -> None:
        """A client wants to hold so many slots of an ingress segment."""
        client = self.ingress.clients.get(message.client)
        pool = self._pool_of_segment.get(message.segment, NO_POOL)
        if client is None or not self.ingress.want(client, pool, message.level):
            self.counts["refused_loans"] += 1

    def submit(self, message: Submit, now: int) -> None:
        """A client's requests, and the slots that it has finished with."""
        self._now = now
        client = self.ingress.clients.get(message.client)
        if client is None:
            # Unknown, or gone: it holds no slot that could be read.
            self.counts["refused_submissions"] += len(message.submissions)
            return
        for submission in message.submissions:
            self._submission(client, submission)
        for ref in message.releases:
            self._release(client, ref)

    def client_gone(self, number: int, now: int) -> None:
        """A client said goodbye or is dead: nobody writes or reads its slots any more."""
        self._now = now
        client = self.ingress.leave(number)
        if client is None:
            return
        for lease in client.granted:
            self._pools[lease.pool].abandon(lease.slot, lease.generation)
        for lease in client.borrowed:
            self._pools[lease.pool].release(lease.slot, lease.generation)
        for request_number in tuple(client.requests):
            request = self.requests[request_number]
            # Ordered work finishes and is dropped; what still waits here need not run at all.
            if all(step is None for step in request.steps):
                self._finish(request, "Unavailable", "its client has gone")
            # Its number may come again, with another life behind it.
            request.client = _NOBODY

    def tick(self, now: int) -> None:
        """Expire deadlines. Called now and then."""
        self._now = now
        while self._deadlines and self._deadlines[0][0] <= now:
            _, number = heapq.heappop(self._deadlines)
            request = self.requests.get(number)
            if request is not None and not request.answered:
                self._finish(request, "DeadlineExceeded", self._lateness(request))

    # -- submissions ------------------------------------------------------------------------------

    def _submission(self, client: Client, submission: Submission) -> None:
        ref = submission.slot
        lease = Lease(self._pool_of_segment.get(ref.segment, NO_POOL), ref.slot, ref.generation)
        if lease not in client.granted:
            self._refuse(
                client.number,
                submission,
                "InvalidRequest",
                f"slot {tuple(ref)} was not granted to this client, or was submitted already",
            )
            return
        why = self._misfit(lease, submission)
        if why is None and self._draining:
            self._refuse(client.number, submission, "Unavailable", "the pipeline is stopping")
        elif why is None and self._broken:
            stage, reason = next(iter(self._broken.items()))
            self._refuse(
                client.number, submission, "StageUnavailable", f"stage {self.plan.stages[stage].name}: {reason}"
            )
        elif why is not None:
            self._refuse(client.number, submission, "InvalidRequest", why)
        else:
            self._admit(client, lease, submission)
            return
        # A refused request leaves its slot with the client, to fill again.
        self._out.grants[client.number].append(Grant(ref))

    def _admit(self, client: Client, lease: Lease, submission: Submission) -> None:
        routes = self.routes
        client.granted.remove(lease)
        pool = self._pools[lease.pool]
        pool.commit(lease.slot, lease.generation)
        pool.borrow(lease.slot, lease.generation)
        number = self._next_request
        self._next_request += 1
        request = Request(
            number,
            client.number,
            submission.tag,
            lease,
            submission.inputs,
            stages=len(routes.stages),
            tensors=routes.tensors,
            readers=routes.readers,
            deadline=submission.deadline,
            priority=submission.priority,
            submitted=self._now,
        )
        self.requests[number] = request
        client.requests.add(number)
        if submission.deadline:
            heapq.heappush(self._deadlines, (submission.deadline, number))
        for stage in routes.first:
            request.claimed |= 1 << stage
            self._backlogs[stage].push(request)
        self.counts["requests"] += 1

    def _misfit(self, lease: Lease, submission: Submission) -> str | None:
        specs = self.plan.inputs
        if len(submission.inputs) != len(specs):
            return f"expected {len(specs)} inputs, found {len(submission.inputs)}"
        for index, handle in enumerate(submission.inputs):
            if (handle.segment, handle.slot, handle.generation) != submission.slot:
                return f"input {specs[index].name!r} does not lie in the submitted slot"
            key = (index, handle.offset, handle.dtype, handle.shape, lease.pool)
            if key in self._accepted:
                why = self._accepted[key]
            else:
                why = self._misfit_of(index, handle, self.plan.pools[lease.pool].slot_bytes)
                if len(self._accepted) > 4096:
                    self._accepted.clear()
                self._accepted[key] = why
            if why is not None:
                return why
        return None

    def _misfit_of(self, index: int, handle: TensorHandle, slot_bytes: int) -> str | None:
        spec = self.plan.inputs[index]
        why = spec.misfit(handle.dtype, handle.shape)
        if why is not None:
            return f"input {spec.name!r}: {why}"
        if min(handle.shape, default=0) < 0 or handle.offset < 0 or handle.offset % itemsize(handle.dtype):
            return f"input {spec.name!r}: offset {handle.offset} or shape {list(handle.shape)} is no place for a tensor"
        if handle.offset + handle.nbytes > slot_bytes:
            return f"input {spec.name!r}: {handle.nbytes} bytes at {handle.offset} do not fit a slot of {slot_bytes}"
        return None

    def _refuse(self, client: int, submission: Submission, code: str, message: str) -> None:
        self.counts[f"refused_{code}"] += 1
        self._out.answers[client].append(Answer(submission.tag, code, message, (), ()))

    def _release(self, client: Client, ref: SlotRef) -> None:
        lease = Lease(self._pool_of_segment.get(ref.segment, NO_POOL), ref.slot, ref.generation)
        if lease in client.borrowed:
            client.borrowed.remove(lease)
        elif lease in client.granted:
            client.granted.remove(lease)
        else:
            self.counts["refused_releases"] += 1
            return
        self._let_go(client, lease)

    # -- workers ----------------------------------------------------------------------------------

    def _worker_ready(self, message: Ready) -> None:
        known = message.worker in self.workers or message.worker in self._gone
        if known or not 0 <= message.stage < len(self.routes.stages):
            return
        worker = Worker(
            message.worker, message.stage, message.replica, message.pid, self.routes.stages[message.stage].credits
        )
        self.workers[worker.number] = worker
        self._crews[worker.stage].append(worker)

    def _notice(self, number: int, notice: Notice) -> None:
        worker = self.workers.get(number)
        key = (notice.request, notice.attempt)
        if worker is None or key not in worker.orders:
            # Fenced, from a worker that was declared dead, or not ours: the step runs elsewhere by now.
            self.counts["late_notices"] += 1
            return
        worker.orders.remove(key)
        worker.credits += 1
        request = self.requests.get(notice.request)
        if request is None:
            return
        if request.fences:
            # It has run: as good as the answer to its fence, which may never come if the worker dies now.
            self._unfence(request, number, notice.attempt)
        if request.answered:
            return
        route = self.routes.stages[worker.stage]
        step = request.steps[route.index]
        if step is None or step.worker != number or step.attempt != notice.attempt:
            self.counts["late_notices"] += 1
            return
        if notice.code != OK:
            self._finish(request, notice.code, notice.message)
            return
        lease = step.lease
        if lease is not None:
            if len(notice.outputs) != route.fields:
                self._finish(request, "StageFailed", f"stage {route.name} gave {len(notice.outputs)} tensors")
                return
            pool = self._pools[lease.pool]
            pool.commit(lease.slot, lease.generation)
            pool.borrow(lease.slot, lease.generation)
            request.values[route.base : route.base + route.fields] = notice.outputs
        if len(notice.trace) > len(request.traces):
            request.traces = notice.trace
        request.done |= route.bit
        self._settle_before(request, route)
        if not self.routes.last & ~request.done and self._has_outputs(request):
            self._finish(request, OK, "")
            return
        self._inputs_read(request, route)
        self._queue_followers(request, route)

    def _settle_before(self, request: Request, route: Route) -> None:
        """What had to run before `route` has run, or `route` could not have.

        Where all that follow a stage have finished, nothing is missed of its notice, which may come much
        later or die with its worker: it is taken for said. Else a stage could run again, for nobody, and
        read and write while the request is answered.
        """
        for stage in self.routes.stages:
            if not stage.bit & route.needs & ~request.done or self.routes.kept[stage.index + 1]:
                continue
            if any(not self.routes.stages[index].bit & request.done for index in stage.followers):
                continue
            request.done |= stage.bit
            step = request.steps[stage.index]
            worker = None if step is None else self.workers.get(step.worker)
            if step is not None and worker is not None and (request.id, step.attempt) in worker.orders:
                worker.orders.remove((request.id, step.attempt))
                worker.credits += 1
            self._inputs_read(request, stage)
            self._settle_before(request, stage)

    def _has_outputs(self, request: Request) -> bool:
        values = request.values
        return all(values[tensor] is not None for tensor in self.routes.outputs)

    def _inputs_read(self, request: Request, route: Route) -> None:
        """`route` has finished: give back every slot that nobody else is going to read."""
        for producer in route.reads:
            request.readers[producer + 1] -= 1
            if request.readers[producer + 1] or self.routes.kept[producer + 1]:
                continue
            if producer < 0:
                lease, request.ingress = request.ingress, None
            else:
                step = request.steps[producer]
                lease = None if step is None else step.lease
                if step is not None:
                    request.steps[producer] = step._replace(lease=None)
            if lease is not None:
                self._give_back(request, lease)

    def _queue_followers(self, request: Request, route: Route) -> None:
        for index in route.followers:
            follower = self.routes.stages[index]
            if not (follower.needs & ~request.done) and not (request.claimed | request.done) & follower.bit:
                request.claimed |= follower.bit
                self._backlogs[index].push(request)

    # -- orders -----------------------------------------------------------------------------------

    def decide(self, now: int) -> Instructions:
        """Hand out work and slots as far as they go, and return everything there is to send."""
        self._now = now
        # Later stages first: what is nearest to its end frees slots soonest.
        for route in reversed(self.routes.stages):
            backlog = self._backlogs[route.index]
            while backlog and (worker := self._idle(route)) is not None:
                self._order(backlog.pop(), route, worker)
        for client, lease in self.ingress.grants():
            self._out.grants[client.number].append(
                Grant(SlotRef(self._segments[lease.pool], lease.slot, lease.generation))
            )
        if self._draining and not self._drained and not any(not r.answered for r in self.requests.values()):
            self._drained = True
            self._out.supervisor.append(Drained(""))
        instructions, self._out = self._out, Instructions()
        return instructions

    def _idle(self, route: Route) -> Worker | None:
        """The worker of a stage with the most credit, where there is also a slot for it to fill."""
        if route.pool != NO_POOL and not self._pools[route.pool].free:
            return None
        best: Worker | None = None
        most = 0
        for worker in self._crews[route.index]:
            if worker.credits > most:
                best, most = worker, worker.credits
        return best

    def _order(self, request: Request, route: Route, worker: Worker) -> None:
        stages = self.routes.stages
        first = worker.number
        key = (request.id, request.attempt)
        values = request.values
        hops: list[Hop] = []
        sender = _NOBODY
        ahead = request.done
        while True:
            lease = None
            ref = _NO_SLOT
            if route.pool != NO_POOL:
                slot, generation = self._pools[route.pool].loan()
                lease = Lease(route.pool, slot, generation)
                ref = (self._segments[route.pool], slot, generation)
            worker.credits -= 1
            worker.orders.add(key)
            request.claimed |= route.bit
            request.steps[route.index] = Step(worker.number, request.attempt, lease, sender)
            inputs = tuple([tensor if (handle := values[tensor]) is None else handle for tensor in route.sources])
            prompt = len(route.followers) > 1 or self.routes.kept[route.index + 1]
            hops.append(Hop(route.index, worker.number, *ref, prompt, inputs))
            ahead |= route.bit
            for index in route.followers:
                follower = stages[index]
                if (
                    not follower.needs & ~ahead
                    and not (request.claimed | request.done) & follower.bit
                    and not self._backlogs[index]
                    and (idle := self._idle(follower)) is not None
                ):
                    sender = worker.number
                    route, worker = follower, idle
                    break
            else:
                break
        self._out.orders[first].append(
            Order(request.id, request.attempt, request.deadline, request.group, tuple(hops), request.traces)
        )

    # -- the end of a request ---------------------------------------------------------------------

    def _finish(self, request: Request, code: str, message: str) -> None:
        """Answer, and let go of every slot, as soon as nobody can touch it any more."""
        request.answered = True
        client = self.ingress.clients.get(request.client)
        if code != OK:
            self._cancel(request, self.routes.everything & ~request.done)
        kept = self.routes.kept
        outputs: tuple[TensorHandle, ...] = ()
        if code == OK:
            outputs = tuple([request.values[tensor] for tensor in self.routes.outputs])  # type: ignore[misc]
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
                    self._pools[lease.pool].borrow(lease.slot, lease.generation)
                    request.scrap.append(lease)
            else:
                self._give_back(request, lease)
        self.counts["answered" if code == OK else f"failed_{code}"] += 1
        if client is not None:
            client.requests.discard(request.id)
            self._out.answers[client.number].append(Answer(request.tag, code, message, outputs, request.traces))
        if not request.fences:
            del self.requests[request.id]

    def _give_back(self, request: Request, lease: Lease) -> None:
        if request.fences:
            request.scrap.append(lease)
        else:
            self._let_go(self.ingress.clients.get(request.client), lease)

    def _let_go(self, client: Client | None, lease: Lease) -> None:
        """One holder of a slot less; the last one frees it, for the client to fill again if it is of the ingress."""
        pool = self._pools[lease.pool]
        readers = pool.readers(lease.slot)
        if readers:
            pool.release(lease.slot, lease.generation)
        else:
            pool.abandon(lease.slot, lease.generation)
        if readers <= 1 and client is not None and lease.pool in client.out:
            self.ingress.came_back(client, lease)

    def _cancel(self, request: Request, stages: int) -> None:
        """Take back what was ordered of `stages`, a mask of unfinished ones."""
        for route in self.routes.stages:
            if not route.bit & stages & request.claimed:
                continue
            request.claimed &= ~route.bit
            step = request.steps[route.index]
            if step is None:
                self._backlogs[route.index].remove(request)
                continue
            key = (request.id, step.attempt)
            worker = self.workers.get(step.worker)
            if worker is not None and key in worker.orders:
                request.fences.add((step.worker, step.attempt))
                self._out.fences[step.worker].append(Fence(*key))

    def _fenced(self, message: Fenced) -> None:
        if message.epoch != self.epoch:
            return
        worker = self.workers.get(message.worker)
        for fence in message.fences:
            key = (fence.request, fence.attempt)
            if worker is not None and key in worker.orders:
                worker.orders.remove(key)
                worker.credits += 1
            request = self.requests.get(fence.request)
            if request is not None:
                self._unfence(request, message.worker, fence.attempt)

    def _unfence(self, request: Request, worker: int, attempt: int) -> None:
        request.fences.discard((worker, attempt))
        if request.fences:
            return
        scrap, request.scrap = request.scrap, []
        for lease in scrap:
            self._give_back(request, lease)
        if request.answered:
            self.requests.pop(request.id, None)

    # -- death ------------------------------------------------------------------------------------

    def _worker_gone(self, message: WorkerGone) -> None:
        self._gone.add(message.worker)
        worker = self.workers.pop(message.worker, None)
        if worker is None:
            return
        self.counts["worker_deaths"] += 1
        self._crews[worker.stage].remove(worker)
        self._out.gone.append(worker.number)
        route = self.routes.stages[worker.stage]
        suspects = set(message.running)
        retried: deque[Request] = deque()
        for number, attempt in sorted(worker.orders):
            request = self.requests.get(number)
            if request is None:
                continue
            step = request.steps[route.index]
            if not request.answered and step is not None and (step.worker, step.attempt) == (worker.number, attempt):
                if number in suspects:
                    request.deaths += 1
                if request.deaths >= MAX_DEATHS:
                    self._finish(request, "StageCrashed", f"stage {route.name}: {message.how}")
                else:
                    self._retry(request, route)
                    retried.append(request)
            # Dead: it can touch nothing any more, and will never answer a fence.
            self._unfence(request, worker.number, attempt)
        for request in self.requests.values():
            # What it was to forward may have died with it, though its notice has come.
            for stage in () if request.answered else self.routes.stages:
                step = request.steps[stage.index]
                if step is not None and step.sender == worker.number and not stage.bit & request.done:
                    self._retry(request, stage)
                    retried.append(request)
        for request in reversed(retried):
            self._requeue(request)

    def _retry(self, request: Request, route: Route) -> None:
        """The worker of `route` died with this request. It and what was to come after run again."""
        reopened = route.bit
        for stage in self.routes.stages[route.index + 1 :]:
            step = request.steps[stage.index]
            if stage.needs & reopened and step is not None and not stage.bit & request.done:
                reopened |= stage.bit
        # Cancel first: `_give_back` keeps slots back while a fence is out.
        self._cancel(request, reopened)
        for stage in self.routes.stages[route.index :]:
            if stage.bit & reopened:
                step = request.steps[stage.index]
                request.steps[stage.index] = None
                if step is not None and step.lease is not None:
                    self._give_back(request, step.lease)
        request.attempt += 1
        self.counts["retries"] += 1

    def _requeue(self, request: Request) -> None:
        for route in self.routes.stages:
            if not route.needs & ~request.done and not (request.claimed | request.done) & route.bit:
                request.claimed |= route.bit
                self._backlogs[route.index].push_front(request)

    def _stage_broken(self, message: StageBroken) -> None:
        self._broken[message.stage] = message.reason
        name = self.plan.stages[message.stage].name
        for request in tuple(self.requests.values()):
            if not request.answered and not request.done >> message.stage & 1:
                self._finish(request, "StageUnavailable", f"stage {name}: {message.reason}")

    def _drain(self, message: Drain) -> None:
        self._draining = True

    def _reported(self, message: WorkerReport) -> None:
        self.reports[message.worker] = message

    # -- what it looks like from outside ----------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether every stage has a worker."""
        return all(self._crews)

    def _lateness(self, request: Request) -> str:
        waited = (self._now - request.submitted) / 1e6
        unfinished = [r.name for r in self.routes.stages if not r.bit & request.done]
        return f"not finished {waited:.0f} ms after it was submitted; waiting for {', '.join(unfinished)}"

    def status(self) -> dict[str, Any]:
        """Everything a person may want to know, as plain values."""
        return {
            "epoch": self.epoch,
            "draining": self._draining,
            "inside": sum(not r.answered for r in self.requests.values()),
            "counts": dict(self.counts),
            "stages": [
                {
                    "name": route.name,
                    "waiting": len(self._backlogs[route.index]),
                    "broken": self._broken.get(route.index),
                    "workers": [
                        {
                            "worker": worker.number,
                            "replica": worker.replica,
                            "pid": worker.pid,
                            "ordered": len(worker.orders),
                            "credits": worker.credits,
                        }
                        for worker in self._crews[route.index]
                    ],
                }
                for route in self.routes.stages
            ],
            "pools": [
                {"name": pool.name, "slots": pool.slots, "free": self._pools[index].free}
                for index, pool in enumerate(self.plan.pools)
            ],
            "clients": [
                {"name": c.name, "granted": len(c.granted), "borrowed": len(c.borrowed), "requests": len(c.requests)}
                for c in self.ingress.clients.values()
            ],
            "workers": [list(report) for report in self.reports.values()],
        }


_HANDLERS: dict[type[Any], Callable[[Scheduler, Any], None]] = {
    Ready: Scheduler._worker_ready,
    Fenced: Scheduler._fenced,
    WorkerGone: Scheduler._worker_gone,
    StageBroken: Scheduler._stage_broken,
    Drain: Scheduler._drain,
    WorkerReport: Scheduler._reported,
}
