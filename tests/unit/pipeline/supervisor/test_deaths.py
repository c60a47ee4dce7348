"""Which deaths of workers count against their stage; more in test_supervision.py."""

from __future__ import annotations

from msgspec.structs import replace

from pipeline.supervisor.deaths import Deaths
from tests.unit.pipeline.supervisor.test_supervision import PLAN, SEGV

IDLE = replace(SEGV, running={})


def test_deaths_count_within_the_window_and_not_if_they_come_from_outside() -> None:
    deaths = Deaths(PLAN)
    assert [deaths.add(0, IDLE, False, at) for at in (0.0, 1.0, 9.0, 10.5)] == [1, 2, 3, 3]
    assert deaths.add(0, IDLE, True, 10.6) == 3
    assert deaths.add(1, IDLE, False, 10.6) == 1


def test_a_stage_with_other_code_begins_anew() -> None:
    deaths = Deaths(PLAN)
    deaths.add(0, IDLE, False, 0.0)
    deaths.forget(0)
    assert deaths.add(0, IDLE, False, 0.1) == 1
