"""Only a process that is proven to be the run's supervisor is signalled."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.watching.owner import Owner, owner_of
from pipeline.wire.run_dir import LOCK
from shm.owner import OwnerLock, start_ticks

HOLD = """\
import signal, sys
from shm.owner import OwnerLock
lock = OwnerLock.acquire(sys.argv[1])
signal.signal(signal.SIGUSR2, print)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the run's lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder / LOCK)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_process_that_holds_the_lock_is_found_and_signalled(
    folder: Path, holder: subprocess.Popen[str]
) -> None:
    owner = owner_of(folder)
    assert owner is not None
    assert (owner.pid, owner.alive) == (holder.pid, True)
    assert (owner.catches(signal.SIGUSR2), owner.catches(signal.SIGHUP)) == (True, False)
    assert owner.send(signal.SIGTERM)
    assert holder.wait(30) == -signal.SIGTERM
    assert not owner.alive
    assert not owner.send(signal.SIGTERM)


def test_a_process_that_its_parent_has_not_collected_has_ended(folder: Path, holder: subprocess.Popen[str]) -> None:
    owner = owner_of(folder)
    assert owner is not None
    owner.send(signal.SIGKILL)
    while Path(f"/proc/{holder.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        pass
    assert not owner.alive


def test_a_lock_that_no_process_holds_has_no_owner(folder: Path) -> None:
    assert owner_of(folder) is None
    (folder / LOCK).write_text("pid 1 start 1\n")
    assert owner_of(folder) is None


@pytest.mark.parametrize("what", ["another process", "an earlier process with its pid", "nothing that says who"])
def test_a_held_lock_whose_file_names_a_process_wrongly_has_no_proven_owner(
    folder: Path, holder: subprocess.Popen[str], what: str
) -> None:
    """As in another pid namespace, where the number is that of a process which has nothing to do with it."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        written = {
            "another process": f"pid {other.pid} start {start_ticks(other.pid)} strong\n",
            "an earlier process with its pid": f"pid {holder.pid} start 1 strong\n",
            "nothing that says who": "strong\n",
        }[what]
        (folder / LOCK).write_text(written)
        assert owner_of(folder) is None
        # What has changed since it was found is not signalled either.
        assert not Owner(other.pid, start_ticks(other.pid), folder / LOCK).send(signal.SIGKILL)
        assert other.poll() is None
    finally:
        other.communicate(b"\n")


def test_a_process_that_only_reads_the_lock_is_not_its_owner(folder: Path) -> None:
    with OwnerLock.acquire(folder / LOCK):
        reader = subprocess.Popen(
            [sys.executable, "-c", f"file = open({str(folder / LOCK)!r}); print('open', flush=True); input()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "open\n"
            (folder / LOCK).write_text(f"pid {reader.pid} start {start_ticks(reader.pid)} strong\n")
            assert owner_of(folder) is None
        finally:
            reader.communicate("\n")
