"""What a caller is told that has named a pipeline or a folder in which nothing runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.wire.absence import no_run_in, nothing_runs
from pipeline.wire.home import runs_home


def test_a_name_that_is_nearly_one_that_runs_is_told() -> None:
    assert "no pipeline 'digts' is running here" in nothing_runs("digts", ["mnist", "digits"])
    assert "(did you mean digits?); start one with: pipeline run CONFIG --serve" in nothing_runs("digts", ["digits"])


def test_another_name_gets_the_list_of_what_runs() -> None:
    assert "; here runs digits, mnist; start one" in nothing_runs("resnet", ["mnist", "digits", "digits"])


def test_where_nothing_runs_no_name_is_offered() -> None:
    said = f"no pipeline is running here (looked in {runs_home()}); start one with: pipeline run CONFIG --serve"
    assert nothing_runs(None, []) == said


def test_a_config_in_place_of_a_name_is_told(tmp_path: Path) -> None:
    config = tmp_path / "digits.yaml"
    config.touch()
    assert no_run_in(config, OSError(20, "Not a directory")) == (
        f"no pipeline runs in {config}: that is a file; give the name of the pipeline, which is the `name:` in its YAML"
    )


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    assert "there is no such folder; a run removes its folder when it ends" in no_run_in(tmp_path / "demo-1", "errno 2")


def test_the_home_of_all_runs_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTLAB_RUN_DIR", str(tmp_path))
    assert "the runs are in folders within it" in no_run_in(tmp_path, "errno 2")


def test_otherwise_what_has_failed_is_told(tmp_path: Path) -> None:
    assert no_run_in(tmp_path, OSError("no lock")) == f"no pipeline runs in {tmp_path}: no lock"
