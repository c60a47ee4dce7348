"""Reception: clients come, say what they want, and go. Pure.

    Hello ─▶ let in: Connect, Welcome     if it is early, as soon as every stage has a worker
                                          if there are too many clients: Refused; it may say hello again
    Submit, Loan, Again of a stranger ─▶ Gone: another scheduler has welcomed it
    Cancel ─▶ each of its requests that is not answered yet is answered with the error `Cancelled`
    Bye, or ClientGone ─▶ what it held comes back
    the run has been replaced ─▶ every `Answers` says where to go; a client goes when it has nothing under way

If the scheduler refuses something to a client, it says why, by `Refused` or by an answer.

The scheduler keeps what it sends to a client until the client has confirmed it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

from pipeline.errors import Cancelled, OtherProtocol, Unavailable, WireError
from pipeline.graph.interface import welcome_of
from pipeline.logs.complaints import Complaints
from pipeline.scheduler.admission import Admission
from pipeline.scheduler.answers import Answering
from pipeline.scheduler.door import SHELL, ClientGone, Connect, Decided, Disconnect, Limits, Log, stranger
from pipeline.scheduler.ingress import Client
from pipeline.scheduler.instructions import Instructions, letters_of
from pipeline.scheduler.state import NO_CLIENT, State
from pipeline.scheduler.status import status_of
from pipeline.wire.address import Address
from pipeline.wire.codec import Sent
from pipeline.wire.labels import short_name
from pipeline.wire.messages import (
    HELLO,
    PROTOCOL,
    Again,
    AskStatus,
    AskStory,
    Bye,
    CameraReport,
    Cancel,
    Gone,
    Hello,
    Loan,
    Observe,
    Observed,
    PoolAddress,
    Refused,
    SlotRef,
    Status,
    Story,
    Submit,
    Welcome,
)
from pipeline.wire.versions import OLD, OldWelcome, reason_of

__all__ = ["ENDED", "LOST", "STRANGER_MS", "Reception"]

ENDED = -1
"""In place of an epoch's number, when a scheduler ends, or lets go of a client."""

STRANGER_MS = 250
"""How long the answer to a stranger may take to leave the process. It takes a connection for that time."""

#: Unconfirmed messages after which a client is let go of: more than it can have requests under way.
_MOST_UNREAD = 4096

_LINGER_MS = 1000

LOST = (
    "the scheduler has let go of this client, which has not taken in what it was sent, or has asked again for what it "
    "has confirmed"
)


