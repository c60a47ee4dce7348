"""What a run came to, in numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.feeding.record import Record
from pipeline.feeding.summary import EdgeCopy, Latencies, Summary, copies_of, describe_copies
from stages.copies import GATHERED, REASONS, SCATTERED

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


STATUS = {
    "stages": [
        {"name": "decode", "closed": {"full": 3, "delay": 0}},
        {"name": "infer", "closed": {"full": 1, "delay": 3}},
    ],
    "copies": [
        {"edge": "infer.y", "reason": SCATTERED, "bytes": 100, "batches": 1},
        {"edge": "decode.x -> infer.x", "reason": GATHERED, "bytes": 3 << 20, "batches": 2},
    ],
}


def test_why_batches_closed_and_what_was_copied_comes_from_the_status() -> None:
    summary = Summary.of(["decode", "infer"])
    summary.add_status(STATUS)
    assert summary.closed == {"decode": {"full": 3, "delay": 0}, "infer": {"full": 1, "delay": 3}}
    assert summary.copies == [
        EdgeCopy("decode.x -> infer.x", GATHERED, 3 << 20, 2),
        EdgeCopy("infer.y", SCATTERED, 100, 1),
    ]


def test_copies_are_described_by_edge_with_the_reason_and_what_to_change() -> None:
    lines = describe_copies(copies_of(STATUS)).splitlines()
    assert lines[0] == "3.0 MiB were copied on 2 edges, expected none"
    assert lines[1] == f"  decode.x -> infer.x: gathered, 3.0 MiB in 2 batches: {REASONS[GATHERED].why}"
    assert lines[2] == f"    to change: {REASONS[GATHERED].remedy}"
    assert lines[3] == f"  infer.y: scattered, 100 B in 1 batch: {REASONS[SCATTERED].why}"
    assert len(lines) == 5
