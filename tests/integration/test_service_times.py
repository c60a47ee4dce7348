"""The benchmark that measures how long a request takes alone."""

from __future__ import annotations

from pathlib import Path

from bench.service_times import measure

ROOT = Path(__file__).parents[2]


def test_each_request_has_its_time() -> None:
    found = measure(ROOT / "configs/digits.yaml", [ROOT / "photos/digits/7.png", ROOT / "photos/digits/3.png"], 5)
    assert len(found) == 5
    assert min(found) > 0
