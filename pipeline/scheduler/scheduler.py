"""Scheduler: the one place that decides which request runs where, and which slot belongs to whom.

A pure state machine: `handle` takes one message, `decide` hands out what can be handed out and
returns the instructions. The process around it (`pipeline.processes.scheduler`) does the I/O. It
never touches a tensor's bytes.

The life of a request, and the part that decides at each step:

    Submit ─▶ backlog of its first stage ─▶ order ─▶ Notice ─▶ backlog of the next ... ─▶ Answer
      admission      ▲                  dispatch    completion                            completion
                     ├── its worker died: next attempt, fresh slots, old orders fenced
                     │                  recovery
                     └── its slot was too small: the same, with a larger one
                                        completion, sizes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pipeline.graph.plan import Plan
from pipeline.graph.routes import Routes
from pipeline.metrics.counts import Counts
from pipeline.scheduler.admission import Admission
from pipeline.scheduler.completion import Completion
from pipeline.scheduler.dispatch import Dispatch
from pipeline.scheduler.ingress import Client, Ingress
from pipeline.scheduler.instructions import Instructions, letters_of
from pipeline.scheduler.ledger import Request, Worker
from pipeline.scheduler.recovery import Recovery
from pipeline.scheduler.state import NOBODY, State
from pipeline.scheduler.status import status_of
from pipeline.wire.messages import (
    Again,
    Drain,
    Drained,
    Fenced,
    Kept,
    Loan,
    Notices,
    Ready,
    SlotRef,
    StageBroken,
    Submit,
    WorkerGone,
    WorkerReport,
)
from shm.pool import SlotPool

__all__ = ["Scheduler"]

#: A client that confirms nothing is let go of then: more messages than it can have requests under way.
_MOST_UNREAD = 4096


class Scheduler:
    """The state of everything that is inside the pipeline, and the parts that act on it."""

    def __init__(self, plan: Plan, pools: Sequence[SlotPool], segments: Sequence[int], epoch: int) -> None:
        """As `State`."""
        self._state = state = State(plan, pools, segments, epoch)
        self._completion = Completion(state)
        self._recovery = Recovery(state, self._completion)
        self._dispatch = Dispatch(state, self._recovery.condemn)
        self._admission = Admission(state, self._dispatch.orders)
        self._drain_until = 0
        self._drained = False
        self._unfinished: list[dict[str, Any]] = []
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            Ready: self._worker_ready,
            Fenced: self._completion.fenced,
            WorkerGone: self._recovery.worker_gone,
            StageBroken: self._recovery.stage_broken,
            Kept: self._recovery.kept,
            Drain: self._drain,
            WorkerReport: self._reported,
        }

    # -- events -----------------------------------------------------------------------------------

    def handle(self, message: Any, now: int) -> None:
        """Take in one message of a worker or of the supervisor. `now`: monotonic nanoseconds."""
        self._state.now = now
        if type(message) is Notices:
            if message.epoch == self._state.epoch:
                for notice in message.notices:
                    self._completion.notice(message.worker, notice)
            return
        handler = self._handlers.get(type(message))
        if handler is None:
            self._state.counts["unexpected_messages"] += 1
        else:
            handler(message)

    def hello(self, number: int, name: str, now: int) -> Client:
        """A client has connected. One that says hello again has lost its memory: it starts anew."""
        self._state.now = now
        if number in self._state.ingress.clients:
            self.client_gone(number, now)
        return self._state.ingress.join(number, name)

    def loan(self, message: Loan) -> None:
        """A client asks for a slot of an ingress segment."""
        state = self._state
        client = state.ingress.clients.get(message.client)
        if client is None or not state.ingress.ask(client, message.segment, message.ask, message.wait):
            state.counts["refused_loans"] += 1

    def again(self, message: Again) -> None:
        """A client has lost what it was receiving."""
        client = self._state.ingress.clients.get(message.client)
        if client is None:
            return
        client.confirm(message.seen)
        if client.unread and client.unread[0].number != message.seen + 1:
            # What it lacks is here no more, for it has said that it has it: it can only begin anew.
            self._state.out.lost.append(client.number)
        client.repeat = True

    def submit(self, message: Submit, now: int) -> None:
        """A client's requests, and the slots that it has finished with."""
        self._state.now = now
        client = self._state.ingress.clients.get(message.client)
        if client is None:
            # Unknown, or gone: it holds no slot that could be read.
            self._state.counts["refused_submissions"] += len(message.submissions)
            return
        client.confirm(message.seen)
        for submission in message.submissions:
            self._admission.submit(client, submission)
        for ref in message.releases:
            self._admission.release(client, ref)

    def client_gone(self, number: int, now: int, kept: Sequence[SlotRef] = ()) -> None:
        """A client said goodbye or is dead: it writes no slot any more, and reads only those of answers in `kept`."""
        state = self._state
        state.now = now
        client = state.ingress.clients.get(number)
        if client is None:
            return
        for lease in tuple(client.granted):
            state.ingress.taken_back(client, lease)
            state.let_go(None, lease)
        still_read = client.borrowed.intersection(kept)
        for lease in client.borrowed - still_read:
            state.let_go(None, lease)
        client.borrowed = still_read
        if still_read:
            state.ingress.lingers(client)
        else:
            state.ingress.leave(number)
        for request_number in tuple(client.requests):
            request = state.requests[request_number]
            # Ordered work finishes and is dropped; what still waits here need not run at all.
            if all(step is None for member in request.family() for step in member.steps):
                self._completion.finish(request, "Unavailable", "its client has gone")
        client.requests.clear()
        for request in state.requests.values():
            # Answered ones too, whose slots come back later: its number may come again, with another life behind it.
            if request.client == number:
                request.client = NOBODY

    def tick(self, now: int) -> None:
        """Expire deadlines, also that of a drain. Called now and then."""
        state = self._state
        state.now = now
        for request in self._admission.late():
            waited = (now - request.submitted) / 1e6
            stages = ", ".join(self._unfinished_stages(request))
            self._completion.finish(
                request, "DeadlineExceeded", f"not finished {waited:.0f} ms after it came; waiting for {stages}"
            )
        if state.draining and now >= self._drain_until:
            for request in tuple(state.unanswered()):
                client = state.ingress.clients.get(request.client)
                self._unfinished.append(
                    {
                        "request": request.tag,
                        "client": "a client that has gone" if client is None else client.name,
                        "stages": self._unfinished_stages(request),
                    }
                )
                self._completion.finish(request, "Unavailable", "the pipeline stopped before it was finished")

    def decide(self, now: int) -> Instructions:
        """Hand out work and slots as far as they go, and return everything there is to send."""
        state = self._state
        state.now = now
        self._completion.open_waiting()
        self._dispatch.orders()
        self._dispatch.grants()
        if state.draining and not self._drained and not any(True for _ in state.unanswered()):
            self._drained = True
            state.out.supervisor.append(Drained(""))
        instructions, state.out = state.out, Instructions()
        for each in state.ingress.clients.values():
            if each.repeat:
                each.repeat = False
                state.counts["repeated_answers"] += len(each.unread)
                instructions.letters[each.number] += each.unread
        for number in instructions.answers.keys() | instructions.grants.keys():
            client = state.ingress.clients.get(number)
            if client is not None and not client.leaving:
                self._write(client, instructions)
        return instructions

    def _write(self, client: Client, instructions: Instructions) -> None:
        """The client's answers and grants as messages, which are kept until the client says that it has them."""
        answers = instructions.answers.get(client.number, ())
        letters = letters_of(client.sent, answers, instructions.grants.get(client.number, ()), client.settled)
        client.sent = letters[-1].number
        client.unread.extend(letters)
        if len(client.unread) > _MOST_UNREAD:
            instructions.lost.append(client.number)
        instructions.letters[client.number] += letters

    def _worker_ready(self, message: Ready) -> None:
        state = self._state
        known = message.worker in state.workers or message.worker in state.gone
        if known or message.epoch != state.epoch or not 0 <= message.stage < len(state.routes.stages):
            return
        credits = state.routes.stages[message.stage].credits
        worker = Worker(message.worker, message.stage, message.replica, message.pid, credits)
        state.workers[worker.number] = worker
        state.crews[worker.stage].append(worker)

    def _drain(self, message: Drain) -> None:
        self._state.draining = True
        self._drain_until = message.until

    def _reported(self, message: WorkerReport) -> None:
        worker = self._state.workers.get(message.worker)
        if worker is not None and worker.stage == message.stage:
            self._state.tally.report(message)

    def _unfinished_stages(self, request: Request) -> list[str]:
        return [route.name for route in self._state.routes.stages if not route.bit & request.done]

    # -- what it looks like from outside ----------------------------------------------------------

    @property
    def staffed(self) -> bool:
        """Whether every stage has a worker."""
        return all(self._state.crews)

    @property
    def routes(self) -> Routes:
        """The plan in small integers."""
        return self._state.routes

    @property
    def requests(self) -> dict[int, Request]:
        """Everything that is inside, by number; not to be changed."""
        return self._state.requests

    @property
    def workers(self) -> dict[int, Worker]:
        """Every living worker, by number; not to be changed."""
        return self._state.workers

    @property
    def ingress(self) -> Ingress:
        """The clients; not to be changed."""
        return self._state.ingress

    @property
    def counts(self) -> Counts:
        """How often what has happened."""
        return self._state.counts

    def status(self) -> dict[str, Any]:
        """Everything a person may want to know, as plain values (see `pipeline.scheduler.status`)."""
        return {**status_of(self._state), "unfinished": self._unfinished}
