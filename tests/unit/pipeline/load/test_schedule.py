"""When requests are due."""

from __future__ import annotations

import math
from itertools import islice

import pytest

from pipeline.errors import ConfigError
from pipeline.load.schedule import Func, Rate


def test_a_constant_rate_sends_the_first_at_once_and_the_others_at_equal_times() -> None:
    assert list(islice(Rate(rate=4).times(), 5)) == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])


def test_a_constant_rate_does_not_drift() -> None:
    *_, last = islice(Rate(rate=3).times(), 30_001)
    assert last == pytest.approx(10_000, abs=1e-6)


def test_a_rate_below_one_a_second_is_kept() -> None:
    assert list(Rate(rate=0.25).times(9)) == pytest.approx([0, 4, 8])


def test_a_linear_rate_gains_alpha_requests_per_second_each_minute() -> None:
    rate = Rate(Func.LINEAR, rate=10, alpha=60)
    assert (rate.at(0), rate.at(30), rate.at(60)) == pytest.approx((10, 40, 70))
    # The integral of 10 + t is 10 t + t^2 / 2.
    for number, due in enumerate(islice(rate.times(), 500)):
        assert 10 * due + due**2 / 2 == pytest.approx(number, abs=1e-4)


def test_a_cyclic_rate_swings_by_alpha_around_its_rate_beta_times_a_minute() -> None:
    rate = Rate(Func.CYCLIC, rate=100, alpha=50, beta=6)
    assert [rate.at(t) for t in (0, 2.5, 5, 7.5, 10)] == pytest.approx([100, 150, 100, 50, 100])
    # The integral of 100 + 50 sin(w t), w = 2 pi / 10 s, is 100 t + 50 / w (1 - cos(w t)).
    w = 2 * math.pi / 10
    for number, due in enumerate(rate.times(20)):
        assert 100 * due + 50 / w * (1 - math.cos(w * due)) == pytest.approx(number, abs=1e-3)


def test_a_quick_cycle_is_followed() -> None:
    # 100 cycles a second, of which each first half is full and each second half empty.
    due = list(Rate(Func.CYCLIC, rate=9973, alpha=9973, beta=6000).times(1))
    first_halves = sum(time % 0.01 < 0.005 for time in due)
    assert len(due) == pytest.approx(9973, abs=2)
    # 1 + sin x over its first half: 1/2 + 1/pi of the whole.
    assert first_halves / len(due) == pytest.approx(0.5 + 1 / math.pi, abs=0.01)


@pytest.mark.parametrize("func", list(Func))
def test_the_rate_is_at_most_max_rate(func: Func) -> None:
    rate = Rate(func, rate=50, alpha=100, beta=60, max_rate=20)
    assert max(rate.at(t / 100) for t in range(1000)) == 20
    assert len(list(rate.times(10))) <= 201


def test_a_rate_below_0_sends_nothing_until_it_is_above() -> None:
    due = list(Rate(Func.CYCLIC, rate=0, alpha=100, beta=6).times(10))
    assert due
    assert max(due) < 5.001


def test_a_linear_rate_that_falls_ends_where_it_is_0() -> None:
    rate = Rate(Func.LINEAR, rate=10, alpha=-60)
    assert rate.ends_s == 10
    assert len(list(rate.times())) == 50
    assert Rate(rate=10).ends_s == math.inf


def test_no_request_is_due_at_or_after_the_end() -> None:
    assert list(Rate(rate=2).times(1.0)) == [0, 0.5]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"rate": 0}, "no request would ever be due"),
        ({"rate": 0, "func": Func.LINEAR, "alpha": -1}, "no request would ever be due"),
        ({"rate": 0, "func": Func.CYCLIC, "alpha": 5, "beta": 0}, "no request would ever be due"),
        ({"rate": -1}, "0 or more"),
        ({"rate": math.nan}, "a finite number"),
        ({"alpha": math.inf}, "a finite number"),
        ({"max_rate": 0}, "more than 0"),
        ({"beta": -1}, "0 to 60000"),
    ],
)
def test_a_rate_that_cannot_be_is_refused(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Rate(**wrong)  # type: ignore[arg-type]


def test_a_rate_that_begins_at_0_and_rises_is_none_of_those() -> None:
    assert len(list(Rate(Func.LINEAR, rate=0, alpha=60).times(10))) == 50


def test_it_says_what_it_is() -> None:
    assert Rate(rate=200).describe() == "constant 200/s"
    assert Rate(Func.LINEAR, 10, 5).describe() == "linear 10/s, alpha 5"
    assert Rate(Func.CYCLIC, 10, 5, 2).describe() == "cyclic 10/s, alpha 5, beta 2"
    assert Rate(rate=200, max_rate=3).describe() == "constant 200/s, at most 3/s"
