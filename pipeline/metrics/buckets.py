"""Buckets: the upper bounds of every histogram, beside infinity. Pure.

They are the same in every version, process and pipeline, so that histograms of several of them can be added. A value
that equals a bound is below it, as Prometheus has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

__all__ = ["LOAD_RATIO", "MICROSECONDS", "ROWS", "SECONDS", "labelled"]

SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Of durations: from what a small stage takes, three to each power of ten, to what no caller waits for."""

MICROSECONDS: Final = tuple([round(bound * 1e6) for bound in SECONDS])
"""The same bounds, for durations that are counted so."""

LOAD_RATIO = (1.25, 1.5, 2.0, 10.0, 100.0)
"""Of the load ratio: how many times as long as its computation a request took. Above 2 it waits longer than it runs."""

ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Of the size of a batch."""


def labelled(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """A histogram's samples as Prometheus has them: (label `le`, how many were at most that).

    Args:
        bounds: of its buckets.
        counts: how many fell into each bucket, and above all of them; empty: none fell into any.
    """
    below = accumulate(counts or (0,) * (len(bounds) + 1))
    return [(le, float(count)) for le, count in zip((*map(str, bounds), "+Inf"), below)]
