"""Tally: what the workers have reported, added up by stage, of the living and the dead. Pure.

A worker reports what it has done since it started, so its last report includes all earlier ones. When it dies, its last
report is added to the sums of the dead workers of its stage: totals only grow, whichever worker dies.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.metrics.buckets import ROWS, SECONDS
from pipeline.wire.messages import WorkerReport
from pipeline.wire.records import CLOSE_REASONS

__all__ = ["StageTally", "Tally", "are_counts"]

_MOST = 1 << 48
"""The highest number that a process can have come to: sums of such numbers fit the status's integers."""


def are_counts(numbers: Sequence[int]) -> bool:
    """Whether a process can have counted so many of whatever it reports."""
    return 0 <= min(numbers) <= max(numbers) <= _MOST


class StageTally:
    """Sums over the workers of one stage."""

    __slots__ = (
        "batches", "closed", "compute", "compute_us", "copies", "deaths", "queue", "queue_us", "refused", "rows",
        "sizes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.deaths = 0
        self.batches = 0
        self.rows = 0
        self.refused = 0
        self.closed = dict.fromkeys(CLOSE_REASONS, 0)
        #: Batches by their size (see `metrics.buckets.ROWS`).
        self.sizes = [0] * (len(ROWS) + 1)
        #: How long rows waited in a worker, and what their batches took (see `metrics.buckets.SECONDS`).
        self.queue = [0] * (len(SECONDS) + 1)
        self.queue_us = 0
        self.compute = [0] * (len(SECONDS) + 1)
        self.compute_us = 0
        #: (side, tensor, reason) -> bytes copied, and in how many batches.
        self.copies: dict[tuple[str, str, str], tuple[int, int]] = {}

    def copy(self) -> StageTally:
        """The same sums, to add more to."""
        same = StageTally()
        same.deaths, same.batches, same.rows, same.refused = self.deaths, self.batches, self.rows, self.refused
        same.closed, same.copies = dict(self.closed), dict(self.copies)
        same.sizes, same.queue, same.compute = list(self.sizes), list(self.queue), list(self.compute)
        same.queue_us, same.compute_us = self.queue_us, self.compute_us
        return same

    def add(self, report: WorkerReport) -> None:
        """Count a worker."""
        self.batches += report.batches
        self.rows += report.rows
        self.refused += report.refused
        for reason, count in zip(CLOSE_REASONS, report.closed):
            self.closed[reason] += count
        self.queue_us += report.queue.sum_us
        self.compute_us += report.compute.sum_us
        for mine, more in (
            (self.sizes, report.sizes), (self.queue, report.queue.buckets), (self.compute, report.compute.buckets),
        ):  # fmt: skip
            for bucket, count in enumerate(more[: len(mine)]):
                mine[bucket] += count
        for copied in report.copies:
            where = copied.side, copied.tensor, copied.reason
            nbytes, batches = self.copies.get(where, (0, 0))
            self.copies[where] = nbytes + copied.nbytes, batches + copied.batches


class Tally:
    """The reports of all workers."""

    def __init__(self, stages: int) -> None:
        self._living: list[dict[int, WorkerReport]] = [{} for _ in range(stages)]
        self._dead = [StageTally() for _ in range(stages)]

    def report(self, report: WorkerReport) -> None:
        """A living worker's counters."""
        self._living[report.stage][report.worker] = report

    def retire(self, worker: int, stage: int, *, died: bool = True) -> None:
        """A worker is gone. What it did still counts."""
        self._dead[stage].deaths += died
        last = self._living[stage].pop(worker, None)
        if last is not None:
            self._dead[stage].add(last)

    def of_worker(self, stage: int, worker: int) -> tuple[int, int]:
        """(batches, rows) of one living worker since it started; 0 until it has reported."""
        report = self._living[stage].get(worker)
        return (0, 0) if report is None else (report.batches, report.rows)

    def of(self, stage: int) -> StageTally:
        """The sums of one stage."""
        total = self._dead[stage].copy()
        for report in self._living[stage].values():
            total.add(report)
        return total
