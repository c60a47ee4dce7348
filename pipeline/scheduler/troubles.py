"""Troubles: what operators are told although no process has died: requests that are refused or late, clients that are
killed, or that keep what others could use. Pure.

A metric has each of them, too. A line of a kind comes a second after it began, so that it can say how many there are,
and then once a minute for as long as it goes on: whatever callers do, they cannot fill the log.
"""

from __future__ import annotations

from pipeline.errors import DeadlineExceeded, Overloaded
from pipeline.scheduler.state import State
from pipeline.wire.labels import client_id

__all__ = ["EVERY_NS", "GATHER_NS", "KEPT_NS", "Troubles"]

GATHER_NS = 1_000_000_000
"""How long those of a kind are counted before the first line."""

EVERY_NS = 60_000_000_000
"""How long there is no further line of the kind."""

KEPT_NS = 10_000_000_000
"""How long a client may keep all that it may have, and send nothing."""

_CODES = {
    Overloaded.code: "refused at once, since too many wait",
    DeadlineExceeded.code: "not finished in time",
}


class _Kind:
    """How many there have been, and how many of them were told."""

    __slots__ = ("_next_at", "_risen_at", "_told", "waiting")

    def __init__(self) -> None:
        self._told = 0
        #: When the first came that was not told; 0: there is none.
        self._risen_at = 0
        self._next_at = 0
        #: What waited when that one came: a second later a burst may be over.
        self.waiting = ""

    def due(self, count: int, state: State) -> int:
        """How many to tell now.

        Args:
            count: how many there have been.
        """
        if count <= self._told:
            return 0
        now = state.now
        if not self._risen_at:
            self._risen_at, self.waiting = now, _waiting(state)
        if now < max(self._risen_at + GATHER_NS, self._next_at):
            return 0
        more, self._told = count - self._told, count
        self._risen_at, self._next_at = 0, now + EVERY_NS
        return more


class Troubles:
    """What of them was told."""

    def __init__(self) -> None:
        self._codes = {code: _Kind() for code in _CODES}
        self._deaths = _Kind()
        #: Since when a client keeps its share; 0: that was told.
        self._kept: dict[int, int] = {}

    def look(self, state: State) -> list[str]:
        """The lines for operators that are due. To be called a few times a second."""
        return [*self._answers(state), *self._dead_clients(state), *self._keepers(state)]

    def _answers(self, state: State) -> list[str]:
        lines = []
        for code, kind in self._codes.items():
            if more := kind.due(state.counts.answers[code], state):
                lines.append(f"{_requests(more)} {_CODES[code]} ({code}); waiting then: {kind.waiting}")
        return lines

    def _dead_clients(self, state: State) -> list[str]:
        more = self._deaths.due(state.counts["client_deaths"], state)
        if not more:
            return []
        names = ", ".join(dict.fromkeys(state.dead_clients))
        state.dead_clients.clear()
        clients = "1 client has" if more == 1 else f"{more} clients have"
        return [f"{clients} ended without a goodbye, as one that is killed does: {names}; what they held is free again"]

    def _keepers(self, state: State) -> list[str]:
        ingress, lines = state.ingress, []
        keepers = {number: client for number, client in ingress.clients.items() if ingress.keeps_share(client)}
        self._kept = {number: self._kept.get(number, state.now) for number in keepers}
        for number, since in self._kept.items():
            if since and state.now - since >= KEPT_NS:
                self._kept[number] = 0
                client = keepers[number]
                lines.append(
                    f"client {client.name} ({client_id(number)}) has kept all slots that it may have for "
                    f"{KEPT_NS // 1_000_000_000} s, and sends nothing: {len(client.borrowed)} of answers that it has "
                    f"not released, {len(client.granted)} to fill"
                )
        return lines


def _waiting(state: State) -> str:
    waiting = [(stage.name, state.waiting(stage.index)) for stage in state.compiled.stages]
    return ", ".join(f"{count} for {name}" for name, count in waiting if count) or "none"


def _requests(count: int) -> str:
    return "1 request was" if count == 1 else f"{count} requests were"
