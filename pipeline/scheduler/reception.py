"""Reception: clients come, say what they want, and go. Pure.

    Hello ─▶ let in: Connect, Welcome     early: as soon as every stage has a worker
                                          too many: not answered; a client that waits says hello again
    Submit, Loan, Again of a stranger ─▶ Gone: another scheduler has welcomed it
    Bye, or ClientGone ─▶ what it held comes back

What is sent to a client is kept until the client has confirmed it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from typing import Any

from pipeline.scheduler.admission import Admission
from pipeline.scheduler.completion import Completion
from pipeline.scheduler.door import SHELL, ClientGone, Connect, Decided, Disconnect, Limits, Log, client, stranger
from pipeline.scheduler.ingress import Client
from pipeline.scheduler.instructions import Instructions, letters_of
from pipeline.scheduler.state import NOBODY, State
from pipeline.scheduler.status import status_of
from pipeline.wire.messages import (
    Again,
    AskStatus,
    AskStory,
    Bye,
    Gone,
    Hello,
    Loan,
    Message,
    PoolAddress,
    SlotRef,
    Status,
    Submit,
    Welcome,
)

__all__ = ["ENDED", "STRANGER_MS", "Reception"]

ENDED = -1
"""No epoch's number: what a scheduler calls itself when it ends, or lets go of a client."""

STRANGER_MS = 250
"""So long the answer to a stranger may take to leave the process. It takes a connection for that time."""

#: A client that confirms nothing is let go of then: more messages than it can have requests under way.
_MOST_UNREAD = 4096

_LINGER_MS = 1000


