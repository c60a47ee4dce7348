"""The switch that pauses a camera."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pipeline.video.pausing import FOLDER, Pause, take_over_pauses


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


def test_a_new_version_has_the_switches_of_the_one_before_and_no_others(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    Pause(before, "door").set(True)
    Pause(after, "yard").set(True)
    take_over_pauses(before, after)
    assert (Pause(after, "door").on, Pause(after, "yard").on) == (True, False)


def test_of_a_version_that_is_gone_nothing_is_taken_over(tmp_path: Path) -> None:
    Pause(tmp_path, "yard").set(True)
    take_over_pauses(tmp_path / "gone", tmp_path)
    assert Pause(tmp_path, "yard").on
