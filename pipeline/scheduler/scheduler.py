"""Scheduler: the one place that decides which request runs where, and which slot belongs to whom.

A pure state machine with one door: `handle` takes one message of any kind, `decide` hands out what can be handed out
and returns the messages to send, each with its receiver. The process around it (`pipeline.processes.scheduler`) does
the I/O. The scheduler never touches a tensor's bytes.

The life of a request, and the part that decides at each step:

    Submit ─▶ backlog of its first stage ─▶ order ─▶ Notice ─▶ backlog of the next ... ─▶ Answer
      admission      ▲                  dispatch    notices,       progress               answers
                     │                              progress
                     ├── its worker died: next attempt, fresh slots, old orders fenced
                     │                  recovery, fences
                     └── its slot was too small: the same, with a larger one
                                        notices, sizes

Clients come and go by `reception`. Each part is given the parts that it is built on, as objects, and calls no others:

    state <- fences, promises <- answers <- progress <- notices, recovery <- dispatch <- admission <- reception

So a notice orders nothing, and an answer opens nothing. What a notice, a death or a returned slot makes possible is
done by `decide`, which opens the scopes that wait, then orders, then grants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pipeline.errors import DeadlineExceeded, OtherProtocol, Unavailable, WireError
from pipeline.graph.compiled import CompiledPlan
from pipeline.graph.plan import Plan
from pipeline.metrics.counts import Counts
from pipeline.scheduler.admission import Admission
from pipeline.scheduler.answers import Answering
from pipeline.scheduler.dispatch import Dispatch
from pipeline.scheduler.door import NO_LIMITS, ClientGone, Decided, Limits
from pipeline.scheduler.fences import Fencing
from pipeline.scheduler.ingress import Ingress
from pipeline.scheduler.instructions import Instructions
from pipeline.scheduler.invariants import violations
from pipeline.scheduler.lean import Lean
from pipeline.scheduler.ledger import Request, Worker
from pipeline.scheduler.notices import Noticing
from pipeline.scheduler.progress import Progress
from pipeline.scheduler.promises import Promises
from pipeline.scheduler.reception import Reception
from pipeline.scheduler.recovery import Recovery
from pipeline.scheduler.state import State
from pipeline.scheduler.status import readiness, status_of
from pipeline.scheduler.tally import are_counts
from pipeline.scheduler.troubles import Troubles
from pipeline.wire.address import Address
from pipeline.wire.messages import (
    Again,
    AskStatus,
    AskStory,
    Bye,
    CameraReport,
    Cancel,
    Drain,
    Drained,
    Fenced,
    Hello,
    Kept,
    Loan,
    Message,
    Notices,
    Observe,
    Ping,
    Pong,
    PoolAddress,
    Ready,
    Retire,
    StageBroken,
    Stop,
    Submit,
    SupervisorReport,
    Trial,
    WorkerGone,
    WorkerReport,
)
from pipeline.wire.status import PipelineStatus, UnfinishedStatus
from shm.pool import SlotPool

__all__ = ["Scheduler"]

_LATE_OBSERVERS_NS = 3_000_000_000


class Scheduler:
    """The state of all that is inside the pipeline, and the parts that act on it."""

    def __init__(
        self,
        plan: Plan,
        pools: Sequence[SlotPool],
        segments: Sequence[int],
        epoch: int,
        addresses: Sequence[PoolAddress] = (),
        limits: Limits = NO_LIMITS,
        lean: bool = True,
    ) -> None:
        """As `State`, and

        Args:
            addresses: of the pools, which clients are told.
            limits: how many connections the process has room for.
            lean: whether common orders travel as columns. For tests, which compare both ways.
        """
        self._state = state = State(plan, pools, segments, epoch)
        # Each is built on those that were made before it.
        fencing = Fencing(state)
        promises = Promises(state)
        self._answering = Answering(state, fencing, promises)
        self._progress = Progress(state, fencing, promises, self._answering)
        self._noticing = Noticing(state, fencing, self._answering, self._progress)
        self._recovery = Recovery(state, fencing, self._answering, self._progress)
        self._lean = Lean(plan, state.compiled, lean)
        self._dispatch = Dispatch(state, self._recovery, self._lean)
        self._admission = Admission(state, self._dispatch)
        self._reception = Reception(state, self._admission, self._answering, addresses, limits)
        self._troubles = Troubles()
        self._drain_until = 0
        self._drained = False
        self._stopped = False
        #: After `Stop`: until when observers that are expected and have not asked yet are waited for.
        self._stop_by = 0
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            Submit: self._reception.submit,
            Notices: self._noticed,
            Loan: self._reception.loan,
            Fenced: fencing.fenced,
            Again: self._reception.again,
            WorkerReport: self._reported,
            Hello: self._reception.hello,
            Bye: self._reception.bye,
            ClientGone: self._reception.client_gone,
            AskStatus: self._reception.ask_status,
            AskStory: self._reception.ask_story,
            Observe: self._reception.observe,
            Ready: self._worker_ready,
            WorkerGone: self._recovery.worker_gone,
            StageBroken: self._recovery.stage_broken,
            Kept: self._recovery.kept,
            Drain: self._drain,
            Stop: self._stop,
            Cancel: self._reception.cancel,
            CameraReport: self._reception.camera,
            Retire: self._recovery.retire,
            Trial: self._trial,
            SupervisorReport: self._supervisor_reported,
            Ping: self._pinged,
            WireError: self._reception.unreadable,
            OtherProtocol: self._reception.other_protocol,
        }

    # -- the door ---------------------------------------------------------------------------------

    def handle(self, message: Message | ClientGone | WireError, now: int) -> None:
        """Take in one message, or the error in place of one that was no message. `now`: monotonic nanoseconds."""
        self._state.now = now
        handler = self._handlers.get(type(message))
        if handler is None:
            self._state.counts["unexpected_messages"] += 1
        else:
            handler(message)

    def decide(self, now: int) -> list[Decided]:
        """Hand out as much work and as many slots as possible, end what is late, and return all messages to send.

        Messages to one receiver are in the order in which they must arrive. `now`: monotonic nanoseconds.
        """
        state = self._state
        state.now = now
        self._expire()
        self._progress.open_waiting()
        self._dispatch.orders()
        state.out.columns = self._lean.take()
        self._dispatch.grants()
        if (state.draining or state.successor) and not self._drained and self._nothing_left():
            self._drained = True
            state.out.supervisor.append(Drained(status_of(state)))
        out, state.out = state.out, Instructions()
        decided = out.first
        decided += out.for_workers(state.epoch, state.workers)
        if state.retiring:
            decided += self._retirements()
        decided += self._reception.letters(out)
        decided += out.for_supervisor()
        if self.stopped:
            decided += self._reception.farewell()
        return decided

    # -- what no other part does ------------------------------------------------------------------

    def _noticed(self, message: Notices) -> None:
        if message.epoch == self._state.epoch:
            for columns in message.columns:
                self._noticing.columns(message.worker, columns)
            for passed in message.passed:
                self._noticing.passed(message.worker, passed.request, passed.attempt, passed.trace)
            for notice in message.notices:
                self._noticing.notice(message.worker, notice)

    def _expire(self) -> None:
        """End the requests whose deadline has passed, and those that a drain no longer waits for."""
        state = self._state
        for request in self._admission.late():
            waited = (state.now - request.submitted) / 1e6
            stages = ", ".join(state.unfinished_stages(request))
            self._answering.finish(
                request, DeadlineExceeded.code, f"not finished {waited:.0f} ms after it came; waiting for {stages}"
            )
        if state.successor and state.now >= self._drain_until:
            # Clients that have not gone to the successor by now are refused, as in any drain.
            state.draining = True
        if state.draining and state.now >= self._drain_until:
            for request in tuple(state.unanswered()):
                if request.answered:
                    # Nothing was left to do for it: it only waited for the one before it in its stream.
                    continue
                client = state.ingress.clients.get(request.client)
                state.left_over.append(
                    UnfinishedStatus(
                        request.tag,
                        "a client that has gone" if client is None else client.name,
                        tuple(state.unfinished_stages(request)),
                    )
                )
                self._answering.finish(request, Unavailable.code, "the pipeline stopped before it was finished")

    def _worker_ready(self, message: Ready) -> None:
        state = self._state
        known = message.worker in state.workers or message.worker in state.gone
        if known or message.epoch != state.epoch or not 0 <= message.stage < len(state.compiled.stages):
            return
        if not 0 <= message.replica < len(state.plan.stages[message.stage].workers):
            return
        credits = state.compiled.stages[message.stage].credits
        worker = Worker(message.worker, message.stage, message.replica, message.pid, credits)
        state.workers[worker.number] = worker
        if worker.number not in state.retiring and state.trials.get(worker.stage) != worker.number:
            state.stage_workers[worker.stage].append(worker)
            self._reception.worker_came()

    def _trial(self, message: Trial) -> None:
        """A worker that may take another one's place is on trial, or no longer."""
        state, number, stage = self._state, message.worker, message.stage
        if not 0 <= stage < len(state.compiled.stages):
            # Not the supervisor's: any process that reaches the inbox can send one.
            state.counts["unexpected_messages"] += 1
        elif not message.over:
            if number not in state.gone and number not in state.workers:
                state.trials[stage] = number
        elif state.trials.get(stage) == number:
            del state.trials[stage]
            worker = state.workers.get(number)
            if worker is not None:
                state.stage_workers[worker.stage].append(worker)
                self._reception.worker_came()

    def _retirements(self) -> list[Decided]:
        """Tell retiring workers to leave if they have finished all their orders."""
        state = self._state
        done = [n for n in state.retiring if (known := state.workers.get(n)) is not None and not known.orders]
        state.retiring.difference_update(done)
        state.retired.update(done)
        return [(Address.worker(number), Retire(number)) for number in done]

    def _drain(self, message: Drain) -> None:
        self._drain_until = message.until
        if message.successor:
            self._reception.replaced(message.successor)
        else:
            self._state.draining = True

    def _nothing_left(self) -> bool:
        """Whether a drain is over. One for a successor refuses nothing, so it also waits for what may be on its way."""
        state = self._state
        if any(True for _ in state.unanswered()):
            return False
        return state.draining or not self._reception.may_still_send

    def _pinged(self, message: Ping) -> None:
        self._state.out.supervisor.append(Pong(message.number))

    def _stop(self, message: Stop) -> None:
        self._stopped = True
        self._stop_by = self._state.now + _LATE_OBSERVERS_NS

    def _reported(self, message: WorkerReport) -> None:
        worker = self._state.workers.get(message.worker)
        if worker is None or worker.stage != message.stage:
            return
        numbers = [message.batches, message.rows, message.refused, *message.closed, *message.sizes]
        for spread in (message.queue, message.compute):
            numbers += (spread.sum_us, *spread.buckets)
        for copied in message.copies:
            numbers += (copied.nbytes, copied.batches)
        if not are_counts(numbers):
            self._state.counts["unexpected_messages"] += 1
            return
        self._state.tally.report(message)

    def _supervisor_reported(self, message: SupervisorReport) -> None:
        if are_counts([message.lost_lines, *message.reloads.counts.values()]):
            self._state.counts["lost_log_lines"] = message.lost_lines
            self._state.reloads = message.reloads

    # -- what it looks like from outside ----------------------------------------------------------

    @property
    def stopped(self) -> bool:
        """Whether the supervisor has sent `Stop`, and those that observe the run are there: the next decision is the
        last one."""
        return self._stopped and (not self._state.observation.expects or self._state.now >= self._stop_by)

    def expect_observers(self, count: int) -> None:
        """So many processes of the run observe it: they are told of all that ends, however late they begin."""
        self._state.observation.expect(count)

    @property
    def compiled(self) -> CompiledPlan:
        """The plan in small integers."""
        return self._state.compiled

    @property
    def requests(self) -> dict[int, Request]:
        """All requests that are inside, by number. Callers must not change it."""
        return self._state.requests

    @property
    def workers(self) -> dict[int, Worker]:
        """Every living worker, by number. Callers must not change it."""
        return self._state.workers

    @property
    def ingress(self) -> Ingress:
        """The clients. Callers must not change them."""
        return self._state.ingress

    @property
    def counts(self) -> Counts:
        """How often each thing has happened."""
        return self._state.counts

    def status(self) -> PipelineStatus:
        """Everything a person may want to know."""
        return status_of(self._state)

    def readiness(self) -> dict[str, str]:
        """Why it is not ready, by stage; see `status.readiness`."""
        return readiness(self._state)

    def troubles(self, now: int) -> list[str]:
        """Lines for operators that are due; see there. `now`: monotonic nanoseconds."""
        self._state.now = now
        return self._troubles.look(self._state)

    def story(self, request: str) -> list[str] | None:
        """What has happened to a request, in lines; None if it is not known, or no longer known.

        Args:
            request: its id, as in logs and errors. The id of a child ends with its position: `3fa9c-17/2`.
        """
        return self._state.story(request)

    def validate(self) -> None:
        """Check all that must always hold.

        Raises:
            AssertionError: something does not hold. The text says what, and what has happened to the requests inside.
        """
        if found := violations(self._state):
            inside = [known.label.partition(" ")[0] for known in self._state.unfinished()]
            stories = [f"{label}:\n" + "\n".join(self.story(label) or ()) for label in inside]
            raise AssertionError("\n".join([*found, *stories]))
