from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture
def owner(lock_path: str) -> Iterator[subprocess.Popen[str]]:
    """Another process with one POSIX and one System V segment."""
    environment = {**os.environ, "PYTHONPATH": str(Path(shm.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, RUN, lock_path], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        yield process
        process.kill()
        process.wait()
    collect()
    assert ours() == []


def ours() -> list[Leftover]:
    """What this test made; other things of ours may live on the host at the same time."""
    return [leftover for leftover in scan() if leftover.run == RUN]


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
    assert not [leftover for leftover in collect() if leftover.run == RUN]
    for leftover in (posix, sysv):
        attach(leftover.address).close()


def test_what_a_killed_run_left_is_collected_once_and_its_lock_file_too(
    owner: subprocess.Popen[str], lock_path: str
) -> None:
    owner.kill()
    owner.wait()
    found = ours()
    assert [leftover.state for leftover in found] == [Dead(lock_path)] * 2
    assert {leftover.address for leftover in collect() if leftover.run == RUN} == {left.address for left in found}
    assert ours() == []
    assert not os.path.exists(lock_path)
    for leftover in found:
        with pytest.raises(SegmentNotFound):
            attach(leftover.address)


def test_while_another_collects_nothing_is_taken(owner: subprocess.Popen[str], lock_path: str) -> None:
    owner.kill()
    owner.wait()
    with OwnerLock.acquire(lock_path):
        assert not [leftover for leftover in collect() if leftover.run == RUN]
        assert len(ours()) == 2
        # As if a process died while collecting: the file stays, and the next collector goes on.
        Path(lock_path).rename(lock_path + ".kept")
    Path(lock_path + ".kept").rename(lock_path)
    assert len([leftover for leftover in collect() if leftover.run == RUN]) == 2


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


def test_half_a_segment_of_a_dead_owner_is_collected(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.wait()
    os.truncate(f"/dev/shm{ours()[0].address.name}", HEADER_BYTES)
    assert len([leftover for leftover in collect() if leftover.run == RUN]) == 2
