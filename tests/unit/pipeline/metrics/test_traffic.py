from __future__ import annotations

import msgspec
import pytest

from pipeline.metrics.buckets import SECONDS
from pipeline.metrics.rendering import render_traffic
from pipeline.metrics.traffic import JOINED_IN, SHARED_IN, Traffic, merged


def some(outcome: str = "OK", seconds: float = 0.02, nbytes: int = 5) -> Traffic:
    made = Traffic()
    made.answered("http", outcome)
    made.took("http", seconds)
    made.copy(JOINED_IN, nbytes)
    return made


def test_counts_of_several_processes_add_up() -> None:
    other = some("NOT_FOUND", 100.0, 7)
    other.answered("grpc", "OK")
    other.copy(SHARED_IN, 1)
    total = merged([some(), some(), other])
    assert total.requests == {"http": {"OK": 2, "NOT_FOUND": 1}, "grpc": {"OK": 1}}
    assert total.copied == {JOINED_IN: 17, SHARED_IN: 1}
    assert (sum(total.latencies["http"].buckets), total.latencies["http"].buckets[-1]) == (3, 1)
    assert total.latencies["http"].sum_s == pytest.approx(100.04)


def test_a_sum_changes_nothing_of_its_parts() -> None:
    one = some()
    total = merged([one])
    total.answered("http", "OK")
    total.took("http", 1.0)
    assert one == some()


def test_counts_travel_as_a_record() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(some()), type=Traffic) == some()


def test_two_have_nothing_in_common() -> None:
    some()
    assert Traffic() == merged([]) == Traffic({}, {}, {})


def test_a_copy_of_no_bytes_is_none() -> None:
    made = Traffic()
    made.copy(JOINED_IN, 0)
    assert made.copied == {}


def test_buckets_hold_what_is_at_most_their_bound_and_are_rendered_cumulative() -> None:
    made = Traffic()
    for seconds in (SECONDS[0], SECONDS[0] + 1e-9, 1e9):
        made.took("grpc", seconds)
    assert made.latencies["grpc"].buckets == [1, 1, *[0] * (len(SECONDS) - 2), 1]
    text = render_traffic(made)
    assert 'trtlab_gateway_inference_seconds_bucket{front="grpc",le="0.0001"} 1.0' in text
    assert 'trtlab_gateway_inference_seconds_bucket{front="grpc",le="10.0"} 2.0' in text
    assert 'trtlab_gateway_inference_seconds_bucket{front="grpc",le="+Inf"} 3.0' in text


def test_names_are_those_of_the_pages() -> None:
    text = render_traffic(some())
    assert 'trtlab_gateway_requests_total{front="http",outcome="OK"} 1.0' in text
    assert 'trtlab_gateway_copied_bytes_total{reason="bodies in pieces"} 5.0' in text
