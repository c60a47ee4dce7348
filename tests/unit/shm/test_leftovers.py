from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

import pytest
import sysv_ipc

import shm
from shm.errors import SegmentNotFound
from shm.layout import HEADER_BYTES, MAGIC
from shm.leftovers import Leftover, collect, scan
from shm.owner import Alive, Dead, OwnerLock, Unknown, start_ticks
from shm.segment import SegmentAddress, SegmentSpec
from shm.segments import attach, create

RUN = f"leftover-{uuid.uuid4().hex[:8]}"

OWNER = """
import sys, time
from shm.owner import OwnerLock
from shm.pool import SlotPool
from shm.segment import SegmentSpec
from shm.segments import create
run, path = sys.argv[1:]
lock = OwnerLock.acquire(path)
segments = [create(kind, SegmentSpec(run, kind, 1000, 4, lock_path=path)) for kind in ("posix", "sysv")]
for segment in segments:
    pool = SlotPool(segment)
    pool.loan(), pool.loan()
print("made", flush=True)
time.sleep(60)
"""


@pytest.fixture
def lock_path(tmp_path: Path) -> str:
    return str(tmp_path / "owner.lock")


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Another process, from when it has made its segments; killed at the end."""
    environment = {**os.environ, "PYTHONPATH": str(Path(shm.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", *command], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        yield process
        process.kill()
        process.wait()


@pytest.fixture
def owner(lock_path: str) -> Iterator[subprocess.Popen[str]]:
    """Another process with one POSIX and one System V segment."""
    with started(OWNER, RUN, lock_path) as process:
        yield process
    collect()
    until(lambda: ours() == [])


class Left(NamedTuple):
    """What a process has left that was killed."""

    found: list[Leftover]
    lock_path: str


@pytest.fixture
def left(tmp_path: Path) -> Iterator[Callable[[], Left]]:
    """Has such a process killed. A pipeline that starts on this machine at that moment may remove what it leaves: then
    another process, with another lock, since that is of one life."""
    numbers = count()

    def left() -> Left:
        for number in islice(numbers, 20):
            lock_path = str(tmp_path / f"{number}.lock")
            with started(OWNER, RUN, lock_path):
                pass
            found = ours()
            if [leftover.state for leftover in found] == [Dead(lock_path)] * 2:
                return Left(found, lock_path)
            until(lambda: ours() == [])
        raise AssertionError("what a killed process has left is never found")

    yield left
    collect()
    until(lambda: ours() == [])


def ours() -> list[Leftover]:
    """What this test made; other things of ours may live on the host at the same time."""
    return [leftover for leftover in scan() if leftover.run == RUN]


def collect_ours(*folders: Path) -> list[Leftover]:
    return [leftover for leftover in collect(folders) if leftover.run == RUN]


def until(condition: Callable[[], bool]) -> None:
    """Wait; if it never happens, the test's own timeout ends the wait."""
    while not condition():
        time.sleep(0.01)


def test_a_living_run_is_listed_with_what_it_holds_and_never_collected(
    owner: subprocess.Popen[str], lock_path: str
) -> None:
    posix, sysv = ours()
    for leftover, kind in ((posix, "posix"), (sysv, "sysv")):
        assert leftover.address.kind == leftover.pool == kind
        assert leftover.name == leftover.address.name
        assert leftover.state == Alive(lock_path)
        assert (leftover.slots, leftover.slots_in_use) == (4, 2)
        assert (leftover.owner_pid, leftover.owner_start) == (owner.pid, start_ticks(owner.pid))
        assert leftover.size == 8192
        assert 0 <= leftover.age < 60
    assert not collect_ours()
    for leftover in (posix, sysv):
        attach(leftover.address).close()


def test_what_a_killed_run_left_is_collected_once_and_its_lock_file_too(
    left: Callable[[], Left],
) -> None:
    for _ in range(20):
        found, lock_path = left()
        if removed := collect_ours():
            break
    assert {leftover.address for leftover in removed} == {leftover.address for leftover in found}
    assert ours() == []
    assert not os.path.exists(lock_path)
    for leftover in found:
        with pytest.raises(SegmentNotFound):
            attach(leftover.address)


