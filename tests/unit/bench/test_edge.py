"""What bench.edge makes of what it has measured."""

from __future__ import annotations

import pytest

from bench.edge import memory_growth


def test_what_fills_in_the_first_third_is_no_growth() -> None:
    fills = [(float(at), min(100.0, 10.0 * at)) for at in range(31)]
    assert memory_growth(fills) == pytest.approx(0.0)


def test_growth_is_bytes_each_second() -> None:
    assert memory_growth([(at, 1000 + 3 * at) for at in (0.0, 5.0, 10.0, 15.0)]) == pytest.approx(3.0)


def test_two_looks_are_enough() -> None:
    assert memory_growth([(0.0, 0), (8.0, 10), (9.0, 12)]) == pytest.approx(2.0)
    assert memory_growth([(0.0, 0), (4.0, 12)]) == pytest.approx(3.0)
