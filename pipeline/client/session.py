"""Session: the protocol between a client and the schedulers of a pipeline, one after the other. Pure.

Messages go in (`receive`), and so does the time (`wake`) and what happens to the scheduler (`scheduler_gone`). Messages
come out (`to_send`), and so do requests that are finished. The code that moves them is around it:
`pipeline.client.carrier`, and over that `pipeline.client.exchange`, which waits in the caller's thread, and
`pipeline.client.driver`, for those that wait by other means.

    attached ──▶ Hello ──▶ Welcome ──▶ joined ──▶ Loan, Submit ──▶ Answers ...
        ▲                                            │ │
        ├───────────── the scheduler is gone ◀───────┘ │   what was under way fails; Hello is said to the next one
        └─ move ◀── all is answered ◀── replaced ◀─────┘   `Answers.successor`; Hello is said in another run's folder

One thread uses it, and any exception may end any call at any point, such as one that a signal's handler raises.
Nothing is lost by that. What the scheduler sends is numbered, and the session takes it in by steps that can be
repeated, the number last. What the session sends carries tags by which the scheduler recognises a repetition, and stays
in `to_send` until `sent`. After a call that did not come to its end, `mend` puts the session in order, and asks the
scheduler to send again what was lost in it.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence

from pipeline.client.answering import fill
from pipeline.client.ask import Ask
from pipeline.client.asks import Asks
from pipeline.client.copies import Copies
from pipeline.client.draft import Filling
from pipeline.client.future import Pending
from pipeline.client.inputs import Layouts
from pipeline.client.leases import Leases
from pipeline.client.slots import Grant, Slots
from pipeline.client.unread import Unread
from pipeline.errors import OtherProtocol, Unavailable, WireError
from pipeline.wire.codec import Sent
from pipeline.wire.interface import Interface
from pipeline.wire.labels import short_name
from pipeline.wire.limits import ASK_AGAIN_NS, REPEAT_NS
from pipeline.wire.messages import (
    HELLO,
    PROTOCOL,
    Again,
    Answers,
    AskStatus,
    Cancel,
    Gone,
    Hello,
    Loan,
    Refused,
    SlotRef,
    Status,
    Submission,
    Submit,
    Welcome,
)
from pipeline.wire.records import NO_ORIGIN, Origin
from pipeline.wire.status import PipelineStatus
from pipeline.wire.versions import OLD, OldHello, reason_of
from shm.view import SegmentTable
from stages.spec import TensorSpec

__all__ = ["Session"]

_SECOND = 1_000_000_000


class Session:
    """A client's side of its conversation with the schedulers of a pipeline.

    `now` is monotonic nanoseconds in every call.

    Args:
        name: what the client is called.
        own_fault_ns: waiting for a slot so long, with nothing under way, means that the client itself holds them.
    """

    interface: Interface
    """What runs on the other side; known, as `specs` is, from the first welcome on."""
    specs: dict[str, TensorSpec]
    """Its inputs by name; `layouts` says where they lie in a slot."""

    def __init__(self, name: object, own_fault_ns: int = 5 * _SECOND) -> None:
        self._name = short_name(name)
        self._own_fault_ns = own_fault_ns
        #: What the client has borrowed in the run where it has a place; None: it has no place in any.
        self.leases: Leases | None = None
        #: Why there is no connection; None while there is one.
        self.lost: Unavailable | None = Unavailable("not connected yet")
        #: What lets the client in, once its segments are attached: `join` or `refuse` comes next.
        self.welcome: Welcome | None = None
        self.refusal = ""  #: Why the scheduler has not let the client in so far, in the scheduler's words.
        #: Why no scheduler of this run will let the client in: it is of another version; empty: none is known to be.
        self.other_version = ""
        #: The folder of the run that has taken over, by its name; empty: the run was not replaced, as far as is known.
        self.successor = ""
        #: Whether the client must leave its place, where the scheduler still has slots of it.
        self.moving = False
        #: Whether a message has come from a scheduler of this version. Until then it may be of an old one.
        self._answered = False
        #: Requests that have no answer yet. Held weakly: if a future was dropped, the answer's slots go back at once.
        self.futures: dict[int, weakref.ref[Pending]] = {}
        #: Answers that have come and were not read, and the bytes that were copied within this process, by reason.
        self.unread, self.copies = Unread(), Copies()
        self.came = 0  #: Answers that have come since this was last set to 0.
        #: The statuses that have come.
        self.statuses: deque[PipelineStatus] = deque()
        self._next_tag = 1
        #: When the scheduler was last asked without need, when its last message came, and a lost one was asked for.
        self._said_at = self._heard_at = self._again_at = -_SECOND
        self._clear()

    def _clear(self, number: int = 0, pools: Sequence[tuple[int, int, int]] = ()) -> None:
        """Forget everything about the scheduler, apart from the pools that the client fills.

        Args:
            number: of the last ask.
        """
        self._epoch = -1
        self.table = SegmentTable()
        self.slots = Slots(pools)
        #: Messages to send, beside the next `Submit`, and whether `Again` is one.
        self._outgoing: deque[Sent] = deque()
        self._repeats = False
        #: Requests to send, and whether they and the returned slots must go now.
        self._submissions: deque[Submission] = deque()
        self._flush = False
        #: The callers that want a slot and have none yet; none if the client has no place in a run.
        place = Leases(0) if self.leases is None else self.leases
        self._asks = Asks(place, self.slots, self.futures, self._outgoing, self.unread, self._own_fault_ns, number)
        #: Number and tags of the `Answers` that are being taken in, or were last.
        self._taking: tuple[int, list[int]] = (0, [])

    # -- what is sent ---------------------------------------------------------------------------

    def to_send(self) -> list[Sent]:
        """The messages to send now, in this order. Each stays here until `sent`."""
        if (leases := self.leases) is None:
            return []
        # An ask takes along what was kept back: otherwise it would be decided without the slots that have been read.
        if self._flush or self.slots.returned or Loan in map(type, self._outgoing):
            submit = leases.message(self._submissions, self.slots.returned)
        else:
            submit = leases.message() if leases.due else None
        # The submission goes first: a slot that is given back may be the one that is asked for.
        messages: list[Sent] = [] if submit is None else [submit]
        if self._repeats:
            # Made now: the scheduler lets go of a client that asks for what it has confirmed, such as by `submit`.
            messages.append(Again(leases.number, leases.seen))
        return [*messages, *self._outgoing]

    def sent(self, message: Sent) -> None:
        """A message of `to_send` has been sent."""
        # If this is interrupted, a message is sent twice; the scheduler drops the second.
        if self._outgoing and self._outgoing[0] is message:
            self._outgoing.popleft()
            return
        if not isinstance(message, Submit):
            self._repeats = self._repeats and not isinstance(message, Again)
            return
        submissions = message.submissions
        while submissions and self._submissions and self._submissions[0].tag <= submissions[-1].tag:
            self._submissions.popleft()
        returned = self.slots.returned
        for slot in message.releases:
            if not returned or returned[0] != slot:
                break
            returned.popleft()
        if self.leases is not None:
            self.leases.sent(message)
        self._flush = False

    @property
    def has_to_send(self) -> bool:
        """Whether `to_send` has something."""
        if (leases := self.leases) is None:
            return False
        return self._flush or self._repeats or leases.due or bool(self._outgoing or self.slots.returned)

    @property
    def next_at(self) -> int | None:
        """When `wake` has something to do, if nothing comes before; None: never."""
        if self.leases is None:
            return None
        if self.lost is not None:
            return self._said_at + ASK_AGAIN_NS
        if not self.futures and not self._asks:
            return None
        again_at = max(self._said_at, self._heard_at) + ASK_AGAIN_NS
        ask_at = self._asks.next_at
        return again_at if ask_at is None else min(again_at, ask_at)

    # -- coming and going -----------------------------------------------------------------------

    @property
    def there(self) -> Leases:
        """The place in a run."""
        assert self.leases is not None
        return self.leases

    def attached(self, leases: Leases) -> None:
        """The client has a place in a run, where the scheduler can reach it: `wake` says hello."""
        self._outgoing.clear()
        self.welcome, self.refusal, self.other_version = None, "", ""
        self._answered = self.moving = self._repeats = False
        self._said_at = -_SECOND
        leases.copies, leases.unread = self.copies, self.unread
        self.leases = leases

    def detached(self) -> None:
        """The client has no place in any run."""
        self.leases = None

    def join(self, interface: Interface, table: SegmentTable, pools: list[tuple[int, int, int]]) -> None:
        """The segments that `welcome` names are attached: from here on requests can be sent.

        Args:
            table: the segments.
            pools: those that the client fills, as `Slots`.
        """
        welcome = self.welcome
        assert welcome is not None
        self._clear(self._asks.number, pools)
        # Another table, not the old one emptied: results of before still refer to it.
        self.interface, self.table, self._epoch, self.successor = interface, table, welcome.epoch, ""
        self.specs, self.layouts = interface.specs, Layouts(interface.specs, interface.rows)
        self.welcome = None
        self.there.limit_reading([slots for _, _, slots in pools], self.interface.rows > 1)
        # Last: until then hello is said once more, if this is interrupted.
        self.lost = None

    def refuse(self) -> None:
        """The segments that `welcome` names are gone, the next scheduler names others: `wake` says hello again."""
        self._said_at, self.welcome = -_SECOND, None

    def wake(self, now: int) -> bool:
        """Do what is due. True if it sends the scheduler something without need: then the scheduler must be able to
        reach the client."""
        if self.leases is None:
            return False
        if self.lost is not None:
            # Under the number of a client that is let go of, a hello would give back the slots that it still uses.
            if self.moving or now - self._said_at < ASK_AGAIN_NS:
                return False
            again, self._said_at = self._said_at > 0, now
            self._outgoing.append(Hello(self.leases.number, self._name))
            if again and not self._answered:
                # An old scheduler does not answer a hello of this version; its answer to an old hello shows that it is
                # old.
                self._outgoing += [OldHello(protocol, self.leases.number, self._name) for protocol in OLD]
            return True
        self._go_on(now)
        if now - max(self._said_at, self._heard_at) < ASK_AGAIN_NS:
            return False
        # The scheduler may be the next one, which says that it does not know this client. Otherwise it sends again what
        # was lost on the way.
        self._said_at = now
        self._repeats = True
        return True

    @property
    def holds_back(self) -> bool:
        """Whether the run has been replaced, so that what is new waits until the client has moved. While a caller fills
        a slot, which is good only here, the client stays, and goes on to send."""
        return bool(self.successor) and not self.slots.in_use

    @property
    def may_move(self) -> bool:
        """Whether the run has been replaced, no request is under way, and no caller waits for a slot or fills one."""
        return self.holds_back and not (self.futures or self._asks)

    def move(self) -> None:
        """The client leaves for the successor, which comes as with any other run: `attached` is next. Results that are
        still read keep their slots."""
        if self.lost is None:
            self.moving = True
        self._clear(self._asks.number)
        self.welcome = None
        # Last: until then it may be begun again.
        self.lost = Unavailable(f"pipeline {self.interface.name} was replaced by a new version; ask again in a moment")

    def scheduler_gone(self, now: int, reason: str = "", *, stopped: bool = False) -> list[Pending]:
        """The scheduler that knew this client is dead, or has let go of it: what it held is not answered, and fails.
        Returns that.

        Args:
            reason: why, if it has said it. It lives, its slots are in use: this client comes back as another one.
            stopped: its run was told to end, and no other one takes its place.
        """
        asks, why = self._asks, reason or f"the scheduler of pipeline {self.interface.name} has died"
        late = f"pipeline {self.interface.name} was stopped; ask again when it runs"
        error = Unavailable(late if stopped else f"{why}; ask again in a moment")
        if reason:
            self.slots.keep(self.there)
            self.moving = True
        else:
            self.there.renew()
        # Let go of its memory, so that there is room for the next scheduler's; results that are still read keep theirs.
        self._clear(asks.number)
        self._said_at = -_SECOND
        failed = self._fail_all(error, now)
        asks.fail(error)
        # Last: if this is interrupted before, the death is noticed once more.
        self.lost = error
        return failed

    def close(self, now: int) -> None:
        """The client is closed: what is under way is dropped; a slot that is being filled is kept (see `Leases`)."""
        self.table.forget_views()
        if self.leases is not None:
            self.slots.keep(self.leases)
        self._fail_all(Unavailable("this client was closed before the request was answered"), now)
        self.table = SegmentTable()  # results that are still read refer to the one before; nothing else maps segments

    def _fail_all(self, error: Unavailable, now: int) -> list[Pending]:
        failed = []
        for reference in tuple(self.futures.values()):
            if (future := reference()) is not None and not future.done():
                future.fail(error, now)
                failed.append(future)
        self.futures.clear()
        return failed

    def mend(self) -> None:
        """A call was interrupted, at any point of it."""
        for submission in self._submissions:
            if (draft := self.slots.remove(submission.slot)) is not None:
                draft.close()
        for slot in self.slots.returned:
            self.slots.remove(slot)
        if (leases := self.leases) is None:
            return
        number, tags = self._taking
        if number <= leases.seen:
            for tag in tags:
                self.futures.pop(tag, None)
        leases.idle = not self.futures
        leases.held = leases.short = False
        if self.lost is None:
            self._repeats = True
            self._asks.mend()

    # -- slots ----------------------------------------------------------------------------------

    def grant(self, segment: int) -> Grant | None:
        """A slot of a segment that can be filled at once."""
        return self.slots.free(segment, self.there.seen)

    def ask(self, segment: int, now: int, end: int | None = None) -> Ask:
        """Ask for a slot, and wait for the client's turn.

        Messages that were kept back are sent before. The ask is over with a grant; with none, if its time is over; or
        with an error: Overloaded, if no slot will come, since this client itself keeps too many and waits for nothing
        else, or Unavailable.

        Args:
            end: when to wait no longer.
        """
        self.flush()
        return self._asks.wait(segment, now, end)

    def ask_now(self, segment: int, now: int) -> Ask | None:
        """Ask for a slot that is free now; None: most likely none is free.

        The ask is over with a grant, with neither a grant nor an error, or with Unavailable.
        """
        return self._asks.now(segment, now)

    def give_up(self, segment: int, now: int, only: Ask | None = None) -> Ask:
        """All callers that have asked for a slot of this segment, or only the one given, want none any more.

        What is returned is over when no grant for them can come, and none is kept.
        """
        return self._asks.give_up(segment, now, only)

    def give_back(self, slots: Sequence[SlotRef]) -> None:
        """Granted slots that are not needed."""
        self.slots.give_back(slots)

    # -- requests and answers -------------------------------------------------------------------

    def tag(self) -> int:
        """The number of another request."""
        tag, self._next_tag = self._next_tag, self._next_tag + 1
        return tag

    def submit(
        self, made: Pending, draft: Filling, deadline: int, priority: int, name: str, origin: Origin = NO_ORIGIN
    ) -> None:
        """Keep a request to be sent after the next `flush`.

        Args:
            made: its future, which has a `tag`.
            deadline: monotonic nanoseconds; 0: none.
            name: what the client calls it.
        """
        tag, rows = made.tag, max(1, draft.rows)
        # In this order: `mend` takes the slot of a submission that waits here away from its draft.
        made.rows = draft.rows
        self._submissions.append(Submission(tag, draft.slot, draft.as_sent, deadline, priority, name, *origin, rows))
        draft.close()
        self.slots.remove(draft.slot)
        self.futures[tag] = weakref.ref(made)
        self.there.idle = False

    def flush(self) -> None:
        """Send now what was kept back: submissions, and slots that are not needed any more."""
        if self.lost is None and (self._submissions or self.there.dropped):
            self._flush = True

    def cancel(self, tag: int) -> None:
        """Say that a request is not wanted any more; it fails with `Cancelled`, unless it is answered before."""
        if self.lost is None and tag in self.futures:
            self.flush()
            self._outgoing.append(Cancel(self.there.number, (tag,)))

    def ask_status(self) -> None:
        """Ask for the scheduler's status, which comes into `statuses`."""
        self.statuses.clear()
        self.tell(AskStatus(self.there.number))

    def tell(self, message: Sent) -> None:
        """Send the scheduler something on which nothing here depends."""
        self._outgoing.append(message)

    def receive(self, message: object, now: int) -> list[Pending]:
        """Take in a message; the requests that it finishes. A message that a scheduler does not send is ignored."""
        self._heard_at = self._heard_at if type(message) is WireError else now  # any member of a group sends such
        if isinstance(message, Refused):
            self._refused(message)
        elif self.lost is not None:
            # All other messages are from a scheduler that is dead.
            if isinstance(message, Welcome):
                self._answered = True
                self.welcome = message
            elif isinstance(message, OtherProtocol) and not self._answered:
                self.other_version = reason_of(PROTOCOL, message.protocol)
        elif isinstance(message, Answers):
            return self._take(message, now)
        elif isinstance(message, Status):
            self.statuses.append(message.status)
        elif isinstance(message, Gone) and message.epoch != self._epoch:
            # One of the epoch that has welcomed this client was sent earlier, and took another way.
            return self.scheduler_gone(now, message.reason)
        return []

    def _go_on(self, now: int) -> None:
        """See what has come for the callers that wait for slots."""
        self._asks.go_on(now)
        # If slots are short, one that comes back is told of at once.
        self.there.short = self._asks.are_short(now)
        self.there.idle = self.there.short or not self.futures

    def _refused(self, message: Refused) -> None:
        if self.lost is None:
            # A hello that was refused has been granted since. Otherwise this may be in the middle of a call: the slot
            # that it asks for will not come.
            if message.ask != HELLO:
                self._asks.fail(Unavailable(message.reason))
        elif message.protocol == PROTOCOL:
            self._answered = True
            self.refusal = message.reason
        else:
            self.other_version = reason_of(PROTOCOL, message.protocol)

    def _take(self, message: Answers, now: int) -> list[Pending]:
        """Take in answers and grants. Up to the line that says that it was seen, each step may be repeated."""
        leases = self.there
        if message.number != leases.seen + 1:
            if message.number > leases.seen and now - self._again_at > REPEAT_NS:
                # A message before it was lost. It is asked for once, not for each message that follows.
                self._again_at = now
                self._repeats = True
            return []
        # Parts of an answer are not its end.
        tags = [answer.tag for answer in message.answers if answer.last]
        self._taking = message.number, tags
        self.slots.add(message.grants, message.number)
        finished = []
        for answer in message.answers:
            reference = self.futures.get(answer.tag)
            future = None if reference is None else reference()
            fill(future, answer, leases, now)
            if future is not None and answer.last:
                self.unread.add(future)
                finished.append(future)
        self.slots.settled = message.settled
        self.successor = message.successor or self.successor
        leases.seen = message.number
        for tag in tags:
            self.futures.pop(tag, None)
        self.came += len(tags)
        if self._asks or self.slots.unsettled:
            self._go_on(now)
        if not self.futures:
            leases.idle = True
            # A run that was replaced is asked for nothing more, and cannot end while a client may fill its slots.
            self.give_back(self.slots.surplus(message.number, none=bool(self.successor)))
        return finished
