"""Where runs and their logs are, and how a person names one run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import Unavailable
from pipeline.repository.connected import ConnectedModels
from pipeline.wire.home import logs_home, named_folder
from pipeline.wire.run_dir import find_run, living_runs
from pipeline.wire.run_folder import RunFolder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRTLAB_RUN_DIR", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def detect() -> Iterator[RunFolder]:
    folder = RunFolder("detect")
    yield folder
    folder.remove()


@pytest.fixture
def newer() -> Iterator[RunFolder]:
    """Another run of the same pipeline, which is ready."""
    folder = RunFolder("detect")
    folder.mark_ready(True)
    yield folder
    folder.remove()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"XDG_STATE_HOME": "/state", "HOME": "/home/me"}, "/state/trtlab/logs"),
        ({"HOME": "/home/me"}, "/home/me/.local/state/trtlab/logs"),
        ({"HOME": "nowhere"}, None),
    ],
)
def test_logs_are_where_a_user_keeps_state(
    variables: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert logs_home() == (None if expected is None else Path(expected))


def test_a_run_is_named_by_its_id_among_others_of_its_pipeline(detect: RunFolder, newer: RunFolder) -> None:
    assert find_run("detect") == newer.path
    assert find_run(detect.path.name) == detect.path
    assert [run.folder for run in living_runs(detect.path.name)] == [detect.path]
    assert ConnectedModels(detect.path.name, "me")._place("detect") == detect.path


def test_the_id_of_a_run_that_was_replaced_leads_to_the_one_that_serves(detect: RunFolder, newer: RunFolder) -> None:
    detect.replace(newer.path.name)
    detect.mark_ended()
    assert find_run(detect.path.name) == newer.path
    assert [run.folder for run in ConnectedModels(detect.path.name, "me").runs()] == [newer.path]


def test_the_id_of_a_run_that_has_ended_names_none(home: Path) -> None:
    folder = RunFolder("detect")
    folder.remove()
    (home / folder.path.name).mkdir()
    assert named_folder(folder.path.name) is None
    with pytest.raises(Unavailable, match=f"no pipeline '{folder.path.name}' is running here"):
        find_run(folder.path.name)


def test_a_name_that_is_no_id_is_that_of_a_pipeline_and_a_path_that_of_a_folder(detect: RunFolder) -> None:
    assert named_folder("detect") is None
    assert named_folder("some/folder") == Path("some/folder")
    assert named_folder(f"detect-{os.getpid()}0") is None
