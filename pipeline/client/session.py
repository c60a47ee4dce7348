"""Session: what a client and a scheduler have said to each other, and what is still to be said.

One thread uses it, and any exception may end any call at any point, such as one that a signal's handler raises.
Nothing is lost by that. What the scheduler sends is numbered, and taken in by steps that can be repeated, the number
last; what is sent carries tags by which the scheduler knows it again. `mend` puts in order what a call has left that
did not come to its end, and has the scheduler send again what was lost on its way through it.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.client.access import Access, join
from pipeline.client.answering import fill
from pipeline.client.connection import Connection
from pipeline.client.draft import Draft
from pipeline.client.future import Future
from pipeline.client.slots import Grant, Slots
from pipeline.errors import NotInTime, OtherProtocol, Overloaded, PipelineError, Unavailable
from pipeline.graph.plan import Plan
from pipeline.wire.messages import (
    PROTOCOL,
    Again,
    Answers,
    AskStatus,
    Cancel,
    Gone,
    Loan,
    Refused,
    SlotRef,
    Status,
    Submission,
    Welcome,
)
from pipeline.wire.versions import reason_of
from shm.view import SegmentTable
from stages.spec import TensorSpec

__all__ = ["Session"]

#: Waiting for a slot so long, with nothing under way, means that the own results hold them.
_OWN_FAULT_S = 5.0

#: While nothing comes, the scheduler's lock is looked at this often: its death is seen within this time.
_ALIVE_CHECK_MS = 50

#: So long is waited for what a scheduler sent just before it ended.
_LAST_WORDS_MS = 40

#: So long the scheduler may take to say what came of an ask that does not wait.
_SETTLED_S = 1.0

#: How often a pipeline is looked for that is not there yet.
_LOOK_S = 0.05


class Session:
    """A client's side of its conversation with the schedulers of a pipeline, one after the other.

    Args:
        run, name: as `Access`.
    """

    plan: Plan
    """What runs on the other side; from the first welcome on, as `specs`."""
    specs: dict[str, TensorSpec]
    """Its inputs by name."""

    def __init__(self, run: str | Path | None, name: str) -> None:
        self.access = Access(run, name)
        #: Why there is no connection; None while there is one.
        self.lost: Unavailable | None = Unavailable("not connected yet")
        #: Requests that have no answer yet. Not held: one whose future was dropped is answered to no one.
        self.futures: dict[int, weakref.ref[Future]] = {}
        #: Answers that came and were not told of by the client's `pump`.
        self.came = 0
        self._next_tag = 1
        self._next_ask = 1
        self._looked_at = self._again_at = 0.0
        self._statuses: list[str] = []
        #: Why the scheduler has not let the client in so far, as it has said; and whether it has said anything.
        self._refusal = ""
        self._answered = False
        self._clear()

    def _clear(self) -> None:
        """Nothing is known of a scheduler."""
        #: The version that the scheduler speaks; 0: none but this client's, as far as known.
        self._other_version = 0
        self._epoch = -1
        self.table = SegmentTable()
        self.slots = Slots([])
        #: Requests to send.
        self._submissions: deque[Submission] = deque()
        #: Number and tags of the `Answers` that are being taken in, or were last.
        self._taking: tuple[int, list[int]] = (0, [])

    # -- coming and going -----------------------------------------------------------------------

    def open(self, end: float, patient: bool) -> None:
        """Find the run and be let in.

        Args:
            end: when to give up: monotonic seconds.
            patient: wait also where there is no such run.
        """
        access = self.access
        while True:
            try:
                if access.connection is None:
                    access.attach()
                self._await_welcome(end)
                return
            except Unavailable:
                over = access.is_over
                if over:
                    access.detach(known=False)
                left = end - time.monotonic()
                if left <= 0 or not patient or (over and access.by_path) or self._other_version:
                    raise
            time.sleep(min(_LOOK_S, left))

    def _await_welcome(self, end: float) -> None:
        while self.lost is not None:
            left = end - time.monotonic()
            if left <= 0:
                why = f": {self._refusal}" if self._refusal else ""
                where = self.there.run_dir
                raise Unavailable(f"the pipeline in {where} is not ready{why}; waited until the time was over")
            self._say_hello(min(_ALIVE_CHECK_MS, int(left * 1000) + 1))

    @property
    def there(self) -> Connection:
        """The place in the run's folder."""
        assert self.access.connection is not None
        return self.access.connection

    def _receive(self, wait_ms: int) -> int:
        """Take in what is here, or comes within `wait_ms`; how many answers, and -1 where nothing came."""
        connected = self.lost is None
        messages = self.access.inbox.receive(wait_ms)
        answers = sum([self._take(message) for message in messages]) if messages else -1
        if self.lost is not None and connected and answers <= 0:
            raise self.lost
        # Else what has come is looked at first; the next call says that the connection was lost.
        return answers

    def _say_hello(self, wait_ms: int) -> None:
        """Ask to be let in, and take in a welcome that has come."""
        self.access.hello(time.monotonic(), self._answered)
        self._receive(wait_ms)
        if self._other_version:
            raise Unavailable(f"the pipeline in {self.there.run_dir}: {reason_of(PROTOCOL, self._other_version)}")
        if self.lost is not None and self.access.is_over:
            raise Unavailable(f"the pipeline in {self.there.run_dir} has stopped")

    def _join(self, welcome: Welcome) -> None:
        if (joined := join(welcome)) is None:
            self.access.asked_at = 0.0
            return
        self._clear()
        # Another table, not the old one emptied: results of before still refer to it.
        self.plan, self.table, self._epoch = joined.plan, joined.table, joined.epoch
        self.specs = {spec.name: spec for spec in joined.plan.inputs}
        self.slots = Slots(joined.pools)
        self.there.renew()
        self.access.watch_scheduler()
        self.lost = None

    def be_connected(self) -> None:
        """Let through what needs a connection.

        Raises:
            Unavailable: there is none; it is asked for, and may be there at the next call.
        """
        if self.lost is None:
            return
        # The scheduler may be back by now, or the pipeline of that name: who asks again and again gets through.
        if self.access.is_over and not self.access.by_path:
            self.access.detach(known=False)
        if self.access.connection is None:
            self.access.attach()
        self._say_hello(0)
        if self.lost is not None:
            raise self.lost

    def notice(self) -> None:
        """See whether the scheduler is still there, without waiting."""
        with suppress(Unavailable):
            if self.lost is None:
                self._receive(0)
        if self.lost is None and self.access.scheduler_is_gone:
            self._lose()

    def leave(self) -> None:
        """The end of it: nothing is written any more, what is under way is dropped, what is held comes back."""
        for draft in self.slots.drafts():
            # Its slot is about to be another client's.
            draft.close()
        self._fail_all(Unavailable("this client was closed before the request was answered"))
        self.access.detach(known=self.lost is None)

    # -- order ----------------------------------------------------------------------------------

    def mend(self) -> None:
        """A call was interrupted, at any point of it."""
        for submission in self._submissions:
            if (draft := self.slots.remove(submission.slot)) is not None:
                draft.close()
        for slot in self.slots.returned:
            self.slots.remove(slot)
        connection = self.access.connection
        if connection is None:
            return
        number, tags = self._taking
        if number <= connection.seen:
            for tag in tags:
                self.futures.pop(tag, None)
        connection.idle = not self.futures
        connection.held = False
        if self.lost is None:
            connection.send(Again(connection.number, connection.seen))
            for segment in tuple(self.slots.asking):
                self._ask(segment, wait=False)

    # -- slots ----------------------------------------------------------------------------------

    def slot(self, nbytes: int, timeout_s: float | None) -> Grant:
        """A slot that holds so many bytes; waits for one, at most `timeout_s` seconds.

        Raises:
            InvalidRequest: no slot is so large.
            NotInTime: none became free in time.
            Overloaded: none will: this client itself keeps too many results, and waits for nothing else.
            Unavailable: the pipeline has stopped or died.
        """
        segment = self.slots.segment_for(nbytes)
        return self._free(segment) or self._wait_for_slot(segment, timeout_s)

    def slot_now(self, nbytes: int) -> Grant | None:
        """As `slot`, but None where no slot is free now.

        Raises:
            InvalidRequest: no slot is so large.
            Unavailable: the pipeline has stopped or died.
        """
        segment = self.slots.segment_for(nbytes)
        if (grant := self._free(segment)) is None and not self.slots.looks_full(segment, len(self.futures)):
            while True:
                under_way = len(self.futures)
                grant = self._settle(segment)
                # What was answered meanwhile may have made room.
                if grant is not None or len(self.futures) == under_way:
                    break
            if grant is None:
                self.slots.was_full(segment, under_way)
        return grant

    def _free(self, segment: int) -> Grant | None:
        return self.slots.free(segment, self.there.seen)

    def _ask(self, segment: int, *, wait: bool) -> int:
        ask = self._next_ask
        self._next_ask += 1
        # Before it is sent: what may have been sent is settled by the next call.
        self.slots.asking.add(segment)
        self.there.send(Loan(self.there.number, segment, ask, wait))
        return ask

    def _settle(self, segment: int) -> Grant | None:
        """A slot if there is one now; afterwards no ask waits and no grant is on its way."""
        ask = self._ask(segment, wait=False)
        end = time.monotonic() + _SETTLED_S
        while self.slots.settled < ask and (left := end - time.monotonic()) > 0:
            self.pump(left)
        if self.slots.settled >= ask:
            self.slots.asking.discard(segment)
        return self._free(segment)

    def _wait_for_slot(self, segment: int, timeout_s: float | None) -> Grant:
        began = time.monotonic()
        try:
            self.flush()
            self._ask(segment, wait=True)
            while (grant := self._free(segment)) is None:
                waited = time.monotonic() - began
                if timeout_s is not None and waited >= timeout_s:
                    # The last word of the scheduler: without it, a grant could come when this client looks no more.
                    if (grant := self._settle(segment)) is not None:
                        break
                    raise NotInTime(f"no slot became free within {timeout_s} s; the pipeline is full")
                leases, drafts = self.there.leases, len(self.slots.drafts())
                if waited > _OWN_FAULT_S and (leases or drafts) and not self.futures:
                    self._ask_no_more(segment)
                    raise Overloaded(
                        f"no slot will become free: this client keeps {leases} slots of earlier results and {drafts} "
                        f"drafts. Drop results when they are read (`with future.get() as result`), or copy what is "
                        f"needed; submit or discard drafts"
                    )
                self.pump(1.0 if timeout_s is None else min(1.0, timeout_s - waited))
        except PipelineError:
            raise
        except BaseException:
            with suppress(Exception):
                self._ask_no_more(segment)
            raise
        self.slots.asking.discard(segment)
        return grant

    def _ask_no_more(self, segment: int) -> None:
        """Wait for no slot of this segment any more, and keep none."""
        if self.lost is None and self._settle(segment) is not None:
            self.give_back(self.slots.unused(segment))

    def give_back(self, slots: Sequence[SlotRef]) -> None:
        """Granted slots that are not needed."""
        if slots:
            self.slots.give_back(slots)
            self.flush()

    # -- requests and answers -------------------------------------------------------------------

    def submit(
        self, draft: Draft, deadline: int, priority: int, name: str, future: Callable[[int], Future]
    ) -> Future:
        """Keep a request to be sent by the next `flush`.

        Args:
            deadline: monotonic nanoseconds; 0: none.
            name: what the client calls it.
            future: makes the future of a tag.
        """
        tag, self._next_tag = self._next_tag, self._next_tag + 1
        made = future(tag)
        # In this order: a submission that waits here takes its slot away from the draft (`mend`).
        self._submissions.append(Submission(tag, draft.slot, draft.handles, deadline, priority, name))
        draft.close()
        self.slots.remove(draft.slot)
        self.futures[tag] = weakref.ref(made)
        self.there.idle = False
        return made

    def flush(self) -> None:
        """Send what was kept back: submissions, and slots that are not needed any more."""
        submissions, returned = tuple(self._submissions), tuple(self.slots.returned)
        if self.lost is None:
            self.there.submit(submissions, returned)
        # What was sent twice, since this was interrupted, is dropped by the scheduler.
        while submissions and self._submissions and self._submissions[0].tag <= submissions[-1].tag:
            self._submissions.popleft()
        for slot in returned:
            if self.slots.returned and self.slots.returned[0] == slot:
                self.slots.returned.popleft()

    def cancel(self, tag: int) -> None:
        """Say that a request is not wanted any more; it fails with `Cancelled`, unless it is answered before."""
        if self.lost is None and tag in self.futures:
            self.flush()
            self.there.send(Cancel(self.there.number, (tag,)))

    def pump(self, timeout_s: float) -> int:
        """Take in what has come, waiting up to `timeout_s` seconds for something; how many answers came.

        Raises:
            Unavailable: the pipeline has died; every request under way has failed with the same.
        """
        if self.lost is not None:
            raise self.lost
        self.flush()
        waited = 0.0
        while True:
            step = min(_ALIVE_CHECK_MS, int((timeout_s - waited) * 1000) + 1) if timeout_s > waited else 0
            if (answers := self._receive(step)) >= 0:
                return answers
            waited += step / 1000
            answers = self._look_after_scheduler()
            if answers or waited >= timeout_s:
                return answers

    def status(self, timeout_s: float) -> str:
        """The scheduler's status document.

        Raises:
            NotInTime: it does not answer.
            Unavailable: the pipeline has died.
        """
        if self.lost is not None:
            raise self.lost
        self._statuses.clear()
        self.there.send(AskStatus(self.there.number))
        end = time.monotonic() + timeout_s
        while not self._statuses:
            if (left := end - time.monotonic()) <= 0:
                raise NotInTime(f"the scheduler did not answer within {timeout_s} s")
            self.pump(left)
        return self._statuses.pop()

    def _look_after_scheduler(self) -> int:
        """Nothing comes: see whether a scheduler is there that knows this client; how many answers came meanwhile."""
        now = time.monotonic()
        if now - self._looked_at < _ALIVE_CHECK_MS / 1000:
            return 0
        self._looked_at = now
        if self.access.scheduler_is_gone:
            # What it sent before it ended, at the end of a drain say, may still be on its way.
            if (answers := self._receive(_LAST_WORDS_MS)) > 0:
                self._looked_at = 0.0
                return answers
            raise self._lose()
        if self.access.may_ask(now):
            # The lock may be the next scheduler's by now, which does not know this client, and says so. One that does
            # sends again what was lost on the way.
            self.there.send(Again(self.there.number, self.there.seen))
        return 0

    def _take(self, message: object) -> int:
        if isinstance(message, Welcome):
            if self.lost is not None:
                self._answered = True
                self._join(message)
        elif isinstance(message, Refused):
            self._refused(message)
        elif isinstance(message, OtherProtocol):
            if self.lost is not None and not self._answered:
                self._other_version = message.protocol
        elif self.lost is not None:
            pass  # of a scheduler that is dead
        elif isinstance(message, Answers):
            return self._take_answers(message)
        elif isinstance(message, Status):
            self._statuses.append(message.document)
        elif isinstance(message, Gone) and message.epoch != self._epoch:
            # One of the epoch that has welcomed this client was sent before, and came on another way.
            self._lose(message.reason)
        return 0

    def _refused(self, message: Refused) -> None:
        if self.lost is None:
            # In the middle of a call: what the client has asked for will not come.
            raise Unavailable(message.reason)
        self._refusal = message.reason
        if message.protocol == PROTOCOL:
            self._answered = True
        else:
            self._other_version = message.protocol

    def _take_answers(self, message: Answers) -> int:
        """Take in answers and grants. Up to the line that says that it was seen, each step may be repeated."""
        connection = self.there
        if message.number != connection.seen + 1:
            now = time.monotonic()
            if message.number > connection.seen and now - self._again_at > _ALIVE_CHECK_MS / 1000:
                # One before it was lost. Not once more for each that follows it.
                self._again_at = now
                connection.send(Again(connection.number, connection.seen))
            return 0
        # Parts of an answer are not its end.
        tags = [answer.tag for answer in message.answers if answer.last]
        self._taking = message.number, tags
        self.slots.add(message.grants, message.number)
        now = time.monotonic_ns()
        for answer in message.answers:
            reference = self.futures.get(answer.tag)
            fill(None if reference is None else reference(), answer, connection, now)
        self.slots.settled = max(self.slots.settled, message.settled)
        connection.seen = message.number
        for tag in tags:
            self.futures.pop(tag, None)
        self.came += len(tags)
        if not self.futures:
            connection.idle = True
            self.give_back(self.slots.surplus(message.number))
        return len(tags)

    def _lose(self, reason: str = "") -> Unavailable:
        """The scheduler that knew this client is dead, or has let go of it: the error that says so."""
        why = reason or f"the scheduler of pipeline {self.plan.name} has died"
        error = Unavailable(f"{why}; ask again in a moment")
        # Let go of its memory, so that there is room for that of the next; what is still read keeps its own. Hello is
        # said at the next request, and again after a while.
        self._clear()
        self.access.asked_at = 0.0
        self.there.renew()
        self._fail_all(error)
        # Last: until then it is found out once more, where this is interrupted.
        self.lost = error
        return error

    def _fail_all(self, error: Unavailable) -> None:
        now = time.monotonic_ns()
        for reference in tuple(self.futures.values()):
            if (future := reference()) is not None and not future.done():
                future.fail(error, now)
        self.futures.clear()
