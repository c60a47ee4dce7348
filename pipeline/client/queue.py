"""Queue: a client's requests, from the call that makes each to its answer. Pure.

    put ──▶ line of a segment ──a slot──▶ written, submitted ──▶ under way ──▶ finished
     │           ▲                ▲                                 │
     │ no connection              └── Ask: one for each line        │ the scheduler has died, and retries are left
     └──▶ unplaced ◀────────────────────────────────────────────────┘

A line is first in, first out, and does not wait for another line: a request for a large slot holds up none for a small
one. Which segment a request needs depends on the scheduler's segments. So without a connection all wait in one line,
and are placed anew when the client has been let in.

The session's messages are moved, and its answers handed in, by the code around this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pipeline.client.ask import Ask
from pipeline.client.draft import Filling
from pipeline.client.future import Pending
from pipeline.client.inputs import Layout, fill_in, lay_out, lay_out_arrays, parts_of
from pipeline.client.request import Request
from pipeline.client.session import Session
from pipeline.client.slots import Grant
from pipeline.errors import Cancelled, DeadlineExceeded, InvalidRequest, Overloaded, PipelineError, Unavailable
from pipeline.wire.records import Origin
from shm.errors import ShmError
from shm.view import SegmentTable

__all__ = ["PENDING", "Queue"]

PENDING = 1024
"""How many requests may wait for a slot, if the caller gives no number."""


class Queue:
    """The requests of one client. `now` is monotonic nanoseconds in every call.

    Args:
        session: the client's.
        pending: how many requests may wait here.
    """

    def __init__(self, session: Session, pending: int) -> None:
        self._session = session
        self.pending = pending
        #: The requests that are sent, by the tag of their `Pending`.
        self.under_way: dict[int, Request] = {}
        #: The requests that wait for a slot of a segment, in turn, and the ask that is out for each segment.
        self._lines: dict[int, deque[Request]] = {}
        self._asks: dict[int, Ask] = {}
        #: The requests that wait for a connection, in turn.
        self._unplaced: deque[Request] = deque()
        #: The requests that a scheduler that is about to stop has refused: they wait for the next scheduler.
        self._turned_away: list[Request] = []
        #: The scheduler's segments, to which the lines, the asks and those that were refused belong.
        self._table: SegmentTable | None = None
        self._waiting = 0
        self._last_number = 0
        #: No deadline of a request that waits is before this; 0: none has one.
        self._soonest = 0
        #: Whether requests under way may be over that `finished` was not told of.
        self._unswept = False
        #: Requests whose parts are wanted as they come.
        self._in_parts: dict[int, Request] = {}

    def __len__(self) -> int:
        """How many requests wait here."""
        return self._waiting

    @property
    def room(self) -> bool:
        """Whether one more may wait."""
        return self._waiting < self.pending

    @property
    def next_at(self) -> int | None:
        """When `go_on` has something to do, if nothing comes before; None: never."""
        return self._soonest or None

    @property
    def outstanding(self) -> int:
        """Requests that have no answer yet."""
        return len(self) + len(self.under_way)

    @property
    def is_due(self) -> bool:
        """Whether `go_on` has something to do now: a request waits for which no ask is out."""
        if self._unplaced:
            return True
        for segment, line in self._lines.items():
            if line and ((ask := self._asks.get(segment)) is None or ask.done):
                return True
        return False

    # -- what callers want ------------------------------------------------------------------------

    def reserve(self, request: Request) -> bool:
        """Give a request its slot (`request.draft`) if one can be had at once; `submit` comes once that is written.

        No request is overtaken that waits for such a slot already.

        Raises:
            InvalidRequest: its inputs do not fit the pipeline's, or no slot is as large.
            Unavailable: the slot is not what the scheduler has said.
        """
        session = self._session
        if not self._is_connected() or self._unplaced or session.holds_back:
            return False
        layout = self._layout_of(request)
        request.segment = segment = session.slots.segment_for(layout.nbytes, layout.rows)
        if self._lines.get(segment) or (grant := session.grant(segment)) is None:
            return False
        request.draft = self._filling(grant, layout)
        return True

    def submit(self, request: Request, now: int) -> bool:
        """Send a request whose draft is written; the code around this sends it with the session's next messages.

        False: its slot went with a scheduler that has died. Then it has no draft any more.
        """
        session, draft = self._session, request.draft
        request.draft = None
        assert draft is not None
        if session.lost is not None or not draft.open or not session.slots.holds(draft.slot):
            return False
        self._submit(request, draft, now)
        # After that: one that was interrupted before is its caller's, and waits for nothing.
        self._last_number += 1
        request.number = self._last_number
        return True

    def put(self, request: Request, now: int, *, bounded: bool = True) -> None:
        """Let a request wait for a slot.

        Args:
            bounded: otherwise it may wait even if there is no `room`, as one of a caller that waits with it.

        Raises:
            Overloaded: as many wait as may.
            InvalidRequest: its inputs do not fit the pipeline's, or no slot is as large.
        """
        if bounded and not self.room:
            raise Overloaded(
                f"{self._waiting} requests of this client wait for a slot, which is all that may (`pending`): take "
                f"answers first, let `infer` wait (block=True), or connect with a larger `pending`"
            )
        self._join(request, now)

    def cancel(self, request: Request, now: int) -> None:
        """A request is not wanted any more. One that waits is over at once; one under way is cancelled at the
        scheduler, and finished when that has answered."""
        request.retries = 0
        if request.pending is not None:
            self._session.cancel(request.pending.tag)
        elif request.waits:
            self._leave(request)
            request.fail(Cancelled("cancelled before it was sent"))
            self._drop_asks(now)

    def give_back(self, request: Request) -> None:
        """A slot that was lent or reserved is not wanted. A second call does nothing."""
        draft, request.draft = request.draft, None
        if draft is not None and draft.open:
            draft.close()
            if self._is_connected() and self._session.slots.holds(draft.slot):
                self._session.give_back([draft.slot])

    # -- what comes of it -------------------------------------------------------------------------

    def finished(self, pendings: Iterable[Pending], now: int) -> list[Request]:
        """The requests that are over, of the answers that `session.receive` has taken in. The others of them, which
        have retries left, wait again."""
        done = []
        for pending in pendings:
            request = self.under_way.get(pending.tag)
            if request is not None and self._over(request, pending, now):
                done.append(request)
            # After that, for `mend`.
            self.under_way.pop(pending.tag, None)
        return done

    def parted(self) -> list[Request]:
        """The requests of which parts have come since the last call, among those that want to be told of each."""
        told = []
        for request in self._in_parts.values():
            pending = request.pending
            if pending is not None and len(pending.received) > request.parts_told:
                request.parts_told = len(pending.received)
                told.append(request)
        return told

    def go_on(self, now: int, absent: str = "") -> list[Request]:
        """Give slots to the requests in front, write their inputs and submit them; those that have failed by now, and
        those whose slot is lent to the caller from now on.

        Args:
            absent: why there is no connection; empty: there is one. Those are told whose deadline is over now.
        """
        done: list[Request] = []
        connected = self._is_connected()
        if self._unswept:
            self._unswept = False
            under_way = [request.pending for request in self.under_way.values()]
            done += self.finished([one for one in under_way if one is not None and one.done()], now)
        # If the run was replaced, they wait for the new one: the client goes there once it has all its answers.
        if connected and not self._session.holds_back:
            self._place(done)
            for segment, line in self._lines.items():
                self._serve(segment, line, now, done)
        if 0 < self._soonest <= now:
            self._expire(now, done, absent)
        self._drop_asks(now)
        return done

    def fail(self, error: PipelineError, now: int) -> list[Request]:
        """All requests that wait fail, and so do those under way that have no answer; all of them are returned."""
        done = []
        for request in self._waiters():
            self._leave(request)
            request.fail(error)
            done.append(request)
        for request in self.under_way.values():
            if not request.done:
                request.fail(error)
            done.append(request)
        self.under_way.clear()
        self._in_parts.clear()
        self._drop_asks(now)
        return done

    def fail_waiting(self, error: PipelineError, now: int, before: int | None = None) -> list[Request]:
        """The requests that wait fail: there has been no pipeline for too long.

        Args:
            before: only those that wait since this time or longer; None: all.
        """
        done = [request for request in self._waiters() if before is None or request.put_at <= before]
        for request in done:
            self._leave(request)
            request.fail(error)
        self._drop_asks(now)
        return done

    def mend(self) -> None:
        """A call was interrupted, at any point of it, and `Session.mend` has put the session in order since: the asks
        are forgotten there. A request that was being submitted waits again, unless it had been."""
        requests = {id(request): request for request in (*self.under_way.values(), *self._waiters())}.values()
        turned_away, self._turned_away = {id(request) for request in self._turned_away}, []
        self._asks.clear()
        self._unplaced.clear()
        self._lines.clear()
        self.under_way.clear()
        self._in_parts.clear()
        for request in sorted(requests, key=_number):
            pending = request.pending
            if pending is not None and (pending.done() or pending.tag in self._session.futures):
                self._sent(request, pending)
                # `finished` may not have been told of it.
                self._unswept = True
            elif request.number and not (request.done and pending is None):
                request.pending = None
                request.segment = -1
                (self._turned_away if id(request) in turned_away else self._unplaced).append(request)
        self._waiting = len(self._unplaced) + len(self._turned_away)

    # -- within -----------------------------------------------------------------------------------

    def _waiters(self) -> list[Request]:
        waiting = [*self._turned_away, *self._unplaced]
        for line in self._lines.values():
            waiting += line
        return sorted(waiting, key=_number)

    def _layout_of(self, request: Request) -> Layout:
        """Where its inputs lie in a slot, and their bytes.

        Raises:
            InvalidRequest: they do not fit the pipeline's inputs, which may be another's by now.
        """
        specs = self._session.specs
        if request.layout is not None and request.layout[0] is specs:
            return request.layout[1]
        if request.specs is not specs:
            for name, spec in specs.items():
                before = request.specs.get(name)
                if before is not None and before.dtype != spec.dtype:
                    raise InvalidRequest(
                        f"input {name!r}: expected dtype {spec.dtype}, found {before.dtype}: the pipeline has been "
                        f"replaced by another one, with other inputs, while this request waited"
                    )
        shapes = request.shapes
        most = self._session.interface.rows
        if request.rows > most:
            raise InvalidRequest(
                f"this request has {request.rows} rows, and the pipeline has been replaced by one whose requests carry "
                f"{most} at most, while it waited: send it again"
            )
        layout = lay_out_arrays(specs, request.inputs, most) if shapes is None else lay_out(specs, shapes, most)
        request.layout = specs, layout
        return layout

    def _join(self, request: Request, now: int) -> None:
        if request.number == 0:
            self._last_number += 1
            request.number = self._last_number
        if not self._is_connected() or self._unplaced:
            line = self._unplaced
            request.segment = -1
        else:
            layout = self._layout_of(request)
            request.segment = self._session.slots.segment_for(layout.nbytes, layout.rows)
            line = self._lines.setdefault(request.segment, deque())
        request.put_at = now
        if request.deadline and (self._soonest == 0 or request.deadline < self._soonest):
            self._soonest = request.deadline
        self._waiting += 1
        line.append(request)

    def _leave(self, request: Request) -> None:
        """It waits no more."""
        line: deque[Request] | list[Request] = self._lines.get(request.segment, self._unplaced)
        for waiting in (line, self._turned_away):
            if request in waiting:
                waiting.remove(request)
                self._waiting -= 1

    def _is_connected(self) -> bool:
        """Whether there is a connection; if it is another one than before, no line of a segment is left, and no ask."""
        session = self._session
        if session.table is not self._table:
            self._asks.clear()
            if self._turned_away or any(self._lines.values()):
                self._unplaced = deque(self._waiters())
                for request in self._unplaced:
                    request.segment = -1
                self._turned_away = []
            self._lines.clear()
            # What was under way has failed with its scheduler.
            self._unswept = True
            # Last, for `mend`.
            self._table = session.table
        return session.lost is None

    def _place(self, done: list[Request]) -> None:
        """There is a connection: each request gets into the line of its segment."""
        while self._unplaced:
            request = self._unplaced[0]
            try:
                layout = self._layout_of(request)
                request.segment = self._session.slots.segment_for(layout.nbytes, layout.rows)
                self._lines.setdefault(request.segment, deque()).append(request)
            except InvalidRequest as error:
                self._waiting -= 1
                request.fail(error)
                done.append(request)
            # After that, for `mend`.
            self._unplaced.popleft()

    def _serve(self, segment: int, line: deque[Request], now: int, done: list[Request]) -> None:
        """Give slots to the requests of a line, as long as there are any; then ask for one."""
        session = self._session
        while line:
            ask = self._asks.get(segment)
            grant = None
            if ask is not None and ask.done:
                del self._asks[segment]
                if (error := ask.error) is not None:
                    # Those that have waited as long as this ask have waited in vain as well.
                    while line and line[0].put_at <= ask.began:
                        request = line.popleft()
                        self._waiting -= 1
                        request.fail(error)
                        done.append(request)
                    continue
                grant = ask.grant
                ask = None
            if grant is None:
                grant = session.grant(segment)
            if grant is None:
                if ask is None:
                    self._asks[segment] = session.ask(segment, now)
                return
            request = line[0]
            try:
                draft = self._filling(grant, self._layout_of(request))
                if request.shapes is not None:
                    request.draft = draft
                    done.append(request)
                else:
                    fill_in(draft.inputs, request.inputs)
                    self._submit(request, draft, now)
            except Unavailable as error:
                request.fail(error)
                done.append(request)
            # After that, for `mend`.
            line.popleft()
            self._waiting -= 1

    def _filling(self, grant: Grant, layout: Layout) -> Filling:
        """A granted slot, to be filled.

        Raises:
            Unavailable: the slot is not what the scheduler has said.
        """
        session = self._session
        try:
            handles, views = parts_of(session.table, session.specs, grant.slot, layout)
        except ShmError as error:
            session.give_back([grant.slot])
            raise Unavailable(f"{error}; the pipeline's memory has changed under this client: send again") from error
        grant.draft = draft = Filling(grant.slot, handles, views, layout.rows)
        return draft

    def _submit(self, request: Request, draft: Filling, now: int) -> None:
        session = self._session
        pending = Pending(session.tag(), session.there, session.table, session.interface, now)
        # Known here before it is sent, for `mend`.
        self._sent(request, pending)
        origin = Origin(traceparent=request.traceparent)
        session.submit(pending, draft, request.deadline, request.priority, request.name, origin)
        session.flush()
        if not request.retries:
            request.inputs = {}

    def _sent(self, request: Request, pending: Pending) -> None:
        """A request is under way."""
        request.pending = pending
        request.parts_told = 0
        self.under_way[pending.tag] = request
        if request.in_parts:
            self._in_parts[pending.tag] = request

    def _over(self, request: Request, pending: Pending, now: int) -> bool:
        """Whether a request that is done is over; otherwise it waits again."""
        self._in_parts.pop(pending.tag, None)
        error = pending.error() if request.retries else None
        # Parts that have come were told of: a second answer would bring them once more.
        if not isinstance(error, Unavailable) or pending.received:
            request.inputs = {}
            return True
        request.retries -= 1
        request.pending = None
        if self._is_connected() and pending.table is self._table:
            # It has refused this one since it is about to stop, and would refuse the next one too.
            self._turned_away.append(request)
            request.put_at = now
            self._waiting += 1
        else:
            self._join(request, now)
            self._unplaced = deque(sorted(self._unplaced, key=_number))
        return False

    def _expire(self, now: int, done: list[Request], absent: str) -> None:
        """The requests fail whose deadline is over."""
        why = "its deadline was over" + (f", and {absent}" if absent else " before a slot became free for it")
        self._soonest = 0
        for request in self._waiters():
            if request.deadline and request.deadline <= now:
                self._leave(request)
                request.fail(DeadlineExceeded(why))
                done.append(request)
            elif request.deadline and (self._soonest == 0 or request.deadline < self._soonest):
                self._soonest = request.deadline

    def _drop_asks(self, now: int) -> None:
        """Give up the asks of lines in which no request waits, or none may be sent."""
        session = self._session
        for segment, ask in tuple(self._asks.items()):
            if self._lines.get(segment) and not session.holds_back:
                continue
            del self._asks[segment]
            if not self._is_connected():
                continue
            if not ask.done:
                session.give_up(segment, now, ask)
            elif (grant := ask.grant) is not None:
                ask.abandon()
                session.give_back([grant.slot])


def _number(request: Request) -> int:
    return request.number
