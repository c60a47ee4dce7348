"""The rate of a remote stage beside a plain loop."""

from __future__ import annotations

import pytest

from bench.versus.remote_stage import main, ratios


def test_the_ratio_is_that_of_the_rates_in_one_round() -> None:
    assert ratios({"loop": [2.0, 9.0], "pipeline": [1.0, 3.0]}) == [2.0, 3.0]


def test_without_triton_it_says_what_makes_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.versus.triton.TRITON", tmp_path)
    monkeypatch.setattr("bench.versus.environments._BUILD", tmp_path / "build")  # type: ignore[operator]
    assert main(["--photographs", "1"]) == 2
    assert "make" in capsys.readouterr().err
