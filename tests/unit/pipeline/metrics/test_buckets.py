from __future__ import annotations

from pipeline.metrics.buckets import LOAD_RATIO, ROWS, SECONDS, labelled


def test_a_histogram_is_labelled_with_what_is_at_most_each_bound() -> None:
    assert labelled((0.5, 2.0), (1, 0, 3)) == [("0.5", 1.0), ("2.0", 1.0), ("+Inf", 4.0)]
    assert labelled((0.5, 2.0), ()) == [("0.5", 0.0), ("2.0", 0.0), ("+Inf", 0.0)]


def test_the_bounds_rise_and_those_of_durations_reach_from_100_microseconds_to_10_seconds() -> None:
    for bounds in (SECONDS, LOAD_RATIO, ROWS):
        assert list(bounds) == sorted(set(bounds))
    assert (SECONDS[0], SECONDS[-1]) == (0.0001, 10.0)
