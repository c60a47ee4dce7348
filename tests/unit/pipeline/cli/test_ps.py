"""The list of runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.ps import state_text
from pipeline.watching.overview import RunRow
from pipeline.wire.run_folder import RunFolder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRTLAB_RUN_DIR", str(tmp_path / "home"))
    return tmp_path / "home"


def row(state: str, reasons: dict[str, str]) -> RunRow:
    return RunRow("a-1", "a", 1, state, reasons, (), 1.0, 0, 0, 0, 0, 1, "/a-1")


def test_a_state_has_its_reasons_behind_it() -> None:
    assert state_text(row("ready", {}), 0.0) == "ready"
    assert state_text(row("not ready", {"": "x", "b": "no worker"}), 0.0) == "not ready: x; b: no worker"


def test_no_run_is_no_error(cli_here: Callable[..., Any], home: Path) -> None:
    assert cli_here("ps") == (0, "", f"no pipeline runs here (looked in {home})\n")
    assert cli_here("ps", "--json")[:2] == (0, "[]\n")


def test_a_run_whose_scheduler_does_not_answer_is_listed(cli_here: Callable[..., Any]) -> None:
    folder = RunFolder("detect")
    try:
        (found,) = json.loads(cli_here("ps", "--json")[1])
        _, out, _ = cli_here("ps")
    finally:
        folder.remove()
    assert (found["id"], found["pid"], found["state"]) == (f"detect-{os.getpid()}", os.getpid(), "starting")
    assert (found["answered"], found["stages"]) == (None, [])
    assert found["memory"] > 0
    assert out.splitlines()[1].split()[:3] == [f"detect-{os.getpid()}", str(os.getpid()), "starting:"]
