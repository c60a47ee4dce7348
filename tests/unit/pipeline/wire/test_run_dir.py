from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import StartError, Unavailable
from pipeline.wire.address import SCHEDULER, SUPERVISOR, Address
from pipeline.wire.run_dir import (
    LOCK,
    READY,
    SEGMENTS,
    Run,
    find_run,
    has_ended,
    lock_path,
    preferred,
    remove_dead_runs,
    root_of,
    runs,
    runs_home,
    serving,
    successor_of,
)
from pipeline.wire.run_folder import RunFolder
from pipeline.wire.zeromq import endpoint_of
from shm.owner import OwnerLock
from shm.segment import SegmentSpec
from shm.segments import create

pytestmark = pytest.mark.usefixtures("home")


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


def test_dead_runs_of_another_user_are_left_to_that_user(home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    half_removed = dead(home, "demo-2").rename(home / ".demo-2.dead")
    for folder in (dead(home, "demo-1"), half_removed):
        os.chown(folder, 61009, -1)
    assert remove_dead_runs() == []
    assert half_removed.exists()


def test_the_segments_of_a_dead_run_are_found_in_the_folder_that_its_own_folder_names(home: Path, tmp_path: Path) -> None:
    folder = dead(home, "demo-1")
    (folder / SEGMENTS).write_text(str(tmp_path))
    for name, lock in (("named", folder / LOCK), ("other", dead(home, "demo-2") / LOCK)):
        spec = SegmentSpec("demo-1", name, 64, 1, lock_path=str(lock), folder=str(tmp_path))
        create("file", spec).close()
    assert set(remove_dead_runs()) == {home / "demo-1", home / "demo-2"}
    assert list(tmp_path.glob("trtlab.*")) == []


def test_a_folder_of_segments_can_be_named_too(home: Path, tmp_path: Path) -> None:
    spec = SegmentSpec("demo-1", "x", 64, 1, lock_path=str(dead(home, "demo-1") / LOCK), folder=str(tmp_path))
    create("file", spec).close()
    remove_dead_runs(str(tmp_path))
    assert list(tmp_path.glob("trtlab.*")) == []


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


def test_a_folder_of_which_a_dying_scheduler_has_made_its_lock_anew_is_that_of_a_dead_run(home: Path) -> None:
    folder = home / "demo-1"
    folder.mkdir(parents=True)
    lock = OwnerLock.acquire(lock_path(folder, SCHEDULER))
    assert remove_dead_runs() == []
    os.close(lock._fd)
    lock._fd = -1
    assert remove_dead_runs() == [folder]
    assert not folder.exists()


def test_a_folder_with_sockets_whose_lock_was_collected_from_elsewhere_is_that_of_a_dead_run(home: Path) -> None:
    gone = dead(home, "demo-1")
    (gone / LOCK).unlink()
    assert remove_dead_runs() == [gone]
    assert not gone.exists()


def test_a_folder_whose_run_was_killed_while_it_removed_it_is_that_of_a_dead_run(home: Path) -> None:
    run = RunFolder("demo")
    run.mark_stopping(True)
    for entry in run.path.iterdir():
        if entry.name == "clients":
            entry.rmdir()
        elif entry.name not in (LOCK, "stopping"):
            entry.unlink()
    assert remove_dead_runs() == []
    run._lock.release()
    assert remove_dead_runs() == []
    os.close(run._fd)
    assert remove_dead_runs() == [run.path]
    assert list(home.iterdir()) == []


def test_a_folder_whose_segments_another_process_removes_just_now_is_removed_once_that_is_done(home: Path) -> None:
    folder = dead(home, "demo-1")
    (folder / "owned").touch()
    claim = OwnerLock.acquire(folder / LOCK)
    done = threading.Timer(0.2, claim.release)
    done.start()
    try:
        assert remove_dead_runs() == [folder]
    finally:
        done.join()
    assert list(home.iterdir()) == []


def test_a_run_that_dies_after_the_look_at_folders_leaves_none_although_its_lock_is_collected(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / "demo-1"
    folder.mkdir(parents=True)
    (folder / "owned").touch()
    lock = OwnerLock.acquire(folder / LOCK)
    # As the collection of its segments ends, the lock goes.
    monkeypatch.setattr("shm.leftovers.collect", lambda folders: lock.release())
    assert remove_dead_runs() == [folder]
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(("step", "again"), [("shm.leftovers.collect", ["demo-1"]), ("shutil.rmtree", [])])
def test_a_folder_whose_removal_was_cut_short_is_removed_by_the_next_one(
    home: Path, monkeypatch: pytest.MonkeyPatch, step: str, again: list[str]
) -> None:
    folder = dead(home, "demo-1")
    (folder / "scheduler.sock").rename(folder / "owned")  # it had come no further

    def killed(*_: object, **__: object) -> None:
        for lock in home.glob("*demo-1*/" + LOCK):
            lock.unlink()  # with the segments, or as a part of the folder
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(step, killed)
        with pytest.raises(KeyboardInterrupt):
            remove_dead_runs()
    assert list(home.iterdir()) != []
    assert [gone.name for gone in remove_dead_runs()] == again
    assert list(home.iterdir()) == []


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


def test_a_home_that_may_not_be_read_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(Unavailable, match=r"cannot look for runs in .*Permission denied.*set TRTLAB_RUN_DIR"):
        find_run("demo")
    with pytest.raises(StartError, match=r"cannot look for dead runs in .*set TRTLAB_RUN_DIR"):
        remove_dead_runs()


# -- runs that replace each other -------------------------------------------------------------------


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RunFolder, RunFolder]]:
    """The folder of the root, and that of a later version."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 101)
        root = RunFolder("demo")
        patch.setattr(os, "getpid", lambda: 102)
        later = RunFolder("demo", root.path)
    yield root, later
    later.remove()
    root.remove()


def test_a_run_that_was_replaced_leads_to_the_one_that_serves(versions: tuple[RunFolder, RunFolder]) -> None:
    root, later = versions
    assert (root_of(root.path), root_of(later.path)) == (root.path, root.path)
    assert successor_of(root.path) is None
    assert serving(root.path) == find_run(root.path) == root.path
    root.replace(later.path.name)
    assert serving(root.path) == find_run(root.path) == later.path
    # Later versions lead to the root, which knows the newest.
    later.replace(root.path.name)
    root.replace("demo-103")
    assert serving(later.path).name == "demo-103"
    assert os.readlink(root.path / "successor") == "../demo-103", "relative: others may see the folder elsewhere"


def test_folders_that_lead_to_each_other_lead_nowhere_for_ever(versions: tuple[RunFolder, RunFolder]) -> None:
    root, later = versions
    root.replace(later.path.name)
    later.replace(root.path.name)
    assert serving(root.path) in (root.path, later.path)


def test_a_root_whose_own_run_has_ended_is_no_run_and_is_not_removed(versions: tuple[RunFolder, RunFolder]) -> None:
    root, later = versions
    root.mark_ready(True)
    root.replace(later.path.name)
    assert sorted(runs("demo")) == [root.path, later.path]
    root.mark_ended()
    assert has_ended(root.path)
    assert runs("demo") == [later.path]
    assert not (root.path / READY).exists()
    assert remove_dead_runs() == []
    assert root.path.exists()


def test_what_was_removed_of_a_root_is_made_anew(versions: tuple[RunFolder, RunFolder]) -> None:
    root, later = versions
    root.replace(later.path.name)
    root.mark_ended()
    shutil.rmtree(root.path)
    assert set(root.renew()) == {"the folder", "ended"}
    assert serving(root.path) == later.path
    (later.path / "root").unlink()
    assert later.renew() == ["root"]
