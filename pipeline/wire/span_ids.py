"""Span ids: which trace a request is part of, whether that is exported, and the ids of its spans. Pure.

A worker whose stage asks a server must hand on the id of a span that is exported only after the request has ended, by
another process. So ids are not drawn but computed, of what both processes know, and come out the same in both:

    seed of the run, id of the request (3fa9c-17/3), what the span is of ──▶ its id

Without a caller's context the trace id is computed, too. The seed is random, so no two runs of any host have one.
"""

from __future__ import annotations

from hashlib import blake2b

from pipeline.wire.traceparent import Context, context_of

__all__ = ["REQUEST", "SpanIds", "compute", "place_of"]

REQUEST = "request"
"""What the span of the request itself is of."""

_HALF = 1 << 64


def compute(stage: int) -> str:
    """What the span of a stage's computation is of.

    Args:
        stage: its index in the plan.
    """
    return f"compute {stage}"


def place_of(label: str) -> str:
    """The id of a request, or child, of its label (see `stages.request`)."""
    return label.partition(" ")[0]


class SpanIds:
    """The ids of one run.

    Args:
        seed: of the run.
        sample: the part of the traces that begin here which is exported, 0 to 1.
    """

    def __init__(self, seed: str, sample: float) -> None:
        self._key = seed.encode()[:64]
        #: As OpenTelemetry's TraceIdRatioBased: ids whose lower half is below this are exported.
        self._bound = round(sample * _HALF)

    def context(self, label: str, traceparent: str) -> Context:
        """The caller's context; of a request that came without one, a new trace, whose caller's span has the id 0."""
        given = context_of(traceparent)
        if given is not None:
            return given
        root = place_of(label).partition("/")[0]
        trace_id = self._hash(root, 16) or 1
        return Context(trace_id, 0, trace_id % _HALF < self._bound)

    def span(self, place: str, what: str) -> int:
        """The id of a span.

        Args:
            place: the id of the request, or child.
            what: what it is of.
        """
        return self._hash(f"{place} {what}", 8) or 1

    def onward(self, label: str, traceparent: str, stage: int) -> str:
        """The traceparent for what a stage calls in the computation of a request."""
        given = self.context(label, traceparent)
        return str(given._replace(span_id=self.span(place_of(label), compute(stage))))

    def _hash(self, text: str, size: int) -> int:
        return int.from_bytes(blake2b(text.encode(), digest_size=size, key=self._key).digest(), "big")
