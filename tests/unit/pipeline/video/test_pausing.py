"""The switch that pauses a camera."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pipeline.video.pausing import FOLDER, Pause


def test_every_process_sees_the_switch_of_its_camera_and_no_other(tmp_path: Path) -> None:
    door, yard = Pause(tmp_path, "door"), Pause(tmp_path, "yard")
    assert not door.on
    door.set(True)
    door.set(True)
    assert (door.on, Pause(tmp_path, "door").on, yard.on) == (True, True, False)
    door.set(False)
    door.set(False)
    assert not door.on


def test_only_this_user_sees_it(tmp_path: Path) -> None:
    Pause(tmp_path, "door").set(True)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / FOLDER, tmp_path / FOLDER / "door.paused")]
    assert modes == [0o700, 0o600]


def test_without_the_run_s_folder_it_cannot_be_set(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Pause(tmp_path / "gone", "door").set(True)
