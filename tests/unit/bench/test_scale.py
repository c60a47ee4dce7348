"""Pods behind a balancer: each request is answered once, and queues are as the theory of queues says."""

from __future__ import annotations

import random
import statistics

import pytest

from bench.scale import LEAST_REQUEST, ROUND_ROBIN, Death, Fleet, cost_of_a_million, quantile, simulate


def exponential(count: int) -> list[float]:
    """Service times of the mean 1."""
    chance = random.Random(3)
    found = [chance.expovariate(1.0) for _ in range(count)]
    mean = statistics.fmean(found)
    return [each / mean for each in found]


def test_one_pod_has_the_queue_of_the_textbook() -> None:
    # M/M/1 at a load of one half: a request takes two service times in the mean. Pollaczek and Khinchine: of constant
    # service times, one and a half.
    for times, expected in ((exponential(5000), 2.0), ([1.0], 1.5)):
        done = simulate(1, 0.5, times, ROUND_ROBIN, requests=60_000, seed=1).done
        assert statistics.fmean(each.finished - each.arrived for each in done) == pytest.approx(expected, rel=0.1)


def test_the_shorter_of_two_queues_beats_taking_turns() -> None:
    times = exponential(5000)
    p99 = {
        policy: quantile((each.finished - each.arrived for each in simulate(50, 0.9, times, policy, requests=50_000, seed=1).done), 0.99)
        for policy in (LEAST_REQUEST, ROUND_ROBIN)
    }
    assert p99[LEAST_REQUEST] * 1.5 < p99[ROUND_ROBIN]


def test_a_pod_that_is_slow_drowns_if_it_gets_its_turn() -> None:
    p99 = {}
    for policy in (LEAST_REQUEST, ROUND_ROBIN):
        done = simulate(20, 0.7, [1.0], policy, requests=20_000, seed=1, slow=1).done
        p99[policy] = quantile((each.finished - each.arrived for each in done), 0.99)
    assert p99[LEAST_REQUEST] < 5 < 50 < p99[ROUND_ROBIN]


@pytest.mark.parametrize("policy", [LEAST_REQUEST, ROUND_ROBIN])
def test_deaths_lose_no_request(policy: str) -> None:
    deaths = [Death(10.0 + number, number, 20.0 + number) for number in range(5)]
    fleet = simulate(10, 0.8, [0.5, 1.5], policy, requests=2000, seed=2, deaths=deaths)
    assert len(fleet.done) == 2000
    assert len({each.arrived for each in fleet.done}) == 2000
    assert fleet.retried > 0
    assert len(fleet) == 10
    assert all(each.finished >= each.arrived + each.service - 1e-9 for each in fleet.done)


def test_what_a_dead_pod_had_begins_again() -> None:
    fleet = Fleet(2, ROUND_ROBIN, 0)
    fleet.send(0.0, 4.0)
    fleet.kill(1, 3.0)
    fleet.settle(100.0)
    (done,) = fleet.done
    assert (done.arrived, done.finished, fleet.retried, len(fleet)) == (0.0, 7.0, 1, 1)
    assert done.load_ratio == 7 / 4


def test_the_last_pod_does_not_die() -> None:
    fleet = Fleet(1, ROUND_ROBIN, 0)
    fleet.kill(0, 1.0)
    assert len(fleet) == 1


def test_a_pod_that_leaves_finishes_what_it_has() -> None:
    fleet = Fleet(2, ROUND_ROBIN, 0)
    for _ in range(2):
        fleet.send(0.0, 5.0)
    fleet.resize(1, 1.0)
    fleet.send(1.0, 5.0)
    fleet.settle(5.0)
    assert len(fleet.done) == 2
    fleet.settle(10.0)
    assert [each.finished for each in fleet.done] == [5.0, 5.0, 10.0]


def test_a_full_pod_refuses() -> None:
    fleet = Fleet(1, LEAST_REQUEST, 0, queue_max=2)
    for _ in range(3):
        fleet.send(0.0, 1.0)
    fleet.send(1.5, 1.0)
    fleet.settle(9.0)
    assert (fleet.refused, len(fleet.done)) == (1, 3)


def test_the_same_seed_is_the_same_run() -> None:
    runs = [simulate(5, 0.7, [1.0, 2.0], LEAST_REQUEST, requests=500, seed=seed).done for seed in (4, 4, 5)]
    assert runs[0] == runs[1] != runs[2]


def test_a_million_costs_less_the_faster_a_pod_is() -> None:
    assert cost_of_a_million(3.6, 100.0) == pytest.approx(10.0)
    assert cost_of_a_million(3.6, 200.0) == pytest.approx(5.0)


def test_a_quantile_is_one_of_the_values() -> None:
    assert [quantile([3, 1, 2], part) for part in (0.0, 0.5, 1.0)] == [1, 2, 3]