class Reception:
    """All clients, and those who would be.

    Args:
        addresses: of the plan's pools, for `Welcome`.
    """

    def __init__(
        self,
        state: State,
        admission: Admission,
        completion: Completion,
        addresses: Sequence[PoolAddress],
        limits: Limits,
    ) -> None:
        self._state = state
        self._admission = admission
        self._completion = completion
        self._addresses = tuple(addresses)
        self._limits = limits
        self._welcome: Welcome | None = None
        #: Clients that said hello before every stage had a worker.
        self._early: dict[int, Hello] = {}
        self._told_of_most = False
        #: When strangers were answered, of the last `STRANGER_MS`.
        self._strangers: deque[int] = deque()

    # -- they come --------------------------------------------------------------------------------

    def hello(self, message: Hello) -> None:
        """A client has connected. One that says hello again has lost its memory: it starts anew."""
        state, number = self._state, message.client
        if not all(state.crews):
            if len(self._early) < self._limits.clients:
                self._early[number] = message
            return
        if number in state.ingress.clients:
            self._forget(number)
        elif len(state.ingress.clients) >= self._limits.clients:
            if not self._told_of_most:
                self._told_of_most = True
                text = (
                    f"client {message.name} waits to be let in: {self._limits.clients} clients are what this process "
                    f"has descriptors for; raise the hard limit of open files (ulimit -n)"
                )
                state.out.first.append((SHELL, Log(text)))
            return
        state.ingress.join(number, message.name)
        state.out.first += [(SHELL, Connect(number)), (client(number), self._welcomed())]

    def worker_came(self) -> None:
        """Let those in who came early, if every stage has a worker now."""
        if self._early and all(self._state.crews):
            early, self._early = self._early, {}
            for message in early.values():
                self.hello(message)

    def _welcomed(self) -> Welcome:
        """What every client is told at first."""
        if self._welcome is None:
            self._welcome = Welcome(self._state.epoch, self._state.plan.to_json(), self._addresses)
        return self._welcome

    # -- what they want ---------------------------------------------------------------------------

    def submit(self, message: Submit) -> None:
        """A client's requests, and the slots that it has finished with."""
        known = self._state.ingress.clients.get(message.client)
        if known is None:
            self._stranger(message.client, Gone(self._state.epoch))
            return
        known.confirm(message.seen)
        for submission in message.submissions:
            self._admission.submit(known, submission)
        for ref in message.releases:
            self._admission.release(known, ref)

    def loan(self, message: Loan) -> None:
        """A client asks for a slot of an ingress segment."""
        ingress = self._state.ingress
        known = ingress.clients.get(message.client)
        if known is None:
            self._stranger(message.client, Gone(self._state.epoch))
        elif not ingress.ask(known, message.segment, message.ask, message.wait):
            self._state.counts["refused_loans"] += 1

    def again(self, message: Again) -> None:
        """A client has lost what it was receiving."""
        out = self._state.out
        known = self._state.ingress.clients.get(message.client)
        if known is None:
            self._stranger(message.client, Gone(self._state.epoch))
            return
        known.confirm(message.seen)
        if known.unread and known.unread[0].number != message.seen + 1:
            # What it lacks is here no more, for it has said that it has it: it can only begin anew.
            out.lost.append(known.number)
        out.repeat[known.number] = None

    def ask_status(self, message: AskStatus) -> None:
        """A client, or another process of this host, asks how things are."""
        self._tell(message.client, status_of(self._state))

    def ask_story(self, message: AskStory) -> None:
        """As `ask_status`: what has happened to a request."""
        self._tell(message.client, {"request": message.request, "story": self._state.story(message.request)})

    def _tell(self, number: int, document: dict[str, Any]) -> None:
        status = Status(json.dumps(document))
        if number in self._state.ingress.clients:
            self._state.out.first.append((client(number), status))
        else:
            self._stranger(number, status)

    def _stranger(self, number: int, message: Message) -> None:
        """Answer a process that has not said hello here, perhaps because it was to a scheduler that is dead."""
        state = self._state
        while self._strangers and state.now - self._strangers[0] > STRANGER_MS * 1_000_000:
            self._strangers.popleft()
        if number < 0 or len(self._strangers) >= self._limits.strangers:
            # Each takes a connection for as long as it may linger, and there are not many. A process that waits for
            # the answer asks again.
            state.counts["refused_strangers"] += 1
            return
        self._strangers.append(state.now)
        state.out.first.append((stranger(number), message))

    # -- they go ----------------------------------------------------------------------------------

    def bye(self, message: Bye) -> None:
        """A client leaves; slots of answers in `kept` it still reads."""
        self._leaves(message.client, message.kept)

    def client_gone(self, message: ClientGone) -> None:
        """A client is dead, or has left and its goodbye was lost."""
        if message.client in self._state.ingress.clients:
            self._state.counts["client_deaths"] += 1
            self._leaves(message.client)

    def _leaves(self, number: int, kept: Sequence[SlotRef] = ()) -> None:
        self._early.pop(number, None)
        clients = self._state.ingress.clients
        if number not in clients:
            return
        self._forget(number, kept)
        # Otherwise its process still reads some answers: it is known, and watched, until the last is released.
        if number not in clients:
            self._told_of_most = False
            self._state.out.first.append((SHELL, Disconnect(client(number), 0)))

    def _forget(self, number: int, kept: Sequence[SlotRef] = ()) -> None:
        """A client writes no slot any more, and reads only those of answers in `kept`."""
        state = self._state
        known = state.ingress.clients[number]
        for lease in tuple(known.granted):
            state.ingress.taken_back(known, lease)
            state.let_go(None, lease)
        still_read = known.borrowed.intersection(kept)
        for lease in known.borrowed - still_read:
            state.let_go(None, lease)
        known.borrowed = still_read
        if still_read:
            state.ingress.lingers(known)
        else:
            state.ingress.leave(number)
        for request_number in tuple(known.requests):
            request = state.requests[request_number]
            # Ordered work finishes and is dropped; what still waits here need not run at all.
            if all(step is None for member in request.family() for step in member.steps):
                self._completion.finish(request, "Unavailable", "its client has gone")
        known.requests.clear()
        for request in state.requests.values():
            # Answered ones too, whose slots come back later: its number may come again, with another life behind it.
            if request.client == number:
                request.client = NOBODY
        # What was decided for it a moment ago and has not gone out is not for its next life either.
        state.out.answers.pop(number, None)
        state.out.grants.pop(number, None)
        state.out.repeat.pop(number, None)

    # -- what they are sent -----------------------------------------------------------------------

    def letters(self, out: Instructions) -> list[Decided]:
        """Answers and grants as messages; clients that have lost track of them are let go of."""
        state = self._state
        decided: list[Decided] = []
        clients = state.ingress.clients
        for number in out.repeat:
            if (known := clients.get(number)) is not None:
                state.counts["repeated_answers"] += len(known.unread)
                decided += [(client(number), letter) for letter in known.unread]
        for number in out.answers.keys() | out.grants.keys():
            if (known := clients.get(number)) is not None and not known.leaving:
                self._write(known, out, decided)
        for number in out.lost:
            if number in clients:
                state.counts["lost_clients"] += 1
                self._forget(number)
                decided += _ended(number)
        return decided

    def _write(self, known: Client, out: Instructions, decided: list[Decided]) -> None:
        """The client's answers and grants as messages, which are kept until the client says that it has them."""
        answers = out.answers.get(known.number, ())
        letters = letters_of(known.sent, answers, out.grants.get(known.number, ()), known.settled)
        known.sent = letters[-1].number
        known.unread.extend(letters)
        if len(known.unread) > _MOST_UNREAD:
            out.lost.append(known.number)
        receiver = client(known.number)
        decided += [(receiver, letter) for letter in letters]

    def farewell(self) -> list[Decided]:
        """The scheduler ends: clients that wait need not find out by themselves."""
        return [each for number in self._state.ingress.clients for each in _ended(number)]


def _ended(number: int) -> list[Decided]:
    receiver = client(number)
    # The last answers were sent a moment ago.
    return [(receiver, Gone(ENDED)), (SHELL, Disconnect(receiver, _LINGER_MS))]
