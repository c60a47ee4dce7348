"""Exchange: the shell around a session. It carries out what the session says, over a link, for any number of threads.

    a caller's thread     put ──▶ session.begin ──▶ link.send
    the link's threads    done ──▶ session.answered, session.failed ──▶ the future is told
    one thread            session.tick, when it is time

Instructions are carried out without the mutex: a future's callbacks may call anything here.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from pipeline.client.gate import Gates, Opens
from pipeline.errors import ClientMisuse, KserveError, Overloaded, PipelineError, RequestError, Unavailable
from pipeline.kserve.values import InferResponse
from pipeline.remote.failures import LOST, TOLD, Failure
from pipeline.remote.link import Link, Part, Payload, Sent
from pipeline.remote.session import Abort, End, Instruction, Probe, Send, Session

__all__ = ["Exchange", "Job"]

_S = 1_000_000_000


class Job:
    """One request of the wire, from `put` until it is over.

    Args:
        payload: its bytes.
        deadline: monotonic nanoseconds; 0: none.
        retries: how often it may be sent again after it was lost.
        over: called once, with the response, or None and the error; of an answer in parts, with None and None.
        part: called with each part; None: the answer comes whole.
    """

    __slots__ = ("attempt", "deadline", "given", "is_over", "number", "over", "part", "payload", "retries", "sent")

    def __init__(
        self,
        payload: Payload,
        deadline: int,
        retries: int,
        over: Callable[[InferResponse | None, RequestError | None], None],
        part: Part | None = None,
    ) -> None:
        self.payload = payload
        self.deadline = deadline
        self.retries = retries
        self.over = over
        self.part = part
        self.number = 0
        #: Which attempt is under way: what comes of an earlier one is dropped.
        self.attempt = 0
        self.sent: Sent | None = None
        self.is_over = False
        #: Parts that were given; after the first one it cannot be sent again.
        self.given = 0


class Exchange:
    """What is under way at one server.

    Args:
        link: to the server; closed with this.
        session: decides.
        pending: how many requests may be under way.
    """

    def __init__(self, link: Link, session: Session, pending: int) -> None:
        self.link = link
        self.process = os.getpid()
        #: Why nothing can be asked any more; None: it can.
        self.closed: PipelineError | None = None
        self._session = session
        self._pending = pending
        # Reentrant: a signal's handler may call in the middle of another call.
        self._mutex = threading.RLock()
        self._jobs: dict[int, Job] = {}
        self._room = Gates()
        self._answering = threading.local()
        # Held until it is rung. No SimpleQueue: if a signal comes while its `get` waits, and the time is over by then,
        # CPython 3.11 waits for ever.
        self._bell = threading.Lock()
        self._bell.acquire()
        #: When the thread looks at the time; 0: it waits for the bell.
        self._looks_at = 0
        self._thread: threading.Thread | None = None

    # -- rules of use ---------------------------------------------------------------------------

    def refuse_child(self) -> None:
        """
        Raises:
            ClientMisuse: this is the child of a fork.
        """
        if os.getpid() != self.process:
            raise ClientMisuse(
                f"this manager was made by process {self.process} and is used by its child {os.getpid()}; a fork "
                f"copies no connection: make one in the child"
            )

    def refuse_waiting(self) -> None:
        """
        Raises:
            ClientMisuse: this thread is one of those that take in the answers.
        """
        if getattr(self._answering, "now", False):
            raise ClientMisuse(
                "a done-callback waits for an answer of its own server, which its thread would have to take in: hand "
                "the work to another thread"
            )

    # -- what callers do ------------------------------------------------------------------------

    @property
    def outstanding(self) -> int:
        """Requests that have no answer yet."""
        return self._session.outstanding

    @property
    def trouble(self) -> str:
        """Why the server cannot be reached, as far as the last attempt says; empty: it could."""
        return self._session.trouble

    def put(self, jobs: Sequence[Job], *, block: bool = True) -> None:
        """Send requests.

        Args:
            block: whether to wait while more would be under way than may. A done-callback never waits.

        Raises:
            Overloaded: not `block`, and more would be; none was sent.
            ClientMisuse: it is closed, or another process's.
        """
        for number, job in enumerate(jobs):
            self._await_room(block, len(jobs) if not number else 1)
            with self._mutex:
                if self.closed is not None:
                    raise type(self.closed)(*self.closed.args)
                job.number, instructions = self._session.begin(time.monotonic_ns(), job.deadline, job.retries)
                self._jobs[job.number] = job
            self._start()
            self._carry_out(instructions)
            self._look(job.deadline)

    def _await_room(self, block: bool, wanted: int) -> None:
        self.refuse_child()
        if not block:
            if self._session.outstanding + wanted > self._pending:
                raise Overloaded(
                    f"{self._session.outstanding} requests are under way at the server, at most {self._pending} may "
                    f"be: wait for answers, or let infer wait (block=True)"
                )
            return
        while self._session.outstanding >= self._pending and not getattr(self._answering, "now", False):
            gate = self._room.add()
            try:
                if self._session.outstanding >= self._pending and self.closed is None:
                    gate.wait()
            finally:
                self._room.drop(gate)
            if self.closed is not None:
                raise type(self.closed)(*self.closed.args)

    def await_room(self, gate: Opens) -> None:
        """Open the gate when one more request may be under way, as far as this one is concerned."""
        self._room.put(gate)
        if self._session.outstanding < self._pending or self.closed is not None:
            self._room.drop(gate)
            gate.open()

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Their answers are not wanted any more."""
        for job in jobs:
            with self._mutex:
                if job.is_over:
                    continue
                job.is_over = True
                self._jobs.pop(job.number, None)
                instructions = self._session.cancel(job.number)
            if instructions and job.sent is not None:
                job.sent.cancel()
            if job.attempt:
                job.payload.abandon()
            else:
                # It was never sent.
                job.payload.release()
            self._room.open(1)

    def close(self, error: PipelineError) -> None:
        """End it: what is under way fails with Unavailable, later calls with `error`. A second call does nothing, nor
        does one in the child of a fork."""
        if os.getpid() != self.process:
            return
        with self._mutex:
            if self.closed is not None:
                return
            self.closed = error
            instructions = self._session.close(Unavailable("the manager was stopped before the answer came"))
        self._carry_out(instructions)
        self._room.open()
        self._ring()
        self.link.close()

    # -- what the link says ---------------------------------------------------------------------

    def _done(self, job: Job, attempt: int, outcome: InferResponse | Failure | None) -> None:
        now = time.monotonic_ns()
        with self._mutex:
            if job.is_over or job.attempt != attempt:
                return
            if isinstance(outcome, Failure):
                if job.given and outcome.kind != TOLD:
                    # Parts of it have gone out, and others might come the next time.
                    outcome = Failure(TOLD, f"{job.given} parts had come: {outcome.message}", error="StreamBroken")
                instructions = self._session.failed(job.number, outcome, now)
            else:
                self._session.answered(job.number, now)
                instructions = []
                job.is_over = True
                self._jobs.pop(job.number, None)
        if not job.is_over:
            self._carry_out(instructions)
            self._look(1)
            return
        assert not isinstance(outcome, Failure)
        self._tell(job, outcome, None, clean=True)

    def _part(self, job: Job, attempt: int, response: InferResponse) -> None:
        with self._mutex:
            if job.is_over or job.attempt != attempt:
                return
            self._session.heard(time.monotonic_ns())
            job.given += 1
        assert job.part is not None
        self._called(job.part, response)

    def _tell(self, job: Job, response: InferResponse | None, error: RequestError | None, *, clean: bool) -> None:
        """It is over.

        Args:
            clean: the server has answered, and has nothing more to do with it.
        """
        # Before the caller hears of it: its next request takes what this one gives back. The link has taken the values
        # out. An earlier attempt of it may still run.
        if clean and job.attempt == 1:
            job.payload.release()
        else:
            job.payload.abandon()
        try:
            self._called(job.over, response, error)
        finally:
            self._room.open(1)

    def _called(self, function: Callable[..., None], *arguments: object) -> None:
        before = getattr(self._answering, "now", False)
        self._answering.now = True
        try:
            function(*arguments)
        finally:
            self._answering.now = before

    # -- carrying out ---------------------------------------------------------------------------

    def _carry_out(self, instructions: Sequence[Instruction]) -> None:
        for each in instructions:
            if isinstance(each, Probe):
                threading.Thread(target=self._probe, args=(each.limit_s,), name="remote probe", daemon=True).start()
                continue
            job = self._jobs.get(each.number)
            if job is None:
                continue
            if isinstance(each, Send):
                self._send(job, each.left_s)
            elif isinstance(each, Abort):
                # What comes of that attempt is of no interest any more.
                job.attempt += 1
                if job.sent is not None:
                    job.sent.cancel()
            elif isinstance(each, End):
                with self._mutex:
                    if job.is_over:
                        continue
                    job.is_over = True
                    self._jobs.pop(job.number, None)
                self._tell(job, None, each.error, clean=False)

    def _send(self, job: Job, left_s: float | None) -> None:
        with self._mutex:
            job.attempt += 1
            attempt = job.attempt
        limit_s = None if left_s is None else max(left_s, 0.001)

        def done(outcome: InferResponse | Failure | None) -> None:
            self._done(job, attempt, outcome)

        try:
            if job.part is None:
                job.sent = self.link.send(job.payload, limit_s, done)
            else:
                job.sent = self.link.stream(
                    job.payload, limit_s, lambda response: self._part(job, attempt, response), done
                )
        except (ValueError, RuntimeError) as error:
            # grpcio's words for a channel that was closed by another thread.
            done(Failure(LOST, f"the connection was closed: {error}"))
        if job.is_over and job.sent is not None:
            # It was cancelled before this attempt was known.
            job.sent.cancel()

    def _probe(self, limit_s: float) -> None:
        try:
            self.link.ask("live", limit_s)
        except KserveError as error:
            # An error is an answer, too.
            if error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"):
                return
        with self._mutex:
            self._session.heard(time.monotonic_ns())

    # -- time -----------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._thread is None:
            with self._mutex:
                if self._thread is None and self.closed is None:
                    self._thread = threading.Thread(target=self._run, name="remote time", daemon=True)
                    self._thread.start()

    def _look(self, at: int) -> None:
        """Have the thread look at the time by `at`, monotonic nanoseconds; 0: no sooner than it does."""
        if not self._looks_at or (at and at < self._looks_at):
            self._ring()

    def _ring(self) -> None:
        with suppress(RuntimeError):  # it rings already
            self._bell.release()

    def _run(self) -> None:
        while self.closed is None:
            with self._mutex:
                at = self._session.next_at()
                self._looks_at = at or 0
            wait_s = -1.0 if at is None else max(0.0, (at - time.monotonic_ns()) / _S)
            self._bell.acquire(timeout=min(wait_s, threading.TIMEOUT_MAX))
            with self._mutex:
                instructions = [] if self.closed is not None else self._session.tick(time.monotonic_ns())
            self._carry_out(instructions)
