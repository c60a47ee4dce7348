from __future__ import annotations

import pytest

from pipeline.serving.patience import Patience, Phase, TimeLimits, most_s, to_close

LIMITS = TimeLimits(waiting_s=75, head_s=10, rest_s=5, idle_s=60)


def patience(phase: Phase) -> Patience:
    made = Patience(LIMITS, 100.0)
    made.enter(phase, 100.0)
    return made


@pytest.mark.parametrize(("phase", "limit"), [(Phase.WAITING, 75), (Phase.HEAD, 10), (Phase.REST, 5)])
def test_each_phase_has_its_time(phase: Phase, limit: float) -> None:
    assert patience(phase).why_over(100 + limit - 0.01, 0) == ""
    assert phase.value in patience(phase).why_over(100 + limit, 0)


def test_a_request_under_way_may_take_any_time() -> None:
    assert patience(Phase.UNDER_WAY).why_over(1e9, 0) == ""


def test_headers_that_trickle_get_no_more_time() -> None:
    made = Patience(LIMITS, 100.0)
    for second in range(9):
        made.received(100.0 + second)
    assert made.why_over(109.9, 0) == ""
    assert made.why_over(110.0, 0)


def test_bytes_that_come_while_a_request_is_under_way_begin_no_headers() -> None:
    made = patience(Phase.UNDER_WAY)
    made.received(101.0)
    assert made.phase is Phase.UNDER_WAY


def test_an_answer_that_is_not_read_ends_the_connection() -> None:
    made = patience(Phase.WAITING)
    assert made.why_over(110, 5000) == ""
    assert made.why_over(169, 5000) == ""
    assert "not read" in made.why_over(170, 5000)


def test_an_answer_that_is_read_a_byte_now_and_then_is_too_slow() -> None:
    made = patience(Phase.WAITING)
    made.why_over(100, 1_000_000)
    unsent = 1_000_000
    for second in range(101, 160):
        unsent -= 1
        assert made.why_over(second, unsent) == ""
    assert "not read" in made.why_over(161, unsent - 1)


def test_an_answer_that_is_read_at_4_kib_in_a_second_may_take_its_time() -> None:
    made = patience(Phase.WAITING)
    assert [made.why_over(100 + second, 10_000_000 - 4096 * second) for second in range(1000)] == [""] * 1000


def test_the_time_without_a_request_does_not_run_while_an_answer_is_read() -> None:
    made = patience(Phase.WAITING)
    made.why_over(100, 400_000)
    assert made.why_over(159, 200_000) == ""
    assert made.why_over(100 + 76, 1) == ""


def test_a_second_answer_has_time_of_its_own() -> None:
    made = patience(Phase.UNDER_WAY)
    made.why_over(100, 10)
    made.why_over(150, 0)
    made.why_over(155, 10)
    assert made.why_over(200, 10) == ""
    assert made.why_over(215, 10)


def test_a_body_may_take_a_second_for_each_4_kib_beside_the_first_pause() -> None:
    assert (most_s(60, 0), most_s(60, 4096), most_s(0.5, 40_960)) == (60, 61, 10.5)


def test_what_has_no_request_for_the_longest_time_makes_room() -> None:
    assert to_close([None, 50.0, 20.0, 99.5, None], 100.0, 1.0) == 2


@pytest.mark.parametrize("idle", [[], [None], [99.5], [None, 99.9]])
def test_otherwise_nothing_makes_room(idle: list[float | None]) -> None:
    assert to_close(idle, 100.0, 1.0) is None


def test_what_has_a_request_under_way_is_not_idle() -> None:
    assert patience(Phase.UNDER_WAY).idle_since() is None
    assert patience(Phase.HEAD).idle_since() == patience(Phase.REST).idle_since() == 100.0
