"""What a kill cost, of what was noted while it happened."""

from __future__ import annotations

import pytest

from bench.versus.outage import Call, Look, Outage, outage_of, table


def calls(*spans: tuple[float, float, str]) -> list[Call]:
    return [Call(*span) for span in spans]


#: Answered each half second before the kill and from the second second on; between them one fails.
HEALED = calls(
    (-1.0, -0.5, ""), (-0.5, 0.0, ""), (-0.1, 0.8, "INTERNAL: dead"), (0.9, 1.9, "INTERNAL: dead"), (2.0, 2.5, ""),
    (2.5, 3.0, ""),
)  # fmt: skip


def test_requests_are_counted_by_how_they_ended() -> None:
    found = outage_of("x", HEALED, [], 4.0)
    assert (found.answered, found.failed) == (4, {"INTERNAL: dead": 2})


def test_it_has_recovered_with_the_first_answer_behind_the_last_failure() -> None:
    assert outage_of("x", HEALED, [], 4.0).recovered_s == 2.5
    # An answer to what was sent before the last failure was over proves nothing.
    assert outage_of("x", [*HEALED, Call(1.5, 2.1, "")], [], 4.0).recovered_s == 2.5


def test_without_a_failure_it_has_recovered_with_the_first_answer_to_what_was_sent_after_the_kill() -> None:
    assert outage_of("x", calls((-0.5, 0.2, ""), (0.3, 1.2, ""), (0.4, 1.0, "")), [], 2.0).recovered_s == 1.0


def test_a_server_that_fails_to_the_end_has_not_recovered() -> None:
    found = outage_of("x", calls((-1.0, -0.5, ""), (0.5, 0.9, ""), (3.0, 3.9, "INTERNAL: dead")), [], 4.0)
    assert (found.recovered_s, found.rate_after) == (None, 0.0)


def test_the_longest_silence_is_one_that_the_kill_lies_in_or_before() -> None:
    # Three seconds without an answer before the kill are not its.
    found = outage_of("x", calls((-5.0, -4.0, ""), (-2.0, -1.0, ""), (0.5, 1.0, ""), (1.0, 1.5, "")), [], 2.0)
    assert found.silence_s == 2.0
    assert outage_of("x", calls((-1.0, -0.5, "")), [], 4.0).silence_s == 4.5


def test_readiness_counts_from_the_kill_until_it_has_recovered() -> None:
    looks = [
        Look(-0.1, True, True), Look(0.1, True, False), Look(1.0, None, None), Look(2.0, True, True),
        Look(2.6, True, True),
    ]  # fmt: skip
    found = outage_of("x", HEALED, looks, 4.0)
    assert (found.looks, found.server_ready, found.model_ready) == (3, 2, 1)


def test_rates_are_those_before_the_kill_and_behind_the_recovery() -> None:
    found = outage_of("x", HEALED, [], 4.5)
    # One of the two answers before it comes with the kill, and is not counted as before.
    assert found.rate_before == pytest.approx(1.0)
    assert found.rate_after == pytest.approx(1.0)


def test_the_table_has_a_row_for_each_server_and_what_its_requests_failed_with() -> None:
    outages = [
        Outage("ours", 10, {}, 5.0, 4.6, 0.25, 0.5, 4, 0, 1),
        Outage("other", 3, {"INTERNAL: dead": 7}, 5.0, 0.0, 12.0, None, 9, 9, 9),
    ]
    head, ours, other, cause = table(outages).splitlines()
    assert ours.split() == ["ours", "10", "0", "0.25", "s", "0.50", "s", "0", "of", "4", "1", "of", "4", "5", "5"]
    assert other.split() == ["other", "3", "7", "12.00", "s", "never", "9", "of", "9", "9", "of", "9", "5", "0"]
    assert cause == "other: 7 x INTERNAL: dead"
    # Columns lie one below the other.
    assert head.index("said ready") == ours.index("0 of 4") == other.index("9 of 9")
