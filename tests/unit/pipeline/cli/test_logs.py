"""Whose log is shown."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.logs import run_with_log
from pipeline.supervisor.run_log import log_path
from pipeline.wire.run_folder import RunFolder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRTLAB_RUN_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "state" / "trtlab" / "logs").mkdir(parents=True)
    return tmp_path / "home"


def log_of(run: str) -> Path:
    path = log_path(run)
    assert path is not None
    return path


def logged(run: str, age: int, text: str = "") -> None:
    path = log_of(run)
    path.write_text(text)
    os.utime(path, (1000 - age, 1000 - age))


def test_a_name_means_the_run_that_lives_and_otherwise_the_one_that_ended_last(home: Path) -> None:
    logged("detect-1", age=5)
    logged("detect-2", age=3)
    assert run_with_log("detect") == home / "detect-2"
    assert run_with_log("detect-1") == home / "detect-1"
    folder = RunFolder("detect")
    try:
        assert run_with_log("detect") == folder.path
        assert run_with_log(None) == folder.path
        assert run_with_log(folder.path.name) == folder.path
        assert run_with_log("detect-1") == home / "detect-1"
    finally:
        folder.remove()


def test_the_last_lines_are_those_of_both_files(home: Path, cli_here: Callable[..., Any]) -> None:
    logged("detect-1", 1, "three\nfour\n")
    log_of("detect-1").with_name("detect-1.log.1").write_text("one\ntwo\n")
    assert cli_here("logs", "detect") == (0, "one\ntwo\nthree\nfour\n", "")
    assert cli_here("logs", "detect", "-n", 3)[1] == "two\nthree\nfour\n"
    assert cli_here("logs", "detect", "-n", 0)[1] == ""
    # It has ended, so there is nothing to wait for.
    assert cli_here("logs", "detect-1", "-f", "-n", 1) == (0, "four\n", "")


def test_a_run_without_a_log_is_an_error(home: Path, cli_here: Callable[..., Any]) -> None:
    folder = RunFolder("detect")
    try:
        code, out, err = cli_here("logs", "detect")
    finally:
        folder.remove()
    assert (code, out) == (1, "")
    assert err == f"error: {folder.path.name} has no log here (looked in {log_of('detect-1').parent})\n"
    assert cli_here("logs", "nothing")[0] == 1
