"""What bench.detector makes of what requesters have seen."""

from __future__ import annotations

import pytest

from bench.detector import found_of


def test_only_what_was_answered_in_time_counts() -> None:
    # In time, late, refused at once.
    found = found_of([(0.1, True), (0.1, True), (0.3, True), (0.1, False)], 2.0)
    assert found.rate == 1.0
    assert found.late == 0.5
    assert found.p50_ms == pytest.approx(100)
    assert 290 < found.p99_ms <= 300
