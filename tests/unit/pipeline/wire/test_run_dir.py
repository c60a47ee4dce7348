from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import StartError, Unavailable
from pipeline.wire.address import SCHEDULER, SUPERVISOR, Address
from pipeline.wire.run_dir import (
    LOCK,
    READY,
    Run,
    RunFolder,
    find_run,
    lock_path,
    make_run_dir,
    preferred,
    remove_dead_runs,
    runs,
    runs_home,
)
from pipeline.wire.zeromq import endpoint_of
from shm.errors import OwnerAlive
from shm.owner import Alive, OwnerLock, probe


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRTLAB_RUN_DIR", str(tmp_path / "home"))
    return tmp_path / "home"


def dead(home: Path, name: str) -> Path:
    """What a run leaves that was killed."""
    folder = home / name
    (folder / "clients").mkdir(parents=True)
    (folder / LOCK).write_text("pid 1 start 1\n")
    (folder / "scheduler.sock").touch()
    return folder


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TRTLAB_RUN_DIR": "/a", "XDG_RUNTIME_DIR": "/b"}, "/a"),
        ({"XDG_RUNTIME_DIR": "/b"}, "/b/trtlab"),
        ({"TRTLAB_RUN_DIR": "a/b"}, f"{os.getcwd()}/a/b"),
        ({"TMPDIR": "/tmp"}, f"/tmp/trtlab-{os.getuid()}"),
    ],
)
def test_the_home_is_the_first_that_is_configured(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TRTLAB_RUN_DIR", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert runs_home() == Path(expected)


def test_a_run_folder_is_for_this_user_alone(home: Path) -> None:
    folder = make_run_dir("demo")
    assert folder == home / f"demo-{os.getpid()}"
    for made in (home, folder, folder / "clients"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_what_a_dead_run_of_the_same_name_left_is_replaced(home: Path) -> None:
    dead(home, f"demo-{os.getpid()}")
    assert sorted(entry.name for entry in make_run_dir("demo").iterdir()) == ["clients"]


def test_a_living_run_of_the_same_name_is_not_touched(home: Path) -> None:
    # Another container of the pod, with a pid namespace of its own and the folder in common.
    with OwnerLock.acquire(make_run_dir("demo") / LOCK), pytest.raises(StartError, match="is alive"):
        make_run_dir("demo")
    assert (home / f"demo-{os.getpid()}" / "clients").is_dir()


def test_a_home_that_is_a_file_says_what_to_set(home: Path) -> None:
    home.touch()
    with pytest.raises(StartError, match="set TRTLAB_RUN_DIR"):
        make_run_dir("demo")


def test_only_living_runs_are_found_and_the_newest_comes_first(home: Path) -> None:
    assert runs() == []
    dead(home, "demo-1")
    for name in ("demo-2", "other-3", "demo-x"):
        (home / name).mkdir()
    with OwnerLock.acquire(home / "demo-2" / LOCK), OwnerLock.acquire(home / "other-3" / LOCK):
        # Its folder changes whenever a worker of it is started again, which does not make it any newer.
        (home / "demo-2" / "w5.sock").touch()
        assert runs() == [home / "other-3", home / "demo-2"]
        assert runs("demo") == [home / "demo-2"]
        assert find_run("other") == home / "other-3"
        with pytest.raises(Unavailable, match=r"several pipelines are running \(other-3, demo-2\); name one"):
            find_run()
    assert runs() == []


def test_a_pipeline_that_does_not_run_says_how_to_start_one() -> None:
    with pytest.raises(Unavailable, match=r"no pipeline 'demo' is running here .* pipeline run CONFIG --serve"):
        find_run("demo")
    with pytest.raises(Unavailable, match="no pipeline is running here"):
        find_run()


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    assert find_run(tmp_path) == tmp_path
    assert find_run(str(tmp_path)) == tmp_path


def test_dead_runs_are_removed_and_living_and_unknown_ones_stay(home: Path) -> None:
    assert remove_dead_runs() == []
    gone = dead(home, "demo-1")
    (home / "demo-2").mkdir()
    (home / "starting-3").mkdir()  # its owner has not taken its lock yet
    with OwnerLock.acquire(home / "demo-2" / LOCK):
        assert remove_dead_runs() == [gone]
    assert sorted(entry.name for entry in home.iterdir()) == ["demo-2", "starting-3"]


def test_a_folder_with_sockets_whose_lock_was_collected_from_elsewhere_is_that_of_a_dead_run(home: Path) -> None:
    gone = dead(home, "demo-1")
    (gone / LOCK).unlink()
    assert remove_dead_runs() == [gone]
    assert not gone.exists()


def test_a_path_too_long_for_a_socket_says_what_to_set() -> None:
    longest = "x" * (107 - len("/.sock"))
    assert endpoint_of(Path("/"), Address(longest)) == f"ipc:///{longest}.sock"
    folder = Path("/" + "é" * 50)
    with pytest.raises(StartError, match=r"has 116 bytes; unix sockets allow 107\. Set TRTLAB_RUN_DIR"):
        endpoint_of(folder, SCHEDULER)


def test_each_process_has_its_lock_beside_its_socket() -> None:
    folder = Path("/run/demo-1")
    assert lock_path(folder, SUPERVISOR) == folder / LOCK
    assert lock_path(folder, SCHEDULER) == folder / "scheduler.lock"
    assert lock_path(folder, Address.client(0x1F)) == folder / "clients" / "1f.lock"


def run(name: str, ready: bool, started: int, made_ns: int = 0) -> Run:
    return Run(Path("/home") / name, ready, started, made_ns)


def test_the_newest_that_is_ready_is_preferred_and_where_none_is_the_newest() -> None:
    old, new = run("a-1", True, 10), run("a-2", True, 20)
    starting, newer = run("a-3", False, 30), run("a-4", False, 40)
    assert preferred([starting, old, newer, new]) == [new, old, newer, starting]
    assert preferred([starting, newer]) == [newer, starting]
    assert preferred([run("a-5", True, 10, 5), run("a-6", True, 10, 6)])[0].folder.name == "a-6"
    assert run("with-dash-7", True, 1).pipeline == "with-dash"


@pytest.fixture
def folder(home: Path) -> Iterator[RunFolder]:
    folder = RunFolder("demo")
    yield folder
    folder.remove()
    assert list(home.iterdir()) == []


def other(home: Path, name: str, started: int, *, ready: bool) -> OwnerLock:
    """The lock of another living run."""
    (home / name).mkdir()
    lock = OwnerLock.acquire(home / name / LOCK)
    (home / name / LOCK).write_text(f"pid 1 start {started}\n")
    if ready:
        (home / name / READY).touch()
    return lock


def test_by_name_one_reaches_the_run_that_is_ready(home: Path, folder: RunFolder) -> None:
    with other(home, "demo-1", 1, ready=True):
        assert find_run("demo") == find_run() == home / "demo-1"
        folder.mark_ready(True)
        assert find_run("demo") == folder.path
        folder.mark_ready(False)
        assert runs("demo") == [home / "demo-1", folder.path]
        shutil.rmtree(home / "demo-1")
    assert find_run("demo") == folder.path


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
        (["."], ["the folder", "clients", LOCK, READY]),
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


def test_also_the_home_is_made_anew(home: Path, folder: RunFolder) -> None:
    shutil.rmtree(home)
    assert folder.renew() == ["the folder", "clients", LOCK]


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
    with pytest.raises(StartError, match="is alive"):
        make_run_dir("demo")
    assert (folder.path / "scheduler.sock").exists()


def test_a_run_that_was_killed_leaves_a_folder_that_is_removed(home: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "from pipeline.wire.run_dir import RunFolder; f = RunFolder('demo'); print(f.path); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[4],
    ) as owner:
        assert owner.stdout is not None
        path = Path(owner.stdout.readline().strip())
        assert remove_dead_runs() == []
        owner.kill()
    assert remove_dead_runs() == [path]
    assert not path.exists()


def test_a_home_that_may_not_be_read_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(Unavailable, match=r"cannot look for runs in .*Permission denied.*set TRTLAB_RUN_DIR"):
        find_run("demo")
    with pytest.raises(StartError, match=r"cannot look for dead runs in .*set TRTLAB_RUN_DIR"):
        remove_dead_runs()


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
