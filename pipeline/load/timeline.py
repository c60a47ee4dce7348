"""Timeline: what was wanted, sent and answered in each second of a siege, in memory that does not grow. Pure.

A row is one second long. When there are more than `MOST` rows, each two become one, which is twice as long: a day is
at most 600 rows all the same. The 99th percentile of the longer row is that of the worse one of the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.load.histogram import Histogram

__all__ = ["MOST", "Row", "Timeline"]

MOST = 600
"""Rows at most."""


@dataclass(slots=True)
class Row:
    """What happened in one piece of time."""

    wanted: int = 0
    """Requests that were due in it."""
    sent: int = 0
    answered: int = 0
    failed: int = 0
    p99_s: float = 0.0
    """Of the latencies of the requests that were answered in it; 0 if there are none."""

    def add(self, other: Row) -> None:
        """Take in the row behind this one."""
        self.wanted += other.wanted
        self.sent += other.sent
        self.answered += other.answered
        self.failed += other.failed
        self.p99_s = max(self.p99_s, other.p99_s)


class Timeline:
    """The rows of a siege; times are seconds from its beginning."""

    def __init__(self) -> None:
        #: The length of a row in seconds.
        self.step_s = 1.0
        self.rows: list[Row] = []
        #: The latencies of the row that is filled now.
        self._latencies = Histogram()
        self._filled = 0

    def row(self, at: float) -> Row:
        """The row of that time."""
        while (index := int(max(at, 0.0) / self.step_s)) >= MOST:
            self._halve()
        while len(self.rows) <= index:
            self.rows.append(Row())
        return self.rows[index]

    def answered(self, at: float, latency_s: float) -> None:
        """Count an answer; they come in the order of their times."""
        row = self.row(at)
        row.answered += 1
        index = min(int(max(at, 0.0) / self.step_s), MOST - 1)
        if index > self._filled:
            self.settle()
            self._filled = index
        self._latencies.add(latency_s)

    def settle(self) -> None:
        """Take over the percentile of the row that is filled now, before it is shown."""
        if self._latencies.count:
            row = self.rows[self._filled]
            row.p99_s = max(row.p99_s, self._latencies.percentile(99))
            self._latencies = Histogram()

    def _halve(self) -> None:
        self.settle()
        for first, second in zip(self.rows[::2], self.rows[1::2]):
            first.add(second)
        self.rows = self.rows[::2]
        self.step_s *= 2
        self._filled //= 2