def test_while_another_collects_nothing_is_taken(left: Callable[[], Left]) -> None:
    for _ in range(20):
        _, lock_path = left()
        with OwnerLock.acquire(lock_path):
            before = len(ours())
            assert not collect_ours()
            assert len(ours()) == before
            # As if a process died while collecting: the file stays, and the next collector goes on.
            Path(lock_path).rename(lock_path + ".kept")
        Path(lock_path + ".kept").rename(lock_path)
        if removed := collect_ours():
            break
    assert (before, len(removed)) == (2, 2)


@pytest.mark.parametrize("kind", ["posix", "sysv"])
def test_a_segment_without_a_lock_file_is_unknown_and_stays(kind: str, tmp_path: Path) -> None:
    with (
        create(kind, SegmentSpec(RUN, "none", 64, 1)) as without,
        create(kind, SegmentSpec(RUN, "gone", 64, 1, lock_path=str(tmp_path / "gone"))) as gone,
    ):
        states = {leftover.pool: leftover.state for leftover in ours()}
        assert states["none"] == Unknown("", "it was made without a lock file")
        assert isinstance(states["gone"], Unknown)
        collect()
        attach(without.address).close()
        attach(gone.address).close()


def test_a_header_that_names_a_foreign_file_removes_nothing(tmp_path: Path) -> None:
    victim = tmp_path / "thesis.txt"
    victim.write_text("years of work")
    with create("posix", SegmentSpec(RUN, "evil", 64, 1, lock_path=str(victim))) as segment:
        collect()
        attach(segment.address).close()
    assert victim.read_text() == "years of work"


def test_damaged_and_foreign_objects_are_shown_or_skipped_but_never_removed(tmp_path: Path) -> None:
    folder = Path("/dev/shm")
    names = {n: folder / f"trtlab.{RUN}.{n}" for n in ("empty", "garbage", "fifo", "link", "folder", "half", "locked")}
    with create("posix", SegmentSpec(RUN, "x", 64, 4, lock_path=str(tmp_path / "no"))) as segment:
        header = bytes(segment.buffer[:HEADER_BYTES])
    shared = sysv_ipc.SharedMemory(0x7ABCDEF2, sysv_ipc.IPC_CREX, mode=0o600, size=HEADER_BYTES)
    shared.write(MAGIC + b"\xff" * 100)
    try:
        names["empty"].touch()
        names["garbage"].write_bytes(os.urandom(10_000))
        names["half"].write_bytes(header)  # its creator died while the rest was being reserved
        names["locked"].write_bytes(header)
        names["locked"].chmod(0o000)
        os.mkfifo(names["fifo"])
        names["link"].symlink_to("/etc/passwd")
        names["folder"].mkdir()
        found = {leftover.address: leftover for leftover in scan()}
        for name in ("empty", "garbage"):
            state = found[SegmentAddress("posix", f"/trtlab.{RUN}.{name}")].state
            assert isinstance(state, Unknown)
        half = found[SegmentAddress("posix", f"/trtlab.{RUN}.half")]
        assert (half.run, half.slots, half.slots_in_use, half.size) == (RUN, 4, 0, HEADER_BYTES)
        assert isinstance(found[SegmentAddress("sysv", "0x7abcdef2")].state, Unknown)
        for name in ("fifo", "link", "folder"):
            assert SegmentAddress("posix", f"/trtlab.{RUN}.{name}") not in found
        collect()
        assert all(path.is_symlink() or path.exists() for path in names.values())
    finally:
        shared.remove()
        shared.detach()
        names.pop("folder").rmdir()
        for path in names.values():
            path.unlink()


def test_half_a_segment_of_a_dead_owner_is_collected(left: Callable[[], Left]) -> None:
    removed: list[Leftover] = []
    for _ in range(20):
        with suppress(FileNotFoundError):
            os.truncate(f"/dev/shm{left().found[0].address.name}", HEADER_BYTES)
            if removed := collect_ours():
                break
    assert len(removed) == 2


# -- segments that are files of other folders -------------------------------------------------------

