"""Batches: which spans were computed together, so that they are linked. Pure.

Batch mates end one after the other. So the spans of a request are held for a second after it has ended: those of mates
that end meanwhile are linked both ways, and one that ends later is linked to those before it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence

from pipeline.tracing.spans import Batch, Span
from pipeline.wire.traceparent import Context

__all__ = ["HELD_NS", "MOST_HELD", "MOST_LINKS", "Batches"]

HELD_NS = 1_000_000_000

MOST_HELD = 4096
"""Requests; the oldest go sooner, if there are more."""

MOST_LINKS = 32
"""Of one span."""

_MOST_BATCHES = 4096


class Batches:
    """The requests whose spans are held, and the batches that are remembered."""

    def __init__(self) -> None:
        self._held: deque[tuple[int, Sequence[Span]]] = deque()
        #: By batch, the oldest first: the spans of its computation.
        self._together: OrderedDict[Batch, list[Context]] = OrderedDict()

    def hold(self, spans: Sequence[Span], now: int) -> None:
        """Take in the spans of a request."""
        self._held.append((now + HELD_NS, spans))
        for span in spans:
            if span.batch is not None:
                self._together.setdefault(span.batch, []).append(span.context)
        while len(self._together) > _MOST_BATCHES:
            self._together.popitem(last=False)

    def due(self, now: int) -> Iterable[Sequence[Span]]:
        """The spans of each request that was held for long enough, with their links."""
        while self._held and (self._held[0][0] <= now or len(self._held) > MOST_HELD):
            yield self._linked(self._held.popleft()[1])

    def rest(self) -> Iterable[Sequence[Span]]:
        """The same of all that are held."""
        while self._held:
            yield self._linked(self._held.popleft()[1])

    def _linked(self, spans: Sequence[Span]) -> Sequence[Span]:
        for span in spans:
            if span.batch is not None:
                mates = [each for each in self._together.get(span.batch, ()) if each != span.context]
                span.links = mates[:MOST_LINKS]
        return spans
