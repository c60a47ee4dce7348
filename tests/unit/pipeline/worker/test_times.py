"""What rows waited and their batches took is counted where they are computed, while their traces are made."""

from __future__ import annotations

from pipeline.metrics.buckets import SECONDS
from pipeline.wire.messages import Trace
from pipeline.wire.records import Spread
from pipeline.wire.traces import traces_in
from pipeline.worker.times import Times


def filled(found: Spread) -> dict[float, int]:
    """The buckets that are not empty: upper bound -> how many."""
    return {bound: count for bound, count in zip((*SECONDS, float("inf")), found.buckets) if count}


def test_each_row_counts_once_and_has_its_trace() -> None:
    times = Times(3)
    made = [times.trace(waited, 900, 2, 7, began=5) for waited in (100, 101)]
    assert traces_in(b"".join(made)) == [Trace(3, 100, 900, 2, 7, 0, 5), Trace(3, 101, 900, 2, 7, 0, 5)]
    assert (filled(times.queue()), times.queue().sum_us) == ({0.0001: 1, 0.00025: 1}, 201)
    assert (filled(times.compute()), times.compute().sum_us) == ({0.001: 2}, 1800)


def test_a_trace_has_the_age_of_its_request_if_that_is_known() -> None:
    times = Times(3)
    assert traces_in(times.trace(100, 900, 2, 7, age_us=41_000)) == [Trace(3, 100, 900, 2, 7, 41_000)]


def test_batches_that_take_unlike_times_fall_into_buckets_of_their_own() -> None:
    times = Times(0)
    for took in (50, 50, 20_000_000, 50):
        times.trace(0, took, 1, 0)
    assert filled(times.compute()) == {0.0001: 3, float("inf"): 1}


def test_a_row_that_was_not_computed_has_only_waited() -> None:
    times = Times(0)
    times.trace(400, 0, 1, 0)
    assert (filled(times.queue()), filled(times.compute())) == ({0.0005: 1}, {})
