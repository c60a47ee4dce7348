"""What became of requests."""

from __future__ import annotations

from pipeline.load.tally import Failure, Tally


def test_each_second_has_what_was_due_sent_answered_and_failed_in_it() -> None:
    tally = Tally()
    tally.went(due=0.5, free=1.2, now=2.5)
    tally.went(due=0.6, free=0.6, now=0.6)
    tally.came(0.5, 2.5, 3.5, None)
    tally.came(0.6, 0.6, 0.9, Failure("BadInput", "no picture"))
    rows = [(row.wanted, row.sent, row.answered, row.failed) for row in tally.timeline.rows]
    assert rows == [(2, 1, 0, 1), (0, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)]
    assert (tally.sent, tally.answered, tally.failed, tally.last_s) == (2, 1, 1, 3.5)


def test_the_message_of_a_failure_is_one_line_of_bounded_length() -> None:
    tally = Tally()
    tally.came(0, 0, 0, Failure("StageFailed", "one\n  two" + "x" * 1000))
    message = tally.messages["StageFailed"]
    assert message.startswith("one two")
    assert len(message) == 300
