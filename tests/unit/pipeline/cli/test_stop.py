"""Which run is stopped, and what is told of its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.stop import end_of, own_words
from pipeline.wire.run_dir import LOCK
from pipeline.wire.run_folder import RunFolder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRTLAB_RUN_DIR", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_words_of_the_supervisor_are_told_apart_from_those_of_stages() -> None:
    time = "2026-11-30T08:18:56.734Z"
    lines = [f"{time} note: finishing", f"{time} resize/0 | warning: mine", f"{time} warning: not finished", "broken"]
    assert own_words(lines) == ["note: finishing", "warning: not finished"]


def test_a_run_that_has_not_said_how_it_ended_was_killed() -> None:
    assert end_of(["note: finishing", "info: ended with exit code 1"]) == 1
    assert end_of(["note: finishing"]) is None
    assert end_of([]) is None


def test_a_name_of_several_runs_stops_none_of_them(
    cli_here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Their supervisor is this process.
    monkeypatch.setattr("pipeline.cli.stop.owner_of", lambda folder: None)
    one, other = RunFolder("detect"), RunFolder("detect")
    try:
        code, out, err = cli_here("stop", "detect")
        assert (code, out) == (3, "")
        for folder in (one, other):
            assert folder.path.name in err
        assert "name one by its id" in err
    finally:
        one.remove()
        other.remove()


def test_a_process_that_is_not_proven_to_be_the_supervisor_is_not_signalled(cli_here: Callable[..., Any]) -> None:
    folder = RunFolder("detect")
    try:
        # As in a pod: the lock is held, and the pid in it is that of a process here which has nothing to do with it.
        (folder.path / LOCK).write_text("pid 1 start 1 strong\n")
        code, _, err = cli_here("stop", "detect")
        assert (code, "cannot be proven which process its supervisor is" in err) == (3, True)
    finally:
        folder.remove()


def test_a_run_that_is_not_there_is_not_stopped(cli_here: Callable[..., Any], home: Path) -> None:
    assert cli_here("stop", "detect")[0] == 3
    (home / "detect-1").mkdir(parents=True)
    code, _, err = cli_here("stop", home / "detect-1")
    assert (code, err) == (3, f"error: no run is alive in {home}/detect-1\n")
