from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StartError
from pipeline.wire.group import group_of
from pipeline.wire.run_dir import LOCK, READY, SEGMENTS, STOPPING, find_run, remove_dead_runs, runs, segment_dirs
from pipeline.wire.run_folder import RunFolder
from shm.errors import OwnerAlive
from shm.owner import Alive, probe

ROOT = Path(__file__).parents[4]


pytestmark = pytest.mark.usefixtures("home")


def test_a_run_folder_is_for_this_user_alone(home: Path, folder: RunFolder) -> None:
    assert folder.path == home / f"demo-{os.getpid()}"
    for made in (home, folder.path, folder.path / "clients"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_what_a_dead_run_of_the_same_name_left_is_replaced(home: Path) -> None:
    left = home / f"demo-{os.getpid()}"
    left.mkdir(parents=True)
    (left / LOCK).write_text("pid 1 start 1\n")
    (left / "scheduler.sock").touch()
    folder = RunFolder("demo")
    assert folder.path == left
    assert sorted(entry.name for entry in left.iterdir()) == ["clients", "owned", LOCK]
    folder.remove()


def test_beside_a_living_run_of_the_same_name_there_is_another_with_a_number_that_no_process_has(home: Path) -> None:
    # Another container of the pod, with a pid namespace of its own and the folder in common.
    one, other = RunFolder("demo"), RunFolder("demo")
    assert int(other.path.name.removeprefix("demo-")) >= 1 << 22
    assert set(runs("demo")) == {home / f"demo-{os.getpid()}", other.path}
    for folder in (one, other):
        folder.remove()


def test_a_folder_of_the_same_name_that_is_not_proven_dead_is_left_alone(home: Path) -> None:
    found = home / f"demo-{os.getpid()}"
    (found / "photos").mkdir(parents=True)
    folder = RunFolder("demo")
    assert folder.path != found
    folder.remove()
    assert remove_dead_runs() == []
    assert (found / "photos").is_dir()


# -- its making ---------------------------------------------------------------------------------------

KILLED = """
import os
from pipeline.wire.run_folder import RunFolder
{module} = __import__("{module}")
{target} = lambda *_, **__: os._exit(9)
RunFolder("demo", segment_dir="/run/shm")
"""


@pytest.mark.parametrize("step", ["os.open", "fcntl.flock", "os.ftruncate", "os.pwrite", "pathlib.Path.touch", "pathlib.Path.rename"])
def test_what_a_process_leaves_that_is_killed_while_it_makes_its_folder_is_removed(home: Path, step: str) -> None:
    code = KILLED.format(module=step.partition(".")[0], target=step)
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT)
    assert done.returncode == 9
    assert [entry.suffix for entry in home.iterdir()] == [".new"]
    assert runs() == remove_dead_runs() == []
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("step", ["os.open", "os.ftruncate", "pathlib.Path.rename"])
def test_if_it_is_removed_while_it_is_made_another_one_is_made(
    home: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    module, _, name = step.rpartition(".")
    real: Callable[..., Any] = getattr(eval(module, {"os": os, "pathlib": pathlib}), name)

    def after_its_removal(*args: Any, **more: Any) -> Any:
        if not made:
            made.extend(entry.name for entry in home.iterdir())
            for entry in home.iterdir():
                shutil.rmtree(entry)
        return real(*args, **more)

    monkeypatch.setattr(step, after_its_removal)
    folder = RunFolder("demo")
    assert len(made) == 1
    assert find_run("demo") == folder.path
    folder.remove()
    assert list(home.iterdir()) == []


def test_one_that_is_being_made_is_not_removed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite

    def removing(*args: Any) -> int:
        assert remove_dead_runs() == []
        assert [entry.suffix for entry in home.iterdir()] == [".new"]
        return real(*args)

    monkeypatch.setattr(os, "pwrite", removing)
    RunFolder("demo").remove()


# -- runs with a group ------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0, 0o077])
def test_a_group_enters_the_folder_makes_files_in_clients_and_lists_none(home: Path, umask: int) -> None:
    group, before = os.getgid(), os.umask(umask)
    try:
        folder = RunFolder("demo", group=group, segment_dir="/run/shm")
    finally:
        os.umask(before)
    try:
        assert [mode(path) for path in (home, folder.path, folder.path / "clients")] == [0o750, 0o710, 0o3730]
        assert [mode(folder.path / name) for name in (LOCK, "owned", SEGMENTS)] == [0o640, 0o600, 0o600]
        assert group_of(folder.path) == group
        shutil.rmtree(folder.path)
        assert folder.renew() == ["the folder"]
        assert [mode(path) for path in (folder.path, folder.path / "clients")] == [0o710, 0o3730]
        assert [mode(folder.path / name) for name in (LOCK, "owned")] == [0o640, 0o600]
        assert segment_dirs() == ["/run/shm"]
    finally:
        folder.remove()
    assert list(home.iterdir()) == []


def test_a_home_that_is_closed_to_the_group_says_how_to_open_it(home: Path) -> None:
    home.mkdir(mode=0o700)
    with pytest.raises(StartError, match=rf"is closed to group {os.getgid()}, which clients are in: chgrp .* && chmod g\+rx"):
        RunFolder("demo", group=os.getgid())


def test_a_home_of_another_user_is_taken_only_if_it_is_the_groups(home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    home.mkdir()
    os.chown(home, 61009, 62000)
    home.chmod(0o2777)
    with pytest.raises(StartError, match="belongs to another user; set TRTLAB_RUN_DIR"):
        RunFolder("demo")
    with pytest.raises(StartError, match="belongs to another user and to group 62000, and the pipeline's group is 62001"):
        RunFolder("demo", group=62001)
    RunFolder("demo", group=62000).remove()


def test_a_home_that_is_a_file_says_what_to_set(home: Path) -> None:
    home.touch()
    with pytest.raises(StartError, match="set TRTLAB_RUN_DIR"):
        RunFolder("demo")


def removed(folder: RunFolder, *names: str) -> None:
    for name in names:
        if (folder.path / name).is_dir():
            shutil.rmtree(folder.path / name)
        else:
            (folder.path / name).unlink()


@pytest.mark.parametrize(
    ("gone", "renewed"),
    [
        ([], []),
        ([LOCK], [LOCK]),
        (["clients"], ["clients"]),
        ([READY], [READY]),
        (["."], ["the folder", READY]),
    ],
)
def test_what_is_removed_of_a_living_run_is_made_anew(folder: RunFolder, gone: list[str], renewed: list[str]) -> None:
    folder.mark_ready(True)
    removed(folder, *gone)
    assert folder.renew() == renewed
    assert folder.renew() == []
    assert isinstance(probe(folder.path / LOCK), Alive)
    assert find_run("demo") == folder.path
    assert (folder.path / READY).exists()
    for made in (folder.path, folder.path / "clients"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert sorted(entry.name for entry in folder.path.parent.iterdir()) == [folder.path.name]


def test_what_was_not_ready_is_not_ready_in_its_new_folder(folder: RunFolder) -> None:
    removed(folder, ".")
    folder.renew()
    assert not (folder.path / READY).exists()


def test_that_a_run_ends_is_seen_until_its_folder_is_no_runs_any_more(folder: RunFolder) -> None:
    assert not (folder.path / STOPPING).exists()
    folder.mark_stopping(True)
    assert (folder.path / STOPPING).exists()
    removed(folder, STOPPING)
    assert folder.renew() == [STOPPING]
    removed(folder, ".")
    assert folder.renew() == ["the folder", STOPPING]
    assert (folder.path / STOPPING).exists()
    folder.mark_ended()
    assert not (folder.path / STOPPING).exists()
    assert folder.renew() == []


def test_that_a_run_ends_is_told_for_as_long_as_its_lock_is_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder("demo")
    folder.mark_ready(True)
    folder.mark_stopping(True)
    before: list[set[str]] = []
    release = folder._lock.release
    monkeypatch.setattr(
        folder._lock, "release", lambda: (before.append({each.name for each in folder.path.iterdir()}), release())
    )
    folder.remove()
    # A client whose scheduler has ended would take the run for one that was killed.
    assert before == [{LOCK, STOPPING}]
    assert list(home.iterdir()) == []


def test_also_the_home_is_made_anew(home: Path, folder: RunFolder) -> None:
    shutil.rmtree(home)
    assert folder.renew() == ["the folder"]


def test_a_folder_that_cannot_be_made_anew_is_an_error_each_time_and_its_end_is_none(home: Path) -> None:
    folder = RunFolder("demo")
    shutil.rmtree(home)
    home.touch()
    for _ in range(2):
        with pytest.raises(FileExistsError):
            folder.renew()
    folder.remove()
    assert home.is_file()


def test_the_folder_of_another_run_is_not_taken(home: Path) -> None:
    folder = RunFolder("demo")
    removed(folder, ".")
    another = RunFolder("demo")  # of another pid namespace
    with pytest.raises(OwnerAlive):
        folder.renew()
    folder.remove()
    assert find_run("demo") == another.path
    another.remove()
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("gone", [[LOCK], [LOCK, "clients"], ["clients"]])
def test_the_folder_of_a_living_run_is_not_removed_whatever_is_missing_in_it(
    home: Path, folder: RunFolder, gone: list[str]
) -> None:
    (folder.path / "scheduler.sock").touch()
    removed(folder, *gone)
    assert remove_dead_runs() == []
    another = RunFolder("demo")
    assert another.path != folder.path
    another.remove()
    assert (folder.path / "scheduler.sock").exists()


def test_a_run_that_was_killed_leaves_a_folder_that_is_removed(home: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "from pipeline.wire.run_folder import RunFolder; f = RunFolder('demo'); print(f.path); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as owner:
        assert owner.stdout is not None
        path = Path(owner.stdout.readline().strip())
        assert remove_dead_runs() == []
        owner.kill()
    assert remove_dead_runs() == [path]
    assert not path.exists()


def test_cleaners_that_ask_for_a_lock_pass_over_a_living_run(folder: RunFolder) -> None:
    # What systemd-tmpfiles does with each folder that has aged.
    fd = os.open(folder.path, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    removed(folder, ".")
    folder.renew()
    os.close(fd)
    fd = os.open(folder.path, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
