"""A request that is over is freed at once: the scheduler collects garbage seldom, and stands still meanwhile."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator

import pytest

from pipeline.scheduler.ledger import Request
from tests.unit.pipeline.scheduler.test_simulation import walk


@pytest.fixture(autouse=True)
def _collector_is_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_no_request_waits_for_the_collector() -> None:
    counts: Counter[str] = Counter()
    # Walks with children of children, deaths, and fences that outlive their request.
    for seed in range(24):
        counts += walk(seed).scheduler.counts
        assert [known for known in gc.get_objects() if type(known) is Request] == [], f"seed {seed}"
    assert counts["answered"] > 200
    assert counts["worker_deaths"] > 20
