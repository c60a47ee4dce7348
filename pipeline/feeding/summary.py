"""Summary: what a run came to, in numbers. Pure.

Latencies are kept as a histogram of fixed size, so that a run of any length takes the same memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.feeding.record import Record
from pipeline.worker.inbox import CLOSE_REASONS

__all__ = ["Latencies", "StageTotals", "Summary"]


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
        """The duration that `percent` of all do not exceed; 0 where there are none."""
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
        # Each of a batch's n requests counts for an n-th of it.
        self.batches += 1 / values["batch"]
        self.copied_bytes += int(values["copied_bytes"])

    @property
    def mean_batch(self) -> float:
        """Requests per batch."""
        return self.requests / self.batches if self.batches else 0.0


@dataclass(slots=True)
class Summary:
    """Everything that is shown at the end."""

    stages: dict[str, StageTotals] = field(default_factory=dict)
    requests: int = 0
    failures: int = 0
    not_sent: int = 0
    seconds: float = 0.0
    latencies: Latencies = field(default_factory=Latencies)
    closed: dict[str, dict[str, int]] = field(default_factory=dict)
    """For each stage: batches by the reason why they closed."""

    @classmethod
    def of(cls, stages: Sequence[str]) -> Summary:
        """An empty one for the stages of that name."""
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

    def add_status(self, status: Mapping[str, Any], stages: Sequence[str]) -> None:
        """Take the reasons why batches closed out of the scheduler's status."""
        for _, stage, _batches, _rows, closed, _refused in status["workers"]:
            counts = self.closed.setdefault(stages[stage], dict.fromkeys(CLOSE_REASONS, 0))
            for reason, count in zip(CLOSE_REASONS, closed):
                counts[reason] += count

    @property
    def rate(self) -> float:
        """Answered requests per second."""
        return (self.requests - self.failures) / self.seconds if self.seconds else 0.0

    @property
    def copied_per_request(self) -> float:
        """Bytes that the runtime copied between slots and batches, per answered request."""
        answered = self.requests - self.failures
        return sum(stage.copied_bytes for stage in self.stages.values()) / answered if answered else 0.0
