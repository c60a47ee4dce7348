"""Timings: how long requests took, and how much of it was computation, as histograms. Pure.

    load ratio = time of the request / time of its computation, stage by stage

1 is a request that never waited. Of stages that run side by side the times are added, so it may be less. Of the
children that a stage has run the one with the slowest batch counts: most of them were in one batch.

A request is counted once, when it ends, out of the traces that its answer brings anyway. What stands in the way of a
request is additions and a search in sixteen bounds. How long the stages took is counted by their workers
(`pipeline.worker.times`).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from pipeline.metrics.buckets import LOAD_RATIO, SECONDS
from pipeline.scheduler.ledger import Request
from pipeline.wire.status import HistogramStatus
from pipeline.wire.traces import COMPUTE_US

__all__ = ["Timings"]

_BOUNDS_NS: Final = tuple([round(bound * 1e9) for bound in SECONDS])
_RATIOS: Final = LOAD_RATIO


class Timings:
    """Of the requests of clients that were answered without an error, since the scheduler began."""

    def __init__(self) -> None:
        self._request = [0] * (len(SECONDS) + 1)
        self._request_ns = 0
        self._ratio = [0] * (len(LOAD_RATIO) + 1)
        self._ratio_sum = 0.0

    def answered(self, request: Request, now: int) -> None:
        """A request was answered.

        Args:
            request: of a client, not a child.
            now: monotonic nanoseconds.
        """
        took = now - request.submitted
        self._request[bisect_left(_BOUNDS_NS, took)] += 1
        self._request_ns += took
        computed = 0
        if request.children:
            computed = _slowest(request)
        else:
            for trace in request.traces.values():
                computed += COMPUTE_US.unpack_from(trace)[0]
        # Without: every stage was skipped, or took less than what a trace can tell.
        if computed:
            ratio = took / (computed * 1000)
            self._ratio[bisect_left(_RATIOS, ratio)] += 1
            self._ratio_sum += ratio

    def request(self) -> HistogramStatus:
        """Seconds from a request's submission to its answer."""
        return HistogramStatus(tuple(self._request), self._request_ns / 1e9)

    def load_ratio(self) -> HistogramStatus:
        """The load ratios."""
        return HistogramStatus(tuple(self._ratio), self._ratio_sum)


def _slowest(request: Request) -> int:
    """Microseconds of a request's stages, where of the children of a stage the slowest counts."""
    slowest: dict[int, int] = {}
    for key, trace in request.traces.items():
        stage = key if isinstance(key, int) else key[0]
        slowest[stage] = max(slowest.get(stage, 0), COMPUTE_US.unpack_from(trace)[0])
    return sum(slowest.values())
