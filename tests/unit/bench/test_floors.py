"""The floors move tensors that are checked, notice what goes wrong, and leave nothing behind."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.floors.eventfd_ring import EventfdRing
from bench.floors.producer import RingFloor
from bench.floors.slots import Slots, TornTensor, stride_of, unnamed_shared_memory
from bench.floors.zmq_ring import ZmqRing
from bench.measure import SubjectDied

ROOT = Path(__file__).parents[3]
NBYTES = 8192

on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="needs x86-64's memory order")
floors = pytest.mark.parametrize(
    "make",
    [pytest.param(lambda: ZmqRing(2), id="zmq"), pytest.param(lambda: EventfdRing(2), id="eventfd", marks=on_x86)],
)


@pytest.fixture
def slots() -> Iterator[Slots]:
    fd = unnamed_shared_memory(stride_of(NBYTES) * 2)
    slots = Slots(fd, NBYTES, 2)
    yield slots
    slots.close()
    os.close(fd)


@pytest.fixture
def source() -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.full(NBYTES, 7, np.uint8)


def test_a_filled_slot_holds_the_source_between_its_stamps(slots: Slots, source: np.ndarray) -> None:
    slots.fill(1, source, 5)
    slots.check(1, 5)
    assert (slots.views[1][8:-8] == 7).all()
    assert not slots.views[0].any()


@pytest.mark.parametrize("at", [0, NBYTES - 8], ids=["first", "last"])
def test_a_slot_with_one_wrong_stamp_is_torn(slots: Slots, source: np.ndarray, at: int) -> None:
    slots.fill(1, source, 5)
    slots.views[1][at] ^= 1
    with pytest.raises(TornTensor, match="message 5"):
        slots.check(1, 5)


def test_a_swapped_slot_is_torn(slots: Slots, source: np.ndarray) -> None:
    slots.fill(0, source, 5)
    slots.fill(1, source, 6)
    with pytest.raises(TornTensor):
        slots.check(1, 5)


@floors
def test_every_request_comes_back_checked_with_one_and_with_many_in_flight(make: Callable[[], RingFloor]) -> None:
    floor = make()
    try:
        floor.setup(NBYTES, 4)
        assert len(floor.latency(0.02)) >= 1
        for window in (1, 4):
            flow = floor.throughput(0.02, window)
            assert flow.requests >= window
            assert flow.seconds >= 0.02
        assert len(floor.pids()) == 3
    finally:
        floor.close()


@floors
def test_a_handle_that_comes_back_twice_fails_the_run(make: Callable[[], RingFloor]) -> None:
    floor = make()
    try:
        floor.setup(NBYTES, 4)
        floor._send([(0, 1)])  # message 1 has come back already, during setup
        with pytest.raises(TornTensor, match="message 1 came back"):
            floor.latency(0.02)
    finally:
        floor.close()


@floors
def test_a_relay_that_dies_ends_the_run_instead_of_hanging_it(make: Callable[[], RingFloor]) -> None:
    floor = make()
    try:
        floor.setup(NBYTES, 4)
        os.kill(floor.pids()[1], signal.SIGKILL)
        with pytest.raises(SubjectDied, match="exited with status -9"):
            floor.latency(0.02)
    finally:
        floor.close()


def _files() -> set[str]:
    # Segments of pipelines come and go with the tests that run beside this one.
    return {name for name in os.listdir("/dev/shm") if not name.startswith("trtlab.")}


@floors
def test_a_closed_floor_leaves_no_process_descriptor_or_file(make: Callable[[], RingFloor]) -> None:
    floor = make()
    floor.close()  # before setup, too
    fds, files = len(os.listdir("/proc/self/fd")), _files()
    floor.setup(NBYTES, 4)
    relays = floor.pids()[1:]
    assert _files() <= files
    floor.close()
    floor.close()
    assert len(os.listdir("/proc/self/fd")) == fds
    assert not any(Path(f"/proc/{pid}").exists() for pid in relays)


@pytest.mark.parametrize("death", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_relays_do_not_outlive_a_run_that_is_ended(death: signal.Signals) -> None:
    command = [sys.executable, "-m", "bench.run", "--sizes", "8192", "--subjects", "zmq-2", "--seconds", "60"]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        relays = _wait_for_relays(run.pid)
        run.send_signal(death)
        _, errors = run.communicate()
    finally:
        run.kill()
        run.wait()
    assert b"Traceback" not in errors
    while any(_is_alive(pid) for pid in relays):
        time.sleep(0.01)


def _wait_for_relays(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while len(found := children.read_text().split()) < 2:
        time.sleep(0.01)
    return [int(child) for child in found]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