class Reception:
    """All clients, and those that want to be let in.

    Args:
        addresses: of the plan's pools, for `Welcome`.
    """

    def __init__(
        self,
        state: State,
        admission: Admission,
        answering: Answering,
        addresses: Sequence[PoolAddress],
        limits: Limits,
    ) -> None:
        self._state = state
        self._admission = admission
        self._answering = answering
        self._addresses = tuple(addresses)
        self._limits = limits
        self._welcome: Welcome | None = None
        #: Clients that said hello before every stage had a worker.
        self._early: dict[int, Hello] = {}
        self._told_of_most = False
        self._complaints = Complaints()
        #: When strangers were answered, of the last `STRANGER_MS`.
        self._strangers: deque[int] = deque()

    # -- they come --------------------------------------------------------------------------------

    def hello(self, message: Hello) -> None:
        """A client has connected. If it says hello again, it has lost what it knew: it starts anew."""
        state, number = self._state, message.client
        if number < 0:
            # Such a number stands for no client: what is for a client that has gone would be for this one.
            self._refuse(number, f"expected a client's number from 0 on, found {number}", HELLO)
            return
        if not all(state.stage_workers):
            if len(self._early) < self._limits.clients:
                self._early[number] = message
            missing = [stage.name for stage in state.compiled.stages if not state.stage_workers[stage.index]]
            self._refuse(number, f"no worker is ready yet of: {', '.join(missing)}", HELLO)
            return
        if number in state.ingress.clients:
            self._forget(number)
        elif len(state.ingress.clients) >= self._limits.clients:
            text = (
                f"client {message.name} waits to be let in: {self._limits.clients} clients are what this process "
                f"has descriptors for; raise the hard limit of open files (ulimit -n)"
            )
            if not self._told_of_most:
                self._told_of_most = True
                state.out.first.append((SHELL, Log(text)))
            self._refuse(number, text, HELLO)
            return
        state.ingress.join(number, short_name(message.name))
        state.out.first += [(SHELL, Connect(number)), (Address.client(number), self._welcomed())]
        if state.successor:
            # It may have begun to connect before the run was replaced.
            state.out.sent_away[number] = None

    def replaced(self, successor: str) -> None:
        """The run has been replaced: every client is told where to go."""
        self._state.successor = successor
        self._state.out.sent_away.update(dict.fromkeys(self._state.ingress.clients))

    @property
    def may_still_send(self) -> bool:
        """Whether a request of a client may be on its way: it has a slot that it may fill. (One that asks for a slot
        loses nothing if the run ends: it asks in the new run.)"""
        return any(client.granted for client in self._state.ingress.clients.values())

    def worker_came(self) -> None:
        """Let in the clients that came early, if every stage has a worker now."""
        if self._early and all(self._state.stage_workers):
            early, self._early = self._early, {}
            for message in early.values():
                self.hello(message)

    def _welcomed(self) -> Welcome:
        """The first message to every client."""
        if self._welcome is None:
            self._welcome = welcome_of(self._state.plan, self._addresses, self._state.epoch)
        return self._welcome

    def _known(self, number: int) -> Client | None:
        """The client of that number; None, and it is told so, if another scheduler has welcomed it."""
        known = self._state.ingress.clients.get(number)
        if known is None:
            self._stranger(number, Gone(self._state.epoch))
        return known

    # -- what they want ---------------------------------------------------------------------------

    def submit(self, message: Submit) -> None:
        """A client sends requests, and the slots that it has finished with."""
        known = self._known(message.client)
        if known is None:
            return
        known.confirm(message.seen)
        for submission in message.submissions:
            self._admission.submit(known, submission)
        for ref in message.releases:
            self._admission.release(known, ref)
        for name in message.ended:
            self._state.streams.end(message.client, name)

    def loan(self, message: Loan) -> None:
        """A client asks for a slot of an ingress segment."""
        ingress = self._state.ingress
        known = self._known(message.client)
        if known is not None and not ingress.ask(known, message.segment, message.ask, message.wait):
            self._state.counts["refused_loans"] += 1
            why = "it has said goodbye" if known.leaving else f"segment {message.segment} is not one that clients fill"
            self._refuse(message.client, f"no slot of segment {message.segment} is granted: {why}", message.ask)

    def again(self, message: Again) -> None:
        """A client has lost what it was receiving."""
        out = self._state.out
        known = self._known(message.client)
        if known is None:
            return
        if known.leaving:
            # It was let go of, and has not heard so.
            out.first.append((Address.client(known.number), Gone(ENDED, LOST)))
            return
        known.confirm(message.seen)
        if known.unread and known.unread[0].number != message.seen + 1:
            # It lacks messages that it has confirmed, so they are not kept any more: it can only begin anew.
            out.lost.append(known.number)
        out.repeat[known.number] = None

    def cancel(self, message: Cancel) -> None:
        """A client no longer wants some of its requests."""
        state = self._state
        known = self._known(message.client)
        if known is None:
            return
        wanted = set(message.tags)
        found = [request for number in known.requests if (request := state.requests[number]).tag in wanted]
        for request in found:
            self._answering.finish(request, Cancelled.code, "cancelled by its client")
        # The others were answered, and their answers are on their way.
        state.counts["late_cancellations"] += len(wanted) - len(found)

    def camera(self, message: CameraReport) -> None:
        """A source tells how its camera is."""
        known = self._known(message.client)
        if known is not None and not known.leaving and not self._state.cameras.report(known.number, message.counts):
            self._state.counts["unexpected_messages"] += 1

    def unreadable(self, error: WireError) -> None:
        """A frame that is no message has arrived. If it says which client it is of, that client is told."""
        self._complain(error)
        if error.client is not None:
            self._refuse(error.client, f"a message of this client cannot be read: {error}")

    def other_protocol(self, error: OtherProtocol) -> None:
        """A client of another version is told both versions, and which side must change."""
        if error.asks_only:
            # It says hello in a form of its own too. That one may have been lost with the scheduler of before: an
            # answer to this one alone would tell the client that the scheduler is old.
            return
        self._complain(error)
        if error.client is not None:
            why = reason_of(error.protocol, PROTOCOL)
            old = error.protocol in OLD
            self._stranger(error.client, OldWelcome(error.protocol, why) if old else Refused(PROTOCOL, why, 0))

    def _complain(self, error: WireError) -> None:
        """Count a frame that is no message, and let people know."""
        state = self._state
        state.counts["refused_frames"] += 1
        # A process that floods the scheduler must not fill the log, and others must not wait for that.
        if text := self._complaints.shown(f"refused a message: {error}", state.now):
            state.out.first.append((SHELL, Log(text)))

    def _refuse(self, number: int, reason: str, ask: int = 0) -> None:
        """Tell a client why the scheduler does not do what it asked for."""
        self._tell(number, Refused(PROTOCOL, reason, ask))

    def ask_status(self, message: AskStatus) -> None:
        """A client, or another process of this host, asks for the status."""
        self._tell(message.client, Status(status_of(self._state)))

    def ask_story(self, message: AskStory) -> None:
        """A client, or another process of this host, asks what has happened to a request."""
        lines = self._state.story(message.request)
        self._tell(message.client, Story(message.request, None if lines is None else tuple(lines)))

    def observe(self, message: Observe) -> None:
        """A process asks which requests have ended."""
        observation = self._state.observation
        self._tell(
            message.client,
            observation.observe(message.client, message.seen, self._state.now, expected=message.expected),
        )
        for outcome, count in observation.exported(message.client, message.spans).items():
            self._state.counts[f"spans_{outcome}"] += count

    def _tell(self, number: int, message: Status | Story | Observed | Refused) -> None:
        """Answer a client, or a process that is none."""
        if number in self._state.ingress.clients:
            self._state.out.first.append((Address.client(number), message))
        else:
            self._stranger(number, message)

    def _stranger(self, number: int, message: Sent) -> None:
        """Answer a process that has not said hello to this scheduler; perhaps it has to one that is dead now."""
        state = self._state
        while self._strangers and state.now - self._strangers[0] > STRANGER_MS * 1_000_000:
            self._strangers.popleft()
        if number < 0 or len(self._strangers) >= self._limits.strangers:
            # Each answer takes a connection until it has left or `STRANGER_MS` are over, and connections are few. A
            # process that waits for the answer asks again.
            state.counts["refused_strangers"] += 1
            return
        self._strangers.append(state.now)
        state.out.first.append((stranger(number), message))

    # -- they go ----------------------------------------------------------------------------------

    def bye(self, message: Bye) -> None:
        """A client leaves; it still reads the slots of answers in `kept`, and writes the others of them."""
        self._leaves(message.client, message.kept)

    def client_gone(self, message: ClientGone) -> None:
        """A client is dead, or it has left and its goodbye was lost."""
        if message.client in self._state.ingress.clients:
            self._state.counts["client_deaths"] += 1
            self._state.dead_clients.append(self._state.ingress.clients[message.client].name)
            self._leaves(message.client)

    def _leaves(self, number: int, kept: Sequence[SlotRef] = ()) -> None:
        self._early.pop(number, None)
        clients = self._state.ingress.clients
        if number not in clients:
            return
        self._forget(number, kept)
        # Otherwise its process still reads some answers: it stays known, and watched, until it releases the last one.
        if number not in clients:
            self._told_of_most = False
            self._state.out.first.append((SHELL, Disconnect(Address.client(number), 0)))

    def _forget(self, number: int, kept: Collection[SlotRef] = ()) -> None:
        """A client submits no slot any more, and its process touches only those in `kept`."""
        state = self._state
        known = state.ingress.clients[number]
        for lease in tuple(known.granted):
            state.ingress.taken_back(known, lease)
            if lease in kept:
                # Another thread of it may be in the middle of writing the slot: it comes back as one that is read does.
                known.borrowed.add(lease)
            else:
                state.let_go(None, lease)
        touched = known.borrowed.intersection(kept)
        for lease in known.borrowed - touched:
            state.let_go(None, lease)
        known.borrowed = touched
        if touched:
            state.ingress.lingers(known)
        else:
            state.ingress.leave(number)
        for request_number in tuple(known.requests):
            request = state.requests[request_number]
            # What was ordered finishes and is dropped; a request that still waits here need not run at all.
            if all(step is None for member in request.family() for step in member.steps):
                self._answering.finish(request, Unavailable.code, "its client has gone")
        known.requests.clear()
        known.several.clear()
        state.streams.client_gone(number)
        state.cameras.client_gone(number, state.now)
        for request in state.requests.values():
            # Also for answered ones, whose slots come back later: a later client may have the same number.
            if request.client == number:
                request.client = NO_CLIENT
        # A later client of that number must not get what was decided for this one and was not sent yet.
        state.out.answers.pop(number, None)
        state.out.repeat.pop(number, None)

    # -- what they are sent -----------------------------------------------------------------------

    def letters(self, out: Instructions) -> list[Decided]:
        """Answers and grants as messages. Clients that have lost messages for good are let go of."""
        state = self._state
        decided: list[Decided] = []
        clients = state.ingress.clients
        for number in out.repeat:
            if (known := clients.get(number)) is not None:
                state.counts["repeated_answers"] += len(known.unread)
                decided += [(Address.client(number), letter) for letter in known.unread]
        for number in out.answers.keys() | out.grants.keys() | out.sent_away.keys():
            if (known := clients.get(number)) is not None and not known.leaving:
                self._write(known, out, decided)
        for number in out.lost:
            if (known := clients.get(number)) is not None and not known.leaving:
                state.counts["lost_clients"] += 1
                # Its process lives: it may read and write all of these, until it says goodbye or is dead.
                self._forget(number, known.granted | known.borrowed)
                told = _ended(number, LOST)
                decided += told[:1] if number in clients else told
        return decided

    def _write(self, known: Client, out: Instructions, decided: list[Decided]) -> None:
        """Add a client's answers and grants as messages, which are kept until the client confirms them."""
        answers, grants = out.answers.get(known.number, ()), out.grants.get(known.number, ())
        letters = letters_of(known.sent, answers, grants, known.settled, self._state.successor)
        known.sent = letters[-1].number
        known.unread.extend(letters)
        if len(known.unread) > _MOST_UNREAD:
            out.lost.append(known.number)
        receiver = Address.client(known.number)
        decided += [(receiver, letter) for letter in letters]

    def farewell(self) -> list[Decided]:
        """The scheduler ends: tell all clients, so that none has to find out by itself; and observers."""
        told: list[Decided] = [(stranger(number), last) for number, last in self._state.observation.farewell()]
        return [*told, *[each for number in self._state.ingress.clients for each in _ended(number)]]


def _ended(number: int, reason: str = "") -> list[Decided]:
    receiver = Address.client(number)
    # The linger is for the last answers, which were sent a moment ago.
    return [(receiver, Gone(ENDED, reason)), (SHELL, Disconnect(receiver, _LINGER_MS))]
