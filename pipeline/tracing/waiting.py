"""Waiting: the spans that wait for the collector, bounded, between two threads: one makes them, one exports them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from pipeline.tracing.spans import Span

__all__ = ["BATCH", "Waiting"]

BATCH = 512
"""Spans of one export."""

_FILL_S = 1.0


class Waiting:
    """Spans that wait, and what has become of all.

    Args:
        most: how many may wait; the latest are dropped.
        fill_s: for how long an export that is not full waits for more.
    """

    def __init__(self, most: int, fill_s: float = _FILL_S) -> None:
        self._most, self._fill_s = most, fill_s
        self._spans: deque[Span] = deque()
        self._changed = threading.Condition()
        #: No more will come.
        self.ended = False
        self._taken_in = 0
        self.exported = self.dropped = self.failed = 0
        #: Requests.
        self.missed = 0

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """As `Observe.spans`."""
        return self.exported, self.dropped, self.failed, self.missed

    @property
    def left(self) -> int:
        """Spans of which it is not known what became of them: those that wait, and those of an export under way."""
        return self._taken_in - self.exported - self.failed

    def put(self, spans: Sequence[Span]) -> None:
        """Take in the spans of a request, all or none: a trace with gaps misleads."""
        with self._changed:
            if len(self._spans) + len(spans) > self._most:
                self.dropped += len(spans)
                return
            was_empty = not self._spans
            self._spans += spans
            self._taken_in += len(spans)
            if was_empty or len(self._spans) >= BATCH:
                self._changed.notify_all()

    def take(self) -> list[Span]:
        """The spans of one export, once it is full, or has waited for more; none: it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._spans or self.ended)
            self._changed.wait_for(lambda: len(self._spans) >= BATCH or self.ended, self._fill_s)
            return [self._spans.popleft() for _ in range(min(BATCH, len(self._spans)))]

    def end(self) -> None:
        """No more will come."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()
