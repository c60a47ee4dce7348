"""Percentiles in bounded memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.load.histogram import PRECISION_PERCENT, Histogram

NANOSECONDS = st.integers(0, (1 << 45) - 1)


def of(*seconds: float) -> Histogram:
    histogram = Histogram()
    for each in seconds:
        histogram.add(each)
    return histogram


@given(st.lists(NANOSECONDS, min_size=1, max_size=200), st.floats(0.1, 100))
def test_a_percentile_is_at_least_the_exact_one_and_at_most_its_precision_more(values: list[int], percent: float) -> None:
    seconds = sorted(value / 1e9 for value in values)
    exact = seconds[max(1, math.ceil(len(seconds) * percent / 100)) - 1]
    found = of(*seconds).percentile(percent)
    # A nanosecond for the rounding to whole ones.
    assert exact - 1.1e-9 <= found <= exact * (1 + PRECISION_PERCENT / 100) + 1.1e-9


def test_below_512_ns_every_nanosecond_has_its_bucket() -> None:
    found = [(round(begin * 1e9), round(end * 1e9), count) for begin, end, count in of(0, 3e-9, 510.5e-9, 510.5e-9).buckets()]
    assert found == [(0, 1, 1), (3, 4, 1), (510, 511, 2)]


def test_percentiles_are_of_the_values_that_do_not_exceed_them() -> None:
    thousand = of(*[number / 1000 for number in range(1, 1001)])
    found = [thousand.percentile(percent) for percent in (50, 90, 99, 99.9, 100)]
    assert found == pytest.approx([0.5, 0.9, 0.99, 0.999, 1.0], rel=0.004)


def test_the_largest_percentile_is_never_more_than_the_longest() -> None:
    assert of(0.010_000_1).percentile(99) == 0.010_000_1


def test_none_has_no_percentile_and_below_0_counts_as_0() -> None:
    assert (of().percentile(99), of().mean_s, of().longest_s) == (0, 0, 0)
    assert (of(-1.0).percentile(50), of(-1.0).count) == (0, 1)


def test_the_mean_and_the_longest_are_exact() -> None:
    histogram = of(0.1, 0.2, 0.6)
    assert (histogram.mean_s, histogram.longest_s) == (pytest.approx(0.3), 0.6)


def test_what_is_too_long_is_counted_and_its_length_is_the_longest() -> None:
    histogram = of(1e6, 2e6)
    assert histogram.count == 2
    assert histogram.longest_s == 2e6
    assert histogram.percentile(99) == pytest.approx(2**45 / 1e9)


def test_its_memory_does_not_grow() -> None:
    histogram = of(*[10**power for power in range(-9, 4)])
    assert sum(count for _, _, count in histogram.buckets()) == 13
    assert len(histogram._counts) == 9728
