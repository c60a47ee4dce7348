from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipeline.worker.overdue import Overdue
from tests.entries import entries_of

FILE = Path(__file__).name


def test_what_takes_long_is_told_with_the_line_it_is_at(capsys: pytest.CaptureFixture[str]) -> None:
    said = ""
    with Overdue("stage work: its setup", (0.01, 0.02)):
        while said.count("\n") < 2:
            threading.Event().wait(0.05)  # as a lock that is never free
            said += capsys.readouterr().err
    first, second = [entry.text for entry in entries_of(said)]
    assert first.startswith("stage work: its setup has taken 0.01 s so far, and is at ")
    assert f"{FILE}:" in first
    assert "(test_what_takes_long_is_told_with_the_line_it_is_at)" in first
    assert second.startswith("stage work: its setup has taken 0.03 s so far")


def test_what_does_not_take_long_is_not_talked_about_and_leaves_no_thread(capsys: pytest.CaptureFixture[str]) -> None:
    before = threading.active_count()
    with pytest.raises(ValueError, match="as it was"), Overdue("it", (3600.0,)):
        raise ValueError("as it was")
    assert threading.active_count() == before
    assert capsys.readouterr().err == ""
