"""What a run came to, in numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.feeding.record import Record
from pipeline.feeding.summary import Latencies, Summary

MILLISECONDS = st.lists(st.floats(min_value=0.001, max_value=1e7), min_size=1, max_size=200)


@given(MILLISECONDS, st.sampled_from([1, 50, 90, 99, 99.9, 100]))
def test_a_percentile_is_the_nearest_ranks_own_to_one_percent(values: list[float], percent: float) -> None:
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    exact = sorted(values)[math.ceil(len(values) * percent / 100) - 1]
    assert latencies.percentile(percent) == pytest.approx(exact, rel=0.0101)


@given(MILLISECONDS)
def test_percentiles_do_not_fall(values: list[float]) -> None:
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    found = [latencies.percentile(percent) for percent in (1, 25, 50, 90, 99, 100)]
    assert found == sorted(found)


def test_without_a_latency_every_percentile_is_zero() -> None:
    assert Latencies().percentile(50) == 0.0


def test_what_is_shorter_than_a_microsecond_counts_as_one() -> None:
    latencies = Latencies()
    latencies.add(0.0)
    assert latencies.percentile(100) == pytest.approx(0.001, rel=0.0101)


def test_memory_does_not_grow_with_the_number_of_latencies() -> None:
    latencies = Latencies()
    for number in range(200_000):
        latencies.add(0.5 + (number % 1000) / 10)
    assert len(latencies._buckets) < 300


def record(batch: int, *, queue: float = 1.0, copied: int = 0, latency: float = 5.0) -> Record:
    values = {"queue_ms": queue, "compute_ms": 2.0, "batch": batch, "copied_bytes": copied}
    return Record("x", latency_ms=latency, stages={"infer": values})


def test_failures_count_as_requests_and_in_nothing_else() -> None:
    summary = Summary.of(["infer"])
    summary.add(record(1, latency=10.0))
    summary.add(Record("bad", ("BadInput", "why"), latency_ms=9999.0))
    summary.seconds = 0.5
    assert (summary.requests, summary.failures, summary.rate) == (2, 1, 2.0)
    assert summary.latencies.percentile(100) == pytest.approx(10.0, rel=0.0101)
    assert summary.stages["infer"].requests == 1


@given(st.lists(st.integers(1, 16), min_size=1, max_size=30))
def test_the_mean_batch_is_that_of_batches_not_of_requests(sizes: list[int]) -> None:
    summary = Summary.of(["infer"])
    for size in sizes:
        for _ in range(size):
            summary.add(record(size, queue=size, copied=10))
    stage = summary.stages["infer"]
    assert stage.mean_batch == pytest.approx(sum(sizes) / len(sizes))
    assert stage.queue_ms == pytest.approx(sum(size * size for size in sizes))
    assert summary.copied_per_request == 10


def test_nothing_is_divided_by_nothing() -> None:
    summary = Summary.of(["infer"])
    assert (summary.rate, summary.copied_per_request, summary.stages["infer"].mean_batch) == (0.0, 0.0, 0.0)


def test_the_reasons_of_all_replicas_of_a_stage_are_added_up() -> None:
    summary = Summary.of(["decode", "infer"])
    reports = [[0, 0, 3, 3, [3, 0, 0, 0, 0], 0], [1, 1, 4, 9, [1, 2, 0, 1, 0], 0], [2, 1, 1, 2, [0, 1, 0, 0, 0], 0]]
    summary.add_status({"workers": reports}, ["decode", "infer"])
    assert summary.closed["decode"] == {"full": 3, "delay": 0, "drained": 0, "deadline": 0, "slots": 0}
    assert summary.closed["infer"] == {"full": 1, "delay": 3, "drained": 0, "deadline": 1, "slots": 0}
