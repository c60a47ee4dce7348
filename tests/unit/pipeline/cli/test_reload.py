"""`pipeline reload`: what it says. What it does is proved by tests/faults/test_reload.py."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import reload as command
from pipeline.client import reloading
from pipeline.errors import ReloadFailed

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(("kind", "found"), [("", ""), ("folder", "a directory"), ("fifo", "no regular file")])
def test_a_config_that_another_process_cannot_read_is_refused_before_anything_starts(
    cli_here: Run, tmp_path: Path, kind: str, found: str
) -> None:
    path = tmp_path / "new.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    code, out, err = cli_here("reload", "demo", path)
    assert (code, out) == (2, "")
    expected = f"expected a YAML file that another process can read, found {found}" if kind else "there is no such file"
    assert err == f"{path}: {expected}\n"


@pytest.mark.parametrize("ready", [True, False])
def test_the_old_version_is_said_to_serve_on_only_if_it_does(
    cli_here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ready: bool
) -> None:
    def refuse(*arguments: Any, **more: Any) -> Path:
        raise ReloadFailed("the pipeline is stopping")

    monkeypatch.setattr(command, "reload_run", refuse)
    monkeypatch.setattr(command, "find_run", lambda run: tmp_path)
    if ready:
        (tmp_path / "ready").touch()
    code, _, err = cli_here("reload", "demo")
    assert code == 1
    assert err.splitlines() == ["error: the pipeline is stopping"] + ["the version that was there before serves on"] * ready


@pytest.mark.parametrize("limit_s", [0.0, -1.0, float("nan")])
def test_a_limit_that_is_no_time_is_refused_before_anything_is_asked_for(limit_s: float) -> None:
    with pytest.raises(ValueError, match="expected a number of seconds above 0"):
        reloading.reload("nothing", limit_s=limit_s)


def test_of_a_stage_each_worker_is_shown_as_it_is_told(
    cli_here: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def replace(run: str, config: Path | None, assignments: list[str], **more: Any) -> Path:
        assert (run, more["stage"], more["limit_s"]) == ("demo", "a", 9.0)
        for step, text in (("begun", "a: 1 worker"), ("ready", "a/0 is ready"), ("drained", "every worker is new")):
            more["on_step"](step, text)
        return tmp_path

    monkeypatch.setattr(command, "reload_run", replace)
    code, out, _ = cli_here("reload", "demo", "--stage", "a", "--timeout", "9")
    assert (code, out) == (0, "a: 1 worker\na/0 is ready\ndone: every worker is new\n")
