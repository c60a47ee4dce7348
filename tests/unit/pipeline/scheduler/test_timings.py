"""What a request took, and how many times as long as its computation that is, is counted when it was answered."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.metrics.buckets import LOAD_RATIO, SECONDS
from pipeline.scheduler.timings import Timings
from pipeline.wire.messages import Trace
from pipeline.wire.status import HistogramStatus
from pipeline.wire.traces import packed
from tests.unit.pipeline.scheduler.actors import MS
from tests.unit.pipeline.scheduler.example import Example

Make = Callable[..., Example]


def filled(found: HistogramStatus) -> dict[float, int]:
    """The buckets that are not empty: upper bound -> how many."""
    bounds = SECONDS if len(found.buckets) == len(SECONDS) + 1 else LOAD_RATIO
    return {bound: count for bound, count in zip((*bounds, float("inf")), found.buckets) if count}


def counted(example: Example, took_us: int, *computed_us: int) -> Timings:
    """The timings after one request that took so long, and whose stages did."""
    example.submit(1)
    (request,) = example.scheduler.requests.values()
    request.traces = {stage: packed(Trace(stage, 7, us, 4, 0)) for stage, us in enumerate(computed_us)}
    timings = Timings()
    timings.answered(request, request.submitted + took_us * 1000)
    return timings


def test_a_request_counts_with_the_sum_of_what_its_stages_computed(example: Make) -> None:
    timings = counted(example(), 2000, 101, 899)
    assert (filled(timings.request()), timings.request().sum) == ({0.0025: 1}, 0.002)
    assert (filled(timings.load_ratio()), timings.load_ratio().sum) == ({2.0: 1}, 2.0)


@pytest.mark.parametrize(("us", "bound"), [(100, 0.0001), (101, 0.00025), (10_000_000, 10.0), (10_000_001, float("inf"))])
def test_what_equals_a_bound_is_below_it(example: Make, us: int, bound: float) -> None:
    assert filled(counted(example(), us, 1).request()) == {bound: 1}


def test_a_request_that_computed_nothing_has_no_load_ratio(example: Make) -> None:
    timings = counted(example(), 800)
    assert filled(timings.request()) == {0.001: 1}
    assert timings.load_ratio() == HistogramStatus((0,) * 6, 0.0)


def test_of_children_the_slowest_counts_in_the_load_ratio(example: Make) -> None:
    made = example()
    made.submit(1)
    (request,) = made.scheduler.requests.values()
    request.children = {1: []}
    request.traces = {0: packed(Trace(0, 0, 100, 1, 0)), (1, 7): packed(Trace(1, 0, 300, 1, 0)), (1, 8): packed(Trace(1, 0, 200, 1, 0))}
    timings = Timings()
    timings.answered(request, request.submitted + 800_000)
    assert timings.load_ratio().sum == 2.0


def test_the_status_has_those_that_were_answered_without_an_error_and_no_others(example: Make) -> None:
    made = example()
    for tag in (1, 2):
        made.submit(tag)
        made.decide()
    made.finish(0, 1)
    made.finish(0, 2, "BadInput")
    made.decide()
    assert sum(made.scheduler.status().request_s.buckets) == 0
    made.now += 3 * MS
    made.finish(1, 1)
    made.finish(2, 1)
    made.decide()
    status = made.scheduler.status()
    assert filled(status.request_s) == {0.005: 1}
    # Each of three stages computed for 2 us.
    assert (filled(status.load_ratio), round(status.load_ratio.sum)) == ({float("inf"): 1}, round(status.request_s.sum / 6e-6))
