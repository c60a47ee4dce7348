"""Tally: what became of the requests of a load generator. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pipeline.load.histogram import Histogram
from pipeline.load.timeline import Timeline

__all__ = ["Failure", "Tally", "Window"]

_MESSAGE_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no answer."""

    kind: str
    """The code of the error, such as "Overloaded"."""
    message: str


@dataclass(slots=True)
class Window:
    """What happened since the last line that was shown."""

    sent: int = 0
    answered: int = 0
    failed: int = 0
    latencies: Histogram = field(default_factory=Histogram)


@dataclass(slots=True)
class Tally:
    """Counts and histograms. Durations are in seconds; percentiles are of requests that were answered."""

    sent: int = 0
    answered: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """Requests without an answer, by the kind of their error."""
    messages: dict[str, str] = field(default_factory=dict)
    """The message of the first failure of each kind."""
    latencies: Histogram = field(default_factory=Histogram)
    """From the time at which a request was due to its answer. In a closed loop it is due when it is sent."""
    from_sending: Histogram = field(default_factory=Histogram)
    """From the time at which it was sent to its answer."""
    held: Histogram = field(default_factory=Histogram)
    """From the time at which it was due until fewer than `max_outstanding` were outstanding; of every request sent."""
    lateness: Histogram = field(default_factory=Histogram)
    """From the time at which it could have been sent until it was: what the generator itself is late."""
    timeline: Timeline = field(default_factory=Timeline)
    last_s: float = 0.0
    """When the last answer or failure came, in seconds from the beginning."""
    window: Window = field(default_factory=Window)

    @property
    def failed(self) -> int:
        """Requests without an answer."""
        return sum(self.failures.values())

    def went(self, due: float, free: float, now: float) -> None:
        """A request was sent.

        Args:
            due: when it was due.
            free: since when there was a place for it; before it was due, it was not held.
            now: when it was sent.
        """
        self.sent += 1
        self.window.sent += 1
        self.held.add(free - due)
        self.lateness.add(now - max(due, free))
        self.timeline.row(due).wanted += 1
        self.timeline.row(now).sent += 1

    def came(self, due: float, sent: float, at: float, failure: Failure | None) -> None:
        """The answer to a request came, or its error, at that time."""
        self.last_s = max(self.last_s, at)
        if failure is not None:
            self.failures[failure.kind] += 1
            self.messages.setdefault(failure.kind, _line(failure.message))
            self.timeline.row(at).failed += 1
            self.window.failed += 1
            return
        self.answered += 1
        self.latencies.add(at - due)
        self.from_sending.add(at - sent)
        self.timeline.answered(at, at - due)
        self.window.answered += 1
        self.window.latencies.add(at - due)

    def next_window(self) -> Window:
        """What happened since the last call."""
        done, self.window = self.window, Window()
        return done


def _line(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= _MESSAGE_CHARACTERS else line[: _MESSAGE_CHARACTERS - 3] + "..."
