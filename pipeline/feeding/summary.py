"""Summary: the numbers of a whole run. Pure.

Latencies are kept as a histogram of fixed size, so that a run of any length takes the same memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.config.quantities import format_bytes
from pipeline.feeding.record import Record
from stages.copies import REASONS

__all__ = ["EdgeCopy", "Latencies", "StageTotals", "Summary", "copies_of", "describe_copies"]


class Latencies:
    """Percentiles of durations in milliseconds, exact to 1 %.

    Buckets grow by 2 %, from 1 microsecond on; a percentile is the middle of its bucket.
    """

    _GROWTH = math.log(1.02)

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._count = 0

    def add(self, milliseconds: float) -> None:
        """Count one duration."""
        self._buckets[int(math.log(max(milliseconds, 0.001) / 0.001) / self._GROWTH)] += 1
        self._count += 1

    def percentile(self, percent: float) -> float:
        """The duration that `percent` of all do not exceed; 0 if there are none."""
        left = math.ceil(self._count * percent / 100)
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return 0.001 * math.exp((bucket + 0.5) * self._GROWTH)
        return 0.0


@dataclass(slots=True)
class StageTotals:
    """Sums over the requests that one stage has computed."""

    requests: int = 0
    queue_ms: float = 0.0
    compute_ms: float = 0.0
    batches: float = 0.0
    copied_bytes: int = 0

    def add(self, values: Mapping[str, float]) -> None:
        """Count one request."""
        self.requests += 1
        self.queue_ms += values["queue_ms"]
        self.compute_ms += values["compute_ms"]
        # Each of the n requests of a batch counts as 1/n of the batch.
        self.batches += 1 / values["batch"]
        self.copied_bytes += int(values["copied_bytes"])

    @property
    def mean_batch(self) -> float:
        """Requests per batch."""
        return self.requests / self.batches if self.batches else 0.0


class EdgeCopy(NamedTuple):
    """The copies of one tensor for one reason."""

    edge: str
    """`decode.image -> inference.x`, or `inference.scores` for an output."""
    reason: str
    """One of `stages.copies.REASONS`."""
    nbytes: int
    batches: int


def copies_of(status: Mapping[str, Any]) -> list[EdgeCopy]:
    """The copies in the scheduler's status, the most bytes first."""
    copies = [EdgeCopy(copy["edge"], copy["reason"], copy["bytes"], copy["batches"]) for copy in status["copies"]]
    return sorted(copies, key=lambda copy: -copy.nbytes)


def describe_copies(copies: Sequence[EdgeCopy]) -> str:
    """For `--assert-zero-copy`: what was copied, why, and how to avoid it."""
    total = format_bytes(sum(copy.nbytes for copy in copies))
    edges = len({copy.edge for copy in copies})
    lines = [f"{total} were copied on {edges} {'edge' if edges == 1 else 'edges'}, expected none"]
    for copy in copies:
        reason = REASONS[copy.reason]
        batches = f"{copy.batches} {'batch' if copy.batches == 1 else 'batches'}"
        lines.append(f"  {copy.edge}: {copy.reason}, {format_bytes(copy.nbytes)} in {batches}: {reason.why}")
        lines.append(f"    to change: {reason.remedy}")
    return "\n".join(lines)


@dataclass(slots=True)
class Summary:
    """All numbers that are shown at the end."""

    stages: dict[str, StageTotals] = field(default_factory=dict)
    requests: int = 0
    failures: int = 0
    skipped: int = 0
    """Requests that an earlier run had answered."""
    not_sent: int = 0
    stopped: bool = False
    """Whether the run ended before all requests were sent, even if their number is unknown."""
    seconds: float = 0.0
    latencies: Latencies = field(default_factory=Latencies)
    closed: dict[str, dict[str, int]] = field(default_factory=dict)
    """For each stage its batches by the reason for which they closed."""
    copies: list[EdgeCopy] = field(default_factory=list)
    """The copies, the most bytes first."""

    @classmethod
    def of(cls, stages: Sequence[str]) -> Summary:
        """An empty summary for the stages of these names."""
        return cls(stages={name: StageTotals() for name in stages})

    def add(self, record: Record) -> None:
        """Count one request."""
        self.requests += 1
        if record.error is not None:
            self.failures += 1
            return
        self.latencies.add(record.latency_ms)
        for name, values in record.stages.items():
            self.stages[name].add(values)

    def add_status(self, status: Mapping[str, Any]) -> None:
        """Take from the scheduler's status what only the workers know: why batches closed, and what was copied."""
        self.closed = {stage["name"]: dict(stage["closed"]) for stage in status["stages"]}
        self.copies = copies_of(status)

    @property
    def has_computed(self) -> bool:
        """Whether a stage has run: it has not if all files were refused before they were sent."""
        ran = [stage.requests for stage in self.stages.values()]
        return any(ran) or any(count for closed in self.closed.values() for count in closed.values())

    @property
    def rate(self) -> float:
        """Answered requests per second."""
        return (self.requests - self.failures) / self.seconds if self.seconds else 0.0

    @property
    def copied_per_request(self) -> float:
        """Bytes that the runtime copied between slots and batches, per answered request."""
        answered = self.requests - self.failures
        return sum(stage.copied_bytes for stage in self.stages.values()) / answered if answered else 0.0
