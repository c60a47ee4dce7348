"""Observation: the requests that have ended, for processes that watch: the access log, traces. Pure.

    observer ──Observe──▶ scheduler     from the first one on it keeps what ends, for this observer
             ◀──Observed──              what has ended since the last one, and how many were not kept
             ──Observe──▶               ... again and again; 3 s after the last one it keeps nothing

The observer sets the pace: one that is slow, or stands still, costs the scheduler a bounded part of its memory, and no
message is ever on its way that it has not asked for. Without an observer, a request costs one question: is there one?
"""

from __future__ import annotations

from collections import deque

from pipeline.errors import without_last_lines
from pipeline.scheduler.ledger import Request
from pipeline.scheduler.story import ordered
from pipeline.wire.messages import Observed
from pipeline.wire.records import OK, Ended, Note, Step, Submission
from pipeline.wire.traceparent import LONGEST as LONGEST_TRACEPARENT
from pipeline.wire.traces import TRACE_BYTES

__all__ = ["MOST_KEPT", "MOST_OBSERVERS", "PATIENCE_NS", "SPAN_OUTCOMES", "Observation"]

SPAN_OUTCOMES = ("exported", "dropped", "failed", "missed")
"""What an observer that exports traces counts: spans that the collector has, those that found no room in its queue,
those that the collector refused or could not be given, and requests whose spans were never made, since the scheduler
had no room to keep them. The metric `trtlab_spans` has them as its outcomes."""

MOST_OBSERVERS = 4
PATIENCE_NS = 3_000_000_000

MOST_KEPT = 16_384
"""Requests, for each observer; later ones are counted."""

_MOST_BYTES, _MOST_LAST_BYTES = 1 << 20, 3 << 20
"""Of one message, and of the last one; a frame may have four MiB."""

_MOST_STEPS = 256
"""Of one request: what it does with more children is left out."""

_MOST_NOTES = 32

_LONGEST_MESSAGE = 300

_ALWAYS = 1 << 62


class _Observer:
    __slots__ = ("kept", "lost", "sent", "spans", "until")

    def __init__(self) -> None:
        self.kept: deque[Ended] = deque()
        self.lost = 0
        self.until = 0
        #: As it has told last.
        self.spans = (0,) * len(SPAN_OUTCOMES)
        #: The last answer: it is sent again if it was lost, as when too many strangers were answered.
        self.sent = Observed(0, (), 0)

    def next(self, most: int, *, last: bool = False) -> Observed:
        """What has ended since the last answer, until that has so many bytes."""
        told: list[Ended] = []
        nbytes = 0
        while self.kept and nbytes < most:
            ended = self.kept.popleft()
            told.append(ended)
            nbytes += 1024 + len(ended.traces) + 32 * len(ended.steps) + 512 * len(ended.notes)
        self.sent = Observed(self.sent.number + 1, tuple(told), self.lost, last=last)
        self.lost = 0
        return self.sent


