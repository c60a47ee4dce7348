from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import shm
from shm.errors import OwnerAlive
from shm.owner import Alive, Dead, OwnerLock, OwnerWatch, Unknown, probe, start_ticks, written_in

OWNER = """
import sys, time
from shm.owner import OwnerLock
lock = OwnerLock.acquire(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "owner.lock")


@pytest.fixture
def owner(path: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock at `path`."""
    environment = {**os.environ, "PYTHONPATH": str(Path(shm.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, path], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_living_owner_is_alive_and_one_that_was_killed_is_dead(owner: subprocess.Popen[str], path: str) -> None:
    assert probe(path) == Alive(path)
    with pytest.raises(OwnerAlive, match=rf"held by a living process \(pid {owner.pid} start {start_ticks(owner.pid)}\)"):
        OwnerLock.acquire(path)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert probe(path) == Dead(path)


def test_a_stopped_owner_is_alive(owner: subprocess.Popen[str], path: str) -> None:
    owner.send_signal(signal.SIGSTOP)
    assert probe(path) == Alive(path)


def test_only_one_claims_a_dead_owner_and_the_file_goes_with_the_claim(owner: subprocess.Popen[str], path: str) -> None:
    owner.kill()
    owner.wait()
    dead = probe(path)
    assert isinstance(dead, Dead)
    with dead.claim():
        assert probe(path) == Alive(path)
        with pytest.raises(OwnerAlive):
            dead.claim()
    assert not os.path.exists(path)
    assert not hasattr(Alive(path), "claim")
    assert not hasattr(Unknown(path, ""), "claim")


def test_the_file_says_who_and_is_this_users_alone(path: str) -> None:
    with OwnerLock.acquire(path):
        assert Path(path).read_text() == f"pid {os.getpid()} start {start_ticks()} strong\n"
        assert os.stat(path).st_mode & 0o777 == 0o600
    assert not os.path.exists(path)


def test_the_lock_is_not_inherited_by_programs_that_the_owner_starts(path: str) -> None:
    lock = OwnerLock.acquire(path)
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        os.close(lock._fd)  # dies without a word, while its child lives
        assert probe(path) == Dead(path)
        child.kill()


def test_release_twice_does_nothing_more(path: str) -> None:
    lock = OwnerLock.acquire(path)
    lock.release()
    with OwnerLock.acquire(path):
        lock.release()
        assert probe(path) == Alive(path)


def test_release_leaves_a_file_that_is_another_owners(path: str) -> None:
    lock = OwnerLock.acquire(path)
    os.unlink(path)
    with OwnerLock.acquire(path):
        lock.release()
        assert probe(path) == Alive(path)


def test_a_starting_owner_is_not_turned_away_by_a_probe(path: str) -> None:
    Path(path).write_text("pid 1 start 1\n")
    with open(path) as prober:
        fcntl.flock(prober, fcntl.LOCK_SH)
        timer = threading.Timer(0.03, lambda: fcntl.flock(prober, fcntl.LOCK_UN))
        timer.start()
        OwnerLock.acquire(path).release()
        timer.join()


def test_a_lock_on_a_file_that_was_unlinked_meanwhile_is_not_taken_for_the_path(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, raced = fcntl.flock, []

    def flock(fd: int, operation: int) -> None:
        if not raced:
            raced.append(fd)
            os.unlink(path)
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with OwnerLock.acquire(path):
        assert raced
        assert probe(path) == Alive(path)


def test_what_cannot_be_told_is_unknown_with_the_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "letter").write_text("dear all")
    for name, reason in (
        ("missing", os.strerror(errno.ENOENT)),
        ("fifo", "not a regular file"),
        (".", "not a regular file"),
        ("link", os.strerror(errno.ELOOP)),
        ("letter", "not written by an owner"),
        ("a\0b", "null"),
    ):
        state = probe(f"{tmp_path}/{name}")
        assert isinstance(state, Unknown), name
        assert reason in state.reason, name


def test_a_lock_where_no_file_can_be_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        OwnerLock.acquire(tmp_path / "no" / "such" / "folder")


def test_the_start_of_a_process_is_read_behind_any_command_name() -> None:
    with subprocess.Popen(["bash", "-c", 'printf "a) b (c" > /proc/$$/comm; echo; read'], stdin=-1, stdout=-1) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert Path(f"/proc/{child.pid}/comm").read_text() == "a) b (c\n"
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks(child.pid) / os.sysconf("SC_CLK_TCK")
        assert age > -0.1
        assert start_ticks(child.pid) >= start_ticks()
        child.kill()


def test_the_lock_of_a_process_is_not_its_forked_childs(tmp_path: Path) -> None:
    lock = OwnerLock.acquire(tmp_path / "lock")
    go_read, go_write = os.pipe()
    there_read, there_write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(go_write)
        os.write(there_write, b"!")
        os.read(go_read, 1)
        os._exit(0)
    try:
        assert os.read(there_read, 1) == b"!"
        assert isinstance(probe(tmp_path / "lock"), Alive)
        os.close(lock._fd)  # as the kernel does when the owner dies
        lock._fd = -1
        assert not isinstance(probe(tmp_path / "lock"), Alive)
    finally:
        for end in (go_read, go_write, there_read, there_write):
            os.close(end)
        os.waitpid(pid, 0)


def test_a_lock_whose_file_was_removed_is_made_anew_and_held(path: str) -> None:
    with OwnerLock.acquire(path) as lock:
        assert not lock.renew()
        os.unlink(path)
        assert isinstance(probe(path), Unknown)
        assert lock.renew()
        assert probe(path) == Alive(path)
        assert Path(path).read_text() == f"pid {os.getpid()} start {start_ticks()} strong\n"
    assert not os.path.exists(path)
    assert not lock.renew()
    assert not os.path.exists(path)


def test_a_lock_cannot_be_made_anew_where_there_is_no_folder_or_another_owner(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with OwnerLock.acquire(folder / "lock") as lock:
        os.unlink(folder / "lock")
        folder.rmdir()
        with pytest.raises(FileNotFoundError):
            lock.renew()
        folder.mkdir()
        with OwnerLock.acquire(folder / "lock"), pytest.raises(OwnerAlive):
            lock.renew()
        assert lock.renew()


def test_a_watched_owner_is_alive_until_it_dies_whatever_becomes_of_its_file(
    owner: subprocess.Popen[str], path: str
) -> None:
    watch = OwnerWatch(path)
    assert watch.alive
    os.unlink(path)
    assert watch.alive
    owner.kill()
    owner.wait()
    assert not watch.alive
    with OwnerLock.acquire(path):  # another life
        assert not watch.alive


def test_a_watched_owner_is_not_the_next_process_that_takes_the_same_file(path: str) -> None:
    left = b"pid 1 start 1\n"
    Path(path).write_bytes(left)
    held = os.open(path, os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    watch = OwnerWatch(path)
    assert watch.alive
    fcntl.flock(held, fcntl.LOCK_UN)
    with OwnerLock.acquire(path):
        assert Path(path).read_bytes() != left
        # Nothing was looked at in between.
        assert not watch.alive
    os.close(held)
    watch.close()


def test_an_owner_that_has_not_written_yet_which_process_it_is_is_known_later(path: str) -> None:
    lock = OwnerLock.acquire(path)
    written = Path(path).read_bytes()
    os.truncate(path, 0)
    watch = OwnerWatch(path)
    assert watch.alive
    Path(path).write_bytes(written)
    assert watch.alive
    Path(path).write_bytes(b"pid 1 start 1\n")
    assert not watch.alive
    lock.release()


def test_a_watched_owner_may_renew_its_lock_and_release_it(path: str) -> None:
    lock = OwnerLock.acquire(path)
    watch = OwnerWatch(path)
    for _ in range(2):
        os.unlink(path)
        lock.renew()
        assert watch.alive
    lock.release()
    assert not watch.alive


def test_watching_does_not_keep_an_owner_from_its_lock(path: str) -> None:
    Path(path).write_text("pid 1 start 1\n")
    watch = OwnerWatch(path)
    assert not watch.alive
    OwnerLock.acquire(path).release()
    lock = OwnerLock.acquire(path)
    watch = OwnerWatch(path)
    lock.release()
    assert not watch.alive
    with pytest.raises(FileNotFoundError):
        OwnerWatch(path)
    watch.close()


# -- a lock that others may read --------------------------------------------------------------------


def reader_locks(path: str) -> int:
    """What a process can do that may only read the file: the descriptor that has both of the locks it can get."""
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    record = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, record)
    with pytest.raises(OSError, match="Bad file descriptor"):
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    return fd


def test_a_reader_cannot_make_a_dead_owner_look_alive_nor_keep_the_next_one_out(
    owner: subprocess.Popen[str], path: str
) -> None:
    watch = OwnerWatch(path)
    owner.kill()
    owner.wait()
    reader = reader_locks(path)
    assert probe(path) == Dead(path)
    assert not watch.alive
    with OwnerLock.acquire(path):
        assert probe(path) == Alive(path)
    os.close(reader)


def test_a_reader_cannot_keep_a_lock_from_being_made_anew(path: str) -> None:
    with OwnerLock.acquire(path) as lock:
        os.unlink(path)
        Path(path).write_text("pid 1 start 1 strong\n")
        reader = reader_locks(path)
        assert lock.renew()
        assert probe(path) == Alive(path)
        os.close(reader)


def test_an_owner_of_an_earlier_version_is_seen_by_the_lock_that_it_has(path: str) -> None:
    Path(path).write_text("pid 1 start 1\n")
    fd = os.open(path, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert probe(path) == Alive(path)
    with pytest.raises(OwnerAlive, match="pid 1 start 1"):
        OwnerLock.acquire(path)
    os.close(fd)
    assert probe(path) == Dead(path)


def test_a_kernel_without_the_strong_lock_has_the_other_one(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shm.owner._OFD_SETLK", None)
    monkeypatch.setattr("shm.owner._OFD_GETLK", None)
    with OwnerLock.acquire(path):
        assert not Path(path).read_text().endswith("strong\n")
        assert probe(path) == Alive(path)
        with pytest.raises(OwnerAlive):
            OwnerLock.acquire(path)
    Path(path).write_text("pid 1 start 1\n")
    assert probe(path) == Dead(path)


@pytest.mark.parametrize("umask", [0, 0o777])
def test_a_group_may_read_the_lock_whatever_the_umask_is(path: str, umask: int) -> None:
    before = os.umask(umask & 0o077)
    try:
        with OwnerLock.acquire(path, os.getgid()) as lock:
            assert os.stat(path).st_mode & 0o7777 == 0o640
            os.unlink(path)
            assert lock.renew()
            assert os.stat(path).st_mode & 0o7777 == 0o640
    finally:
        os.umask(before)


def test_a_lock_file_says_who_has_made_it(path: str) -> None:
    with OwnerLock.acquire(path):
        assert written_in(path) == (os.getpid(), start_ticks())
    assert written_in(path) is None
    Path(path).write_text("something else\n")
    assert written_in(path) is None
