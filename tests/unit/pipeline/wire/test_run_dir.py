from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pipeline.errors import StartError, Unavailable
from pipeline.wire.run_dir import LOCK, find_run, make_run_dir, remove_dead_runs, runs, runs_home
from pipeline.wire.sockets import address_of
from shm.owner import OwnerLock


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
        os.utime(home / "demo-2", (1, 1))
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
    assert address_of(Path("/"), longest) == f"ipc:///{longest}.sock"
    folder = Path("/" + "é" * 50)
    with pytest.raises(StartError, match=r"has 116 bytes; unix sockets allow 107\. Set TRTLAB_RUN_DIR"):
        address_of(folder, "scheduler")