class Observation:
    """What is kept for each observer."""

    def __init__(self) -> None:
        #: By the number that an observer gives itself. Those that have not asked yet, and are expected, have numbers
        #: below 0. Callers may ask whether there is any.
        self.observers: dict[int, _Observer] = {}

    def expect(self, count: int) -> None:
        """So many processes of the run will ask: what ends is kept for them from now on."""
        for number in range(-count, 0):
            self.observers[number] = expected = _Observer()
            expected.until = _ALWAYS

    @property
    def expects(self) -> bool:
        """Whether one of those has not asked yet."""
        return any(number < 0 for number in self.observers)

    def observe(self, number: int, seen: int, now: int, *, expected: bool = False) -> Observed:
        """An observer asks.

        Args:
            number: its own.
            seen: see `Observe`.
            now: monotonic nanoseconds.
            expected: see `Observe`.
        """
        self._forget(now)
        if expected and number not in self.observers and self.expects:
            self.observers[number] = self.observers.pop(min(self.observers))
        observer = self.observers.get(number)
        if observer is None:
            if len(self.observers) >= MOST_OBSERVERS:
                return Observed(0, (), 0, f"{MOST_OBSERVERS} processes watch already")
            observer = self.observers[number] = _Observer()
        observer.until = now + PATIENCE_NS
        again = observer.sent.number and seen != observer.sent.number
        return observer.sent if again else observer.next(_MOST_BYTES)

    def exported(self, number: int, spans: tuple[int, ...]) -> dict[str, int]:
        """What an observer has done with spans since it told last, by outcome.

        Args:
            spans: all that it has had; empty: it exports none.
        """
        observer = self.observers.get(number)
        if observer is None or len(spans) != len(SPAN_OUTCOMES):
            return {}
        before, observer.spans = observer.spans, spans
        return {name: max(0, now - then) for name, now, then in zip(SPAN_OUTCOMES, spans, before)}

    def farewell(self) -> list[tuple[int, Observed]]:
        """The scheduler ends: what each observer, by its number, is told at last."""
        told = []
        for number, observer in self.observers.items():
            if number < 0:
                continue
            # The one before again, which it may not have; it takes in each number once.
            told += [(number, observer.sent), (number, observer.next(_MOST_LAST_BYTES, last=True))]
        return told

    def refused(self, label: str, client: str, code: str, message: str, submission: Submission, now: int) -> None:
        """A request was not let in."""
        ended = Ended(
            label, client, code, message[:_LONGEST_MESSAGE], now, now, submission.started, 0,
            submission.traceparent[:LONGEST_TRACEPARENT], b"", (), submission.rows,
        )  # fmt: skip
        for observer in self._wanting(now):
            observer.kept.append(ended)

    def ended(self, request: Request, client: str, code: str, message: str, now: int) -> None:
        """A request of a client was answered. To be called before it is taken apart, if there are observers."""
        if wanting := self._wanting(now):
            ended = _ended(request, client, code, message, now)
            for observer in wanting:
                observer.kept.append(ended)

    def _wanting(self, now: int) -> list[_Observer]:
        """The observers that have room for one more; for the others it is counted."""
        self._forget(now)
        wanting = [observer for observer in self.observers.values() if len(observer.kept) < MOST_KEPT]
        for observer in self.observers.values():
            observer.lost += len(observer.kept) >= MOST_KEPT
        return wanting

    def _forget(self, now: int) -> None:
        for number in [number for number, observer in self.observers.items() if observer.until < now]:
            del self.observers[number]


def _ended(request: Request, client: str, code: str, message: str, now: int) -> Ended:
    steps: list[Step] = []
    notes: list[Note] = []
    for member in request.family():
        if len(steps) >= _MOST_STEPS:
            break
        steps += _steps(member)
        notes += _notes(member)
    traces = b"".join(request.traces.values())[: _MOST_STEPS * TRACE_BYTES]
    said = "" if code == OK else without_last_lines(message)[:_LONGEST_MESSAGE]
    return Ended(
        request.label, client, code, said, request.submitted, now, request.started, request.attempt,
        request.traceparent, traces, tuple(steps[:_MOST_STEPS]), request.rows, tuple(notes[:_MOST_NOTES]),
    )  # fmt: skip


def _steps(request: Request) -> list[Step]:
    """Which worker did what of a request, or child."""
    worker: dict[int, int] = {}
    steps = []
    child = -1 if request.parent is None else request.position
    for when, what in request.events:
        if isinstance(what, int):
            steps.append(Step(what, worker.pop(what, -1), child, when))
        elif not isinstance(what, str):
            worker.update(ordered(what))
    # A worker whose notice may come late has perhaps not told yet, though the one behind it has.
    return [*steps, *[Step(stage, number, child, 0) for stage, number in worker.items() if request.done >> stage & 1]]


def _notes(request: Request) -> list[Note]:
    """What rare has happened to a request, or child."""
    child = -1 if request.parent is None else request.position
    notes: list[Note] = []
    again = 0
    for when, what in reversed(request.events):
        if isinstance(what, str):
            notes.append(Note(when, what[:_LONGEST_MESSAGE], child, again))
        elif not isinstance(what, int):
            again = when
    return notes[::-1]
