"""Histogram: percentiles of any number of durations, in memory that does not grow. Pure.

    nanoseconds      width of a bucket      buckets
    0 to 511         1                      512
    512 to 1023      2                      256
    1024 to 2047     4                      256
    ...              twice as wide          256 each, up to 2^45 (9.8 hours)

So a bucket is at most 1/256 as wide as its least value. A percentile is the end of its bucket, and never more than the
longest duration: it is at least the exact one, and at most 0.4 % more. What is longer than 2^45 ns counts as that long,
but the maximum is exact. The buckets are those of an HdrHistogram.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator

__all__ = ["PRECISION_PERCENT", "Histogram"]

PRECISION_PERCENT = 0.4
"""How much a percentile may be above the exact one."""

_SUB = 256
_SUB_BITS = 8
_MOST_BITS = 45
_BUCKETS = (_MOST_BITS - _SUB_BITS - 1) * _SUB + 2 * _SUB
_NS = 1e9


class Histogram:
    """Durations in seconds."""

    __slots__ = ("_counts", "_total_s", "count", "longest_s")

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _BUCKETS))
        self._total_s = 0.0
        #: How many durations there are.
        self.count = 0
        #: The longest, in seconds, exact; 0 if there is none.
        self.longest_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration; below 0 it is 0."""
        self._counts[_bucket_of(min(max(int(seconds * _NS), 0), (1 << _MOST_BITS) - 1))] += 1
        self.count += 1
        if seconds > 0:
            self._total_s += seconds
            self.longest_s = max(self.longest_s, seconds)

    def percentile(self, percent: float) -> float:
        """The seconds that `percent` of all durations do not exceed; 0 if there are none."""
        left = max(1, math.ceil(self.count * percent / 100))
        for bucket, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return min(_end_of(bucket) / _NS, self.longest_s)
        return 0.0

    @property
    def mean_s(self) -> float:
        """The mean in seconds, exact; 0 if there are none."""
        return self._total_s / self.count if self.count else 0.0

    def buckets(self) -> Iterator[tuple[float, float, int]]:
        """Those that are not empty: the seconds at which each begins and ends, and how many durations it has."""
        for bucket, count in enumerate(self._counts):
            if count:
                begin = 0 if bucket == 0 else _end_of(bucket - 1) + 1
                yield begin / _NS, (_end_of(bucket) + 1) / _NS, count


def _bucket_of(nanoseconds: int) -> int:
    shift = max(0, nanoseconds.bit_length() - _SUB_BITS - 1)
    return shift * _SUB + (nanoseconds >> shift)


def _end_of(bucket: int) -> int:
    """The largest number of nanoseconds in it."""
    shift = max(0, bucket // _SUB - 1)
    return (bucket - shift * _SUB + 1 << shift) - 1
