"""A process whose collector is off still lets go of what refers to itself, before there is much of it."""

from __future__ import annotations

import gc

import pytest

from pipeline.processes.child import collect_garbage

pytestmark = pytest.mark.usefixtures("collector_is_off")


def test_little_is_left_for_later() -> None:
    kept = [[] for _ in range(1000)]
    assert not collect_garbage()
    assert len(kept) == 1000


def test_what_goes_by_itself_does_not_count() -> None:
    for number in range(200_000):
        passing = [number]
    assert passing == [199_999]
    assert not collect_garbage()


def test_much_is_collected_once() -> None:
    for _ in range(60_000):
        circle: list[object] = []
        circle.append(circle)
    del circle
    assert collect_garbage()
    assert not collect_garbage()
    assert gc.collect() == 0
