"""What happened in each second."""

from __future__ import annotations

import pytest

from pipeline.load.timeline import MOST, Timeline


def test_each_second_has_its_row() -> None:
    timeline = Timeline()
    timeline.row(0.1).wanted += 1
    timeline.row(2.9).sent += 2
    assert [(row.wanted, row.sent) for row in timeline.rows] == [(1, 0), (0, 0), (0, 2)]


def test_a_row_has_the_percentile_of_its_own_answers() -> None:
    timeline = Timeline()
    for number in range(100):
        timeline.answered(0.5, 0.001 * (number + 1))
    timeline.answered(1.5, 5.0)
    timeline.settle()
    first, second = timeline.rows
    assert (first.answered, second.answered) == (100, 1)
    assert first.p99_s == pytest.approx(0.099, rel=0.004)
    assert second.p99_s == 5.0


def test_beyond_the_most_rows_each_two_become_one_and_nothing_is_lost() -> None:
    timeline = Timeline()
    for second in range(MOST + 1):
        timeline.row(second).wanted += 1
        timeline.answered(second, 0.010 if second != 7 else 0.5)
    timeline.settle()
    assert timeline.step_s == 2
    assert len(timeline.rows) == MOST // 2 + 1
    assert sum(row.wanted for row in timeline.rows) == sum(row.answered for row in timeline.rows) == MOST + 1
    # The worse of the two.
    assert timeline.rows[3].p99_s == 0.5
    assert timeline.rows[2].p99_s == pytest.approx(0.010, rel=0.004)


def test_a_day_is_no_more_rows() -> None:
    timeline = Timeline()
    for minute in range(24 * 60):
        timeline.row(60.0 * minute).sent += 1
    assert len(timeline.rows) <= MOST
    assert sum(row.sent for row in timeline.rows) == 24 * 60


def test_a_row_that_was_settled_before_it_ended_has_the_worse_percentile() -> None:
    timeline = Timeline()
    timeline.answered(0.1, 2.0)
    timeline.settle()
    timeline.answered(0.2, 1.0)
    timeline.settle()
    assert timeline.rows[0].p99_s == 2.0
