"""When the pipelines of a keeper are started again."""

from __future__ import annotations

from pipeline.keeping.restarts import Restarts


def test_a_pipeline_is_started_again_at_once_and_each_death_is_told_once() -> None:
    restarts = Restarts()
    assert restarts.died("m", 100.0) == 0.0
    assert restarts.died("m", 100.1) is None
    assert restarts.due(100.1) == ["m"]
    assert restarts.died("m", 100.2) is None
    # Once: it is being started.
    assert restarts.due(101.0) == []


def test_after_several_deaths_in_a_row_it_is_started_again_later_each_time() -> None:
    restarts, now, delays = Restarts(), 100.0, []
    for _ in range(12):
        delay = restarts.died("m", now)
        assert delay is not None
        delays.append(delay)
        now += delay
        assert restarts.due(now - 0.001) == []
        assert restarts.due(now) == ["m"]
        restarts.started("m", now)
        now += 1.0
    assert delays == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0, 10.0]


def test_a_start_that_fails_counts_like_a_death_and_is_tried_again() -> None:
    restarts = Restarts()
    restarts.died("m", 0.0)
    restarts.due(0.0)
    assert restarts.failed("m", 5.0) == 0.1
    assert restarts.due(5.05) == []
    assert restarts.due(5.1) == ["m"]
    assert restarts.failed("m", 6.0) == 0.2
    assert restarts.died("m", 6.0) is None


def test_one_that_has_served_for_a_minute_is_started_again_at_once() -> None:
    restarts = Restarts()
    restarts.died("m", 0.0)
    restarts.started("m", 1.0)
    assert restarts.died("m", 60.9) == 0.1
    restarts.started("m", 61.0)
    assert restarts.died("m", 121.0) == 0.0


def test_what_a_client_has_started_or_unloaded_meanwhile_is_not_started_again() -> None:
    restarts = Restarts()
    for name in ("started", "unloaded", "dead"):
        restarts.died(name, 0.0)
    restarts.started("started", 0.0)
    restarts.forget("unloaded")
    # Of one that never died, it is no news.
    restarts.started("sound", 0.0)
    restarts.forget("sound")
    assert restarts.due(1.0) == ["dead"]
