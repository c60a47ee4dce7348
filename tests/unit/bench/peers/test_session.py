"""A session with a driver: its answers, its death, its silence, and what it leaves."""

from __future__ import annotations

import sys

import psutil
import pytest

from bench.measure import SubjectDied
from bench.peers.session import Session, left_by


def test_a_driver_measures_and_all_that_it_has_started_ends_with_it() -> None:
    session = Session("queue", sys.executable, "queues")
    session.setup(4096, 4)
    try:
        assert all(sample > 0 for sample in session.latency(0.05))
        flow = session.throughput(0.05, 4)
        assert flow.requests >= 4
        assert flow.seconds >= 0.05
        pids = session.pids()
        assert (len(pids["caller"]), len(pids["peer"])) == (1, 3)
    finally:
        session.close()
    assert not any(psutil.pid_exists(pid) for pid in [*pids["caller"], *pids["peer"]])
    session.close()


def test_a_driver_that_ends_is_told_with_what_it_has_printed() -> None:
    session = Session("none", sys.executable, "no_such_driver")
    try:
        with pytest.raises(SubjectDied, match=r"none: its driver has ended; it printed:\n.*no_such_driver"):
            session.setup(4096, 1)
    finally:
        session.close()


def test_an_error_of_the_peer_is_told_and_names_it() -> None:
    session = Session("queue", sys.executable, "queues")
    try:
        # Seven bytes are no place for two stamps.
        with pytest.raises(SubjectDied, match="queue: ValueError"):
            session.setup(7, 1)
    finally:
        session.close()


def test_before_its_setup_a_session_says_what_is_missing() -> None:
    with pytest.raises(RuntimeError, match=r"call setup\(\) first"):
        Session("queue", sys.executable, "queues").pids()


def test_of_shared_memory_only_what_its_own_processes_have_left_is_named() -> None:
    names = ["sem.hdr12-1", "sem.obj13-77", "torch_12_5_0", "torch_123_5_0", "sem.hdr99-1", "trtlab.a-12.x", "12"]
    assert left_by({12, 13}, names) == ["sem.hdr12-1", "sem.obj13-77", "torch_12_5_0"]
