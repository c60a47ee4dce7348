"""Story: what has happened to a request, for people. Pure.

A request notes what is decided about it. No text is made of the notes before a person asks:

    (time, order)    ordered, so far ahead
    (time, way)      the same of a common order: the stages and their workers
    (time, stage)    a stage has finished with it; its index
    (time, text)     anything rarer

The stories of the last requests that have ended are kept: failed ones apart from the others, which are many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from pipeline.wire.messages import OK, Order
from pipeline.wire.route import hops_of

__all__ = ["Event", "Stories", "line", "note", "ordered"]

Event = tuple[int, Order | tuple[tuple[int, int], ...] | int | str]
"""When, in monotonic nanoseconds, and what."""

_MOST_EVENTS = 64

_KEPT = 256


#: Kept of a request: its label, when it came, its events, when it ended, the code and message of its answer.
_Ended = tuple[str, int, list[Event], int, str, str]


def note(events: list[Event], now: int, what: str) -> None:
    """Note something rare. However often a request runs again, its story stays short: the middle is dropped."""
    if len(events) >= _MOST_EVENTS:
        half = _MOST_EVENTS // 2
        del events[half // 2 : half]
    events.append((now, what))


class Stories:
    """The stories of the requests that have ended.

    Args:
        stages: the names of the stages, in the plan's order.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self._stages = stages
        self._answered: deque[_Ended] = deque(maxlen=_KEPT)
        self._failed: deque[_Ended] = deque(maxlen=_KEPT)

    def end(self, label: str, submitted: int, events: list[Event], ended: int, code: str, message: str) -> None:
        """A request has been answered."""
        kept = self._answered if code == OK else self._failed
        kept.append((label, submitted, events, ended, code, message))

    def of_ended(self, request: str) -> list[str] | None:
        """The story of a request by its id (see `wire.labels`), in lines; None if it is no longer known."""
        for kept in (self._failed, self._answered):
            for label, submitted, events, ended, code, message in reversed(kept):
                if label.partition(" ")[0] == request:
                    end = "answered" if code == OK else f"failed: {code}: {message}"
                    return [*self.lines(submitted, events), line(submitted, ended, end)]
        return None

    def lines(self, submitted: int, events: Iterable[Event]) -> list[str]:
        """What has happened until now, in lines."""
        said = [line(submitted, when, self._text(what)) for when, what in events]
        return [line(submitted, submitted, "came"), *said]

    def _text(self, what: Order | tuple[tuple[int, int], ...] | int | str) -> str:
        if isinstance(what, str):
            return what
        if isinstance(what, int):
            return f"{self._stages[what]} has finished"
        hops = [f"{self._stages[stage]} from worker {worker}" for stage, worker in ordered(what)]
        return f"ordered: {', then '.join(hops)}"


def ordered(what: Order | tuple[tuple[int, int], ...]) -> Sequence[tuple[int, int]]:
    """Each stage of an order, with its worker."""
    if isinstance(what, tuple):
        return what
    return [(what.hop.stage, what.hop.worker), *[(hop[0], hop[2]) for hop in hops_of(what.route)]]


def line(submitted: int, when: int, text: str) -> str:
    """One line of a story, with the milliseconds since the request came."""
    return f"{(when - submitted) / 1e6:9.1f} ms  {text}"
