"""Whose turn is next, who is given up, and when the verdict is more than noise."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.tuning.candidate import UNTUNED, Candidate, Goal
from pipeline.tuning.halving import Halving, Measured, Standing, quartiles

GOOD, FAIR, POOR, BAD = (Candidate(name) for name in ("good", "fair", "poor", "bad"))
RATES = {UNTUNED: 100.0, GOOD: 130.0, FAIR: 110.0, POOR: 90.0, BAD: 50.0}


def measured(rate: float) -> Measured:
    return Measured(rate, 1 / rate, 2 / rate)


def play(
    halving: Halving, rate: Callable[[Candidate, int], float], now: float = 0.0
) -> tuple[list[tuple[int, str]], float]:
    """Play it to its end; (round, candidate) of each turn, and when it was over."""
    turns = []
    while (turn := halving.next(now)) is not None:
        turns.append((turn.round, turn.candidate.label))
        now += turn.seconds
        halving.measured(turn, measured(rate(turn.candidate, turn.round)))
        assert len(turns) < 1000
    return turns, now


def test_the_worse_half_is_given_up_rung_by_rung_and_the_untuned_config_stays() -> None:
    halving = Halving(Goal.THROUGHPUT, [BAD, GOOD, POOR, FAIR], 0.0, 40.0)
    turns, now = play(halving, lambda candidate, _: RATES[candidate])
    assert halving.living == [UNTUNED, GOOD]
    # The first rung is of the five, the second one of three: the untuned config and the better half.
    assert {label for round_, label in turns if round_ == 0} == {"untuned", "good", "fair", "poor", "bad"}
    last = [label for round_, label in turns if round_ == turns[-1][0]]
    assert sorted(last) == ["fair", "good", "untuned"]
    assert [one.candidate for one in halving.standings()] == [GOOD, UNTUNED, FAIR, POOR, BAD]
    best = halving.best()
    assert best is not None
    assert (best.candidate, best.ratio) == (GOOD, 1.3)
    assert 30.0 <= now <= 50.0


def test_the_order_rotates_from_round_to_round() -> None:
    halving = Halving(Goal.THROUGHPUT, [GOOD, FAIR, POOR, BAD], 0.0, 100.0)
    turns, _ = play(halving, lambda candidate, _: RATES[candidate])
    assert [label for round_, label in turns if round_ == 0] == ["untuned", "good", "fair", "poor", "bad"]
    assert [label for round_, label in turns if round_ == 1] == ["good", "fair", "poor", "bad", "untuned"]


def test_only_ratios_within_a_round_count() -> None:
    # The machine is slower and slower, by far more than the candidates differ.
    halving = Halving(Goal.THROUGHPUT, [POOR, GOOD], 0.0, 20.0)
    play(halving, lambda candidate, round_: RATES[candidate] / 2**round_)
    assert halving.living == [UNTUNED, GOOD]
    assert halving.of(GOOD).ratios == pytest.approx([1.3] * len(halving.of(GOOD).ratios))


def test_for_latency_the_smaller_p50_is_better() -> None:
    halving = Halving(Goal.LATENCY, [GOOD, BAD], 0.0, 10.0)
    while (turn := halving.next(0.0 if halving.round < 4 else 10.0)) is not None:
        # Good answers soonest, although its rate is the lowest.
        p50_s = {UNTUNED: 0.010, GOOD: 0.005, BAD: 0.02}[turn.candidate]
        halving.measured(turn, Measured({UNTUNED: 100.0, GOOD: 10.0, BAD: 900.0}[turn.candidate], p50_s, 1.0))
    best = halving.best()
    assert best is not None
    assert (best.candidate, best.ratio) == (GOOD, 2.0)


def test_a_single_challenger_has_a_duel_for_the_whole_time() -> None:
    halving = Halving(Goal.THROUGHPUT, [POOR], 0.0, 12.0)
    turns, now = play(halving, lambda candidate, _: RATES[candidate])
    assert len(turns) == 2 * halving.round >= 20
    assert 12.0 <= now <= 13.0


def test_if_no_time_is_left_each_still_has_its_two_rounds() -> None:
    halving = Halving(Goal.THROUGHPUT, [GOOD, POOR, FAIR], 50.0, 50.0)
    turns, _ = play(halving, lambda candidate, _: RATES[candidate], now=60.0)
    assert halving.round >= 2
    assert {label for round_, label in turns if round_ == 1} == {"untuned", "good", "poor", "fair"}


def test_turns_of_a_slow_pipeline_are_longer_within_the_time_that_there_is() -> None:
    halving = Halving(Goal.THROUGHPUT, [GOOD], 0.0, 1000.0)
    seconds = []
    for _ in range(4):
        turn = halving.next(0.0)
        assert turn is not None
        seconds.append(turn.seconds)
        halving.measured(turn, measured(0.5))
    # Twelve answers at 0.5/s.
    assert seconds == [2.0, 2.0, 24.0, 24.0]


def test_one_that_is_dropped_has_no_more_turns_and_is_told() -> None:
    halving = Halving(Goal.THROUGHPUT, [GOOD, BAD], 0.0, 10.0)
    halving.drop(POOR, "no room")
    first = halving.next(0.0)
    assert first is not None
    halving.measured(first, measured(1.0))
    second = halving.next(0.0)
    assert second is not None
    assert second.candidate == GOOD
    halving.drop(GOOD, "3 x BadInput")
    turns, _ = play(halving, lambda candidate, _: RATES[candidate])
    assert turns == [(0, "bad")]  # what was left of the round; and with one challenger left it is over
    why = {one.candidate: one.why_not for one in halving.standings()}
    assert why == {UNTUNED: "", BAD: "", GOOD: "3 x BadInput", POOR: "no room"}


def test_without_challengers_or_without_the_untuned_config_it_is_over() -> None:
    assert Halving(Goal.THROUGHPUT, [], 0.0, 10.0).next(0.0) is None
    halving = Halving(Goal.THROUGHPUT, [GOOD], 0.0, 10.0)
    halving.drop(GOOD, "it did not start")
    assert halving.next(0.0) is None
    assert halving.best() is None


@pytest.mark.parametrize(
    ("ratios", "beats"),
    [
        ((1.2,) * 5, True),
        ((1.2,) * 4, False),  # four of four are won by chance in one of sixteen
        ((1.2,) * 7 + (0.9,), True),
        ((1.2,) * 8 + (0.9,) * 2, False),
        ((0.8,) * 12, False),
        ((), False),
    ],
)
def test_more_than_noise_is_what_chance_wins_in_fewer_than_one_of_twenty(ratios: tuple[float, ...], beats: bool) -> None:
    assert Standing(GOOD, 1.0, 1.0, 1.0, ratios).beats is beats


def test_quartiles_lie_between_values() -> None:
    assert quartiles([4.0, 1.0, 2.0, 3.0, 5.0]) == (2.0, 4.0)
    assert quartiles([1.0, 2.0]) == (1.25, 1.75)
    assert quartiles([]) == (0.0, 0.0)