FILES = """
import os, sys, time
from shm.owner import OwnerLock
from shm.segment import SegmentSpec
from shm.segments import create
run, path, folder = sys.argv[1:]
lock = OwnerLock.acquire(path)
made = [create("file", SegmentSpec(run, pool, 1000, 4, lock_path=path, folder=folder)) for pool in ("open", "own")]
made[0].open_to(os.getgid(), 0o660)
print("made", flush=True)
time.sleep(60)
"""


@pytest.fixture
def files(lock_path: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process with two segments in the folder "files", one of which its group may write."""
    (tmp_path / "files").mkdir()
    with started(FILES, RUN, lock_path, str(tmp_path / "files")) as process:
        yield process


def in_files(folder: Path) -> dict[str, Leftover]:
    return {leftover.pool: leftover for leftover in scan([folder, folder, folder / "none"]) if leftover.run == RUN}


def test_a_folder_that_is_named_is_searched_once_and_what_a_killed_run_left_there_is_collected(
    files: subprocess.Popen[str], lock_path: str, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    found = in_files(folder)
    assert {pool: leftover.state for pool, leftover in found.items()} == dict.fromkeys(("open", "own"), Alive(lock_path))
    assert found["own"].address == ("file", str(next(folder.glob("*.own.*"))))
    assert not collect_ours(folder)
    assert ours() == []
    files.kill()
    files.wait()
    assert len(collect_ours(folder)) == 2
    assert list(folder.iterdir()) == []
    assert not os.path.exists(lock_path)


def test_a_header_that_others_can_write_decides_nothing(
    files: subprocess.Popen[str], lock_path: str, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    dead = tmp_path / "dead.lock"
    dead.write_text("pid 1 start 1\n")
    path = Path(in_files(folder)["open"].name)
    content = bytearray(path.read_bytes())
    # A member of the group says that the owner is another one, who is dead, and that it is another run's.
    content[200:1024] = os.fsencode(dead).ljust(824, b"\0")
    content[72:136] = b"other-1".ljust(64, b"\0")
    path.write_bytes(content)
    assert in_files(folder)["open"].state == Alive(lock_path)
    collect([folder])
    assert path.exists()
    assert dead.exists()
    # Nor can it keep what a dead owner has left.
    files.kill()
    files.wait()
    with OwnerLock.acquire(tmp_path / "alive.lock") as alive:
        content[200:1024] = os.fsencode(alive.path).ljust(824, b"\0")
        path.write_bytes(content)
        assert len(collect_ours(folder)) == 2


def test_a_segment_that_others_can_write_and_of_whose_run_no_other_is_left_is_unknown(tmp_path: Path) -> None:
    with create("file", SegmentSpec(RUN, "open", 64, 1, lock_path=str(tmp_path / "x"), folder=str(tmp_path))) as segment:
        segment.open_to(os.getgid(), 0o660)
        (found,) = in_files(tmp_path).values()
        assert isinstance(found.state, Unknown)
        assert "others can write its header" in found.state.reason


def test_dev_shm_is_searched_once_whatever_it_is_called(owner: subprocess.Popen[str]) -> None:
    names = [leftover.name for leftover in scan(["/dev/shm", "/dev/../dev/shm/"]) if leftover.run == RUN]
    assert len(names) == 2


def test_segments_of_another_user_are_not_looked_into_even_by_root(files: subprocess.Popen[str], tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a file of another user")
    folder = tmp_path / "files"
    for path in folder.iterdir():
        os.chown(path, 61002, -1)
    files.kill()
    files.wait()
    assert in_files(folder) == {}
    assert collect_ours(folder) == []
    for path in folder.iterdir():
        os.chown(path, os.geteuid(), -1)
    assert len(collect_ours(folder)) == 2


def test_each_segment_of_a_folder_is_listed_once_however_often_that_is_named(
    files: subprocess.Popen[str], tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to("files")
    found = [leftover.name for leftover in scan([tmp_path / "files", tmp_path / "link", tmp_path / "files"])]
    assert len(found) == len(set(found))
    assert len([name for name in found if RUN in name and "trtlab" in name]) == 2
