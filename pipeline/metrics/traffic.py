"""Traffic: what the gateway has done, as plain counts, for `/metrics`. Pure.

One `Traffic` is of one process; `merged` adds those of several. It travels as a record; the catalogue has
the metrics that are made of it. What pipelines have done is in `wire.status`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

import msgspec

from pipeline.metrics.buckets import SECONDS

__all__ = [
    "DECOMPRESSED",
    "ELEMENTS",
    "JOINED_IN",
    "JOINED_OUT",
    "SHARED_IN",
    "SHARED_OUT",
    "STACKED",
    "UNPACKED",
    "Latency",
    "Traffic",
    "merged",
]

JOINED_IN: Final = "bodies in pieces"
"""Pieces in which a body came over HTTP, joined."""
DECOMPRESSED: Final = "compressed bodies"
"""What came out of them."""
UNPACKED: Final = "tensors as text"
"""Tensors that came as JSON or as typed contents, converted to bytes."""
SHARED_IN: Final = "inputs in shared memory"
"""Read once, so that the client cannot change them under way."""
ELEMENTS: Final = "elements of BYTES"
"""Cut into objects on the way in, and joined, or written as JSON, on the way out."""
STACKED: Final = "batches"
"""Rows of a batch, as one array for each output."""
SHARED_OUT: Final = "outputs in shared memory"
"""Written into the client's region."""
JOINED_OUT: Final = "answers"
"""An answer's tensors joined into its body or frame, after which the pipeline has its slots back."""


class Latency(msgspec.Struct):
    """A histogram (see `buckets.SECONDS`). Durations are in seconds."""

    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    """How many fell into each, not into those below as well."""
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.buckets[bisect_left(SECONDS, seconds)] += 1
        self.sum_s += seconds


class Traffic(msgspec.Struct):
    """Counts since the process began."""

    requests: dict[str, dict[str, int]] = {}
    """Front ("http", "grpc") -> outcome ("OK", or the code of `errors.KserveError`) -> how many."""
    latencies: dict[str, Latency] = {}
    """Front -> how long requests for inference took: from the end of the headers (HTTP) or of the message (gRPC) until
    the answer was made, or there was none; over a stream each message by itself."""
    copied: dict[str, int] = {}
    """Reason -> bytes."""
    deaths: int = 0
    """Processes that have ended although they should not."""

    def answered(self, front: str, outcome: str) -> None:
        """A request, or a message of a stream, is over."""
        outcomes = self.requests.setdefault(front, {})
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    def took(self, front: str, seconds: float) -> None:
        """A request for inference is over."""
        self.latencies.setdefault(front, Latency()).add(seconds)

    def copy(self, reason: str, nbytes: int) -> None:
        """So many bytes more were copied."""
        if nbytes:
            self.copied[reason] = self.copied.get(reason, 0) + nbytes


def merged(several: Iterable[Traffic]) -> Traffic:
    """The sum."""
    total = Traffic()
    for each in several:
        for front, outcomes in each.requests.items():
            into = total.requests.setdefault(front, {})
            for outcome, count in outcomes.items():
                into[outcome] = into.get(outcome, 0) + count
        for front, latency in each.latencies.items():
            sum_of = total.latencies.setdefault(front, Latency())
            sum_of.buckets = [a + b for a, b in zip(sum_of.buckets, latency.buckets)]
            sum_of.sum_s += latency.sum_s
        for reason, nbytes in each.copied.items():
            total.copy(reason, nbytes)
        total.deaths += each.deaths
    return total
