"""A process that floods another one with what is no message fills no log."""

from __future__ import annotations

from pipeline.logs.complaints import COMPLAINTS, COMPLAINTS_S, Complaints


def test_the_first_ones_of_each_minute_are_shown_and_one_line_says_that_there_are_more() -> None:
    complaints = Complaints()
    now = 5_000_000_000_000
    more = f"refused more than {COMPLAINTS} messages; for {COMPLAINTS_S} s they are counted and not shown"
    expected = [*["garbage"] * COMPLAINTS, more, *[""] * 10]
    for _ in range(2):
        assert [complaints.shown("garbage", now + n) for n in range(COMPLAINTS + 11)] == expected
        now += COMPLAINTS_S * 1_000_000_000
