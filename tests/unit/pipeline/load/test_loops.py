"""The open and the closed loop, with times that the test makes."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pipeline.load.histogram import Histogram
from pipeline.load.loops import ClosedLoop, OpenLoop
from pipeline.load.tally import Failure


def open_loop(times: Iterable[float], max_outstanding: int = 100, count: int = 1000) -> OpenLoop:
    return OpenLoop(iter(times), max_outstanding, count)


def longest(durations: Histogram) -> float:
    return round(durations.longest_s, 9)


def test_a_request_is_sent_when_it_is_due_and_not_before() -> None:
    loop = open_loop([0, 1, 2])
    assert (loop.take(0.0), loop.take(0.0)) == (0, None)
    assert loop.wait_s(0.25) == 0.75
    assert (loop.take(0.999), loop.take(1.0)) == (None, 1)
    assert not loop.over
    assert (loop.take(5.0), loop.sent_all, loop.wait_s(5.0)) == (2, True, math.inf)


def test_all_that_are_due_are_sent_at_once_however_slow_the_answers_are() -> None:
    loop = open_loop([0, 0.1, 0.2, 0.3])
    assert [loop.take(0.25) for _ in range(4)] == [0, 1, 2, None]
    assert loop.outstanding == 3


def test_latency_begins_when_a_request_is_due_and_not_when_it_is_sent() -> None:
    loop = open_loop([1.0])
    assert loop.take(1.5) == 0
    loop.came(0, 1.6)
    assert longest(loop.tally.latencies) == 0.6
    assert longest(loop.tally.from_sending) == 0.1
    assert longest(loop.tally.lateness) == 0.5
    assert longest(loop.tally.held) == 0
    assert loop.over


def test_what_max_outstanding_holds_back_counts_as_held_and_not_as_late() -> None:
    loop = open_loop([0, 1, 2], max_outstanding=1)
    assert loop.take(0) == 0
    assert (loop.take(5), loop.wait_s(5), loop.full) == (None, math.inf, True)
    loop.came(0, 6.0)
    assert loop.take(6.25) == 1
    assert (longest(loop.tally.held), longest(loop.tally.lateness)) == (5.0, 0.25)
    loop.came(1, 7.0)
    assert longest(loop.tally.latencies) == 6.0
    assert longest(loop.tally.from_sending) == 6.0
    # The third: held from 2 to 7.
    assert loop.take(7.0) == 2
    assert longest(loop.tally.held) == 5.0


def test_a_stall_of_the_server_is_in_the_percentiles_of_all_that_were_due_in_it() -> None:
    # 100 a second, one at a time, 1 ms each; the server stalls for 1 s once. A closed loop would see one slow request.
    loop, now = open_loop([number / 100 for number in range(1000)], max_outstanding=1), 0.0
    while not loop.over:
        if (number := loop.take(now)) is None:
            now += max(1e-9, loop.wait_s(now))
            continue
        now += 1.0 if number == 500 else 0.001
        loop.came(number, now)
    # About 110 requests waited for some part of it.
    assert loop.tally.latencies.percentile(99) > 0.85
    assert loop.tally.latencies.percentile(90) > 0.05
    assert loop.tally.from_sending.percentile(99) < 0.0011


def test_a_place_that_was_free_when_the_request_was_due_does_not_hold_it() -> None:
    loop = open_loop([0, 5], max_outstanding=1)
    loop.take(0)
    loop.came(0, 1.0)
    loop.take(5.5)
    assert (longest(loop.tally.held), longest(loop.tally.lateness)) == (0, 0.5)


def test_the_place_that_is_free_for_longest_is_taken_first() -> None:
    loop = open_loop([0, 0, 1, 1], max_outstanding=2)
    loop.take(0), loop.take(0)
    loop.came(1, 2.0)
    loop.came(0, 3.0)
    loop.take(3.0)
    # It was held until 2, and late since.
    assert (longest(loop.tally.held), longest(loop.tally.lateness)) == (1.0, 1.0)
    loop.take(3.0)
    assert longest(loop.tally.held) == 2.0


def test_a_failure_is_counted_by_its_kind_and_is_in_no_percentile() -> None:
    loop = open_loop([0, 0, 0])
    for _ in range(3):
        loop.take(0)
    loop.came(0, 1.0, Failure("Overloaded", "first"))
    loop.came(1, 2.0, Failure("Overloaded", "second"))
    loop.came(2, 3.0)
    tally = loop.tally
    assert (tally.failures, tally.messages) == ({"Overloaded": 2}, {"Overloaded": "first"})
    assert (tally.answered, tally.failed, tally.latencies.count, longest(tally.latencies)) == (1, 2, 1, 3.0)


def test_after_the_count_there_is_no_request() -> None:
    loop = open_loop([0] * 10, count=2)
    assert [loop.take(0) for _ in range(3)] == [0, 1, None]
    assert loop.sent_all


def test_at_the_end_what_was_due_and_not_sent_is_told() -> None:
    loop = open_loop([0, 1, 2, 3, 4], max_outstanding=1)
    loop.take(0)
    loop.stop()
    assert loop.take(9) is None
    assert (loop.sent_all, loop.over) == (True, False)
    assert loop.unsent(3.0) == 3
    assert loop.last_due == 3
    assert [row.wanted for row in loop.tally.timeline.rows] == [1, 1, 1, 1]
    assert loop.oldest_s(3.0) == 3.0


def test_the_sending_is_behind_by_what_the_next_one_has_been_due() -> None:
    loop = open_loop([0, 1])
    loop.take(0)
    assert (loop.behind_s(0.5), loop.behind_s(3.0)) == (0, 2.0)
    loop.take(3.0)
    assert loop.behind_s(9.0) == 0


def test_the_window_has_what_happened_since_the_last_one() -> None:
    loop = open_loop([0, 0])
    loop.take(0)
    loop.came(0, 0.5)
    first = loop.tally.next_window()
    loop.take(1)
    second = loop.tally.next_window()
    assert [(window.sent, window.answered, window.latencies.count) for window in (first, second)] == [(1, 1, 1), (1, 0, 0)]


def test_a_closed_loop_sends_when_there_is_a_place_and_measures_from_sending() -> None:
    loop = ClosedLoop(2, 3)
    assert [loop.take(0), loop.take(0), loop.take(0)] == [0, 1, None]
    assert loop.wait_s(0) == math.inf
    loop.came(0, 1.0)
    assert loop.wait_s(4.0) == 0
    assert loop.take(4.0) == 2
    assert loop.sent_all
    loop.came(2, 4.5)
    loop.came(1, 4.5)
    assert loop.over
    assert (loop.tally.latencies.count, longest(loop.tally.latencies)) == (3, 4.5)
    assert (longest(loop.tally.held), longest(loop.tally.lateness)) == (0, 0)
    assert (loop.unsent(9.0), loop.behind_s(9.0)) == (0, 0)


def test_a_closed_loop_sends_no_more_when_its_time_is_over_and_waits_for_what_it_has_sent() -> None:
    loop = ClosedLoop(2, 100, seconds=5.0)
    assert [loop.take(0), loop.take(4.9)] == [0, 1]
    loop.came(0, 4.95)
    assert (loop.take(5.0), loop.wait_s(5.0)) == (None, math.inf)
    assert (loop.sent_all, loop.over) == (True, False)
    loop.came(1, 7.0)
    assert loop.over
