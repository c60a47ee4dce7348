"""The supervisor is killed with -9: all processes of its run end, and its segments are found and removed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil

from pipeline.testing import running
from shm import leftovers
from tests.faults.load import until


def test_every_child_ends_even_if_hung_or_stopped_and_gc_removes_what_is_left(
    folder: Any, cli: Callable[..., Any]
) -> None:
    config = folder.config({"with.deadly": True}, {"with.deadly": True}, {"replicas": 2})
    with running(config) as pipeline:
        children = psutil.Process(pipeline.pid).children()
        assert len(children) == 5
        with pipeline.client() as client:
            # One worker sleeps in a C call that keeps the interpreter's lock; another one is stopped.
            client.submit(data=b"hold")
            until(lambda: client.status()["inside"] == 1)
            until(lambda: len(pipeline.worker_pids("s2")) == 2)
            os.kill(pipeline.worker_pids("s2")[1], signal.SIGSTOP)
            os.kill(pipeline.pid, signal.SIGKILL)
            killed = time.monotonic()
            assert psutil.wait_procs(children, timeout=200)[1] == []
            print(f"all children gone after {(time.monotonic() - killed) * 1000:.0f} ms")
        assert pipeline.wait() == -signal.SIGKILL
        name = pipeline.run_dir.name
        # If another pipeline starts on this machine meanwhile, it removes them too: all, or none.
        listed = cli("shm", "ls")
        assert listed.code == 0
        assert listed.out.count(name) in (5, 0)
        assert ("dead: pipeline shm gc removes them" in listed.out) >= (name in listed.out)
        removed = cli("shm", "gc")
        assert removed.code == 0
        assert removed.out.count(f"removed /trtlab.{name}.") in (5, 0)
        assert "segments removed" in removed.out
        assert not [found for found in leftovers.scan() if found.run == name]
        assert not pipeline.run_dir.exists()


def test_gc_leaves_a_living_run_alone(folder: Any, cli: Callable[..., Any]) -> None:
    with running(folder.config({})) as pipeline, pipeline.client() as client:
        assert "alive" in cli("shm", "ls").out
        assert "0 segments removed" in cli("shm", "gc").out
        with client.submit(data=b"x").get(200) as result:
            assert result["data"].tobytes() == b"x"
        assert pipeline.stop() == 0
