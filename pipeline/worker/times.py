"""Times: how long rows waited in a worker and how long their batches took, as histograms, and the trace of each. Pure.

Counting here costs a search in sixteen bounds for a row, and another one for a batch, in the process that has computed
it: the scheduler, through which every request goes, gets the sums with the worker's reports.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from pipeline.metrics.buckets import MICROSECONDS
from pipeline.wire.records import Spread, Trace
from pipeline.wire.traces import packed

__all__ = ["Times"]

_BUCKETS: Final = len(MICROSECONDS) + 1


class Times:
    """Of one worker since it started.

    Args:
        stage: the index of its stage in the plan.
    """

    def __init__(self, stage: int) -> None:
        self._stage = stage
        self._queue = [0] * _BUCKETS
        self._queue_us = 0
        self._compute = [0] * _BUCKETS
        self._compute_us = 0
        #: What the last batch took, and its bucket: all rows of a batch have both.
        self._last_us = -1
        self._bucket = 0

    def trace(
        self, waited_us: int, took_us: int, size: int, copied: int, age_us: int = 0, rows: int = 1, *, began: int = 0
    ) -> bytes:
        """Count the rows of an order; its trace.

        Args:
            waited_us: from the order's arrival to the beginning of its batch.
            took_us: what its batch took; 0: it was not computed, and counts only as one that has waited.
            size: of the batch.
            copied: as in `Trace`, and so are `age_us` and `began`.
            rows: of the order.
        """
        self._queue[bisect_left(MICROSECONDS, waited_us)] += rows
        self._queue_us += waited_us * rows
        if took_us:
            if took_us != self._last_us:
                self._last_us = took_us
                self._bucket = bisect_left(MICROSECONDS, took_us)
            self._compute[self._bucket] += rows
            self._compute_us += took_us * rows
        return packed(Trace(self._stage, waited_us, took_us, size, copied, age_us, began))

    def traces(self, waited_us: int, took_us: int, size: int, copied: int, rows: int, *, began: int = 0) -> bytes:
        """As `trace`, of so many rows that have come together: one trace for each of them, all the same."""
        return self.trace(waited_us, took_us, size, copied, rows=rows, began=began) * rows

    def queue(self) -> Spread:
        """How long rows have waited."""
        return Spread(tuple(self._queue), self._queue_us)

    def compute(self) -> Spread:
        """How long their batches took, once for each row."""
        return Spread(tuple(self._compute), self._compute_us)
