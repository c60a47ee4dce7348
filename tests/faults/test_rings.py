"""Over rings in shared memory (`link: ring`): a process that dies or lies at one end costs the others nothing, and nothing is left."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from pipeline.testing import running
from pipeline.wire.handover import CAPACITY
from shm import sealed
from shm.ring import HEADER_BYTES
from tests.faults.load import Load, until

ChildOf = Callable[[int, str], psutil.Process | None]

_SIZE = HEADER_BYTES + CAPACITY


def rings_of(pid: int) -> int:
    """The rings of which the process holds an end."""
    try:
        with open(f"/proc/{pid}/maps") as maps:
            return sum("memfd:trtlab-ring" in line for line in maps)
    except FileNotFoundError:
        return 0


def test_a_ring_goes_with_its_process_the_next_one_gets_its_own_and_no_request_is_lost(
    folder: Any, child_of: ChildOf
) -> None:
    batch = {"batch": {"max_size": 4, "max_delay_ms": 1}, "with.seconds": 0.002}
    config = folder.config(batch, {**batch, "replicas": 2}, link="ring")
    with running(config) as pipeline, pipeline.client() as client:

        def scheduler() -> int:
            found = child_of(pipeline.pid, "scheduler")
            return 0 if found is None else found.pid

        load = Load(client)
        load.more(100)
        # From and to the client and the worker that it orders from, and from the two to which that worker forwards.
        load.until(lambda: rings_of(scheduler()) >= 6)
        assert client.status()["link"] == "ring"
        (victim,) = pipeline.worker_pids("s0")
        os.kill(victim, signal.SIGKILL)
        load.until(lambda: pipeline.worker_pids("s0") not in ([], [victim]) and rings_of(scheduler()) >= 6)
        first = psutil.Process(scheduler())
        load.kill(first)
        load.until(lambda: scheduler() not in (0, first.pid) and rings_of(scheduler()) >= 6)
        load.more(100)
        load.finish()
        # From and to the scheduler, and to both workers: none is of the scheduler that was killed.
        until(lambda: [rings_of(pid) for pid in pipeline.worker_pids("s0")] == [4])

        def none_is_left(clients: int) -> bool:
            """Whether the scheduler has a ring with nothing but its workers and so many clients, which are this process."""
            (forwarder,) = [rings_of(pid) for pid in pipeline.worker_pids("s0")]
            ends = forwarder + sum(rings_of(pid) for pid in pipeline.worker_pids("s1")) + rings_of(os.getpid())
            # A ring between two workers has an end in each of them; the others have one in the scheduler.
            return rings_of(os.getpid()) == 2 * clients and rings_of(scheduler()) == ends - 2 * (forwarder - 2)

        until(lambda: none_is_left(1))
        with pipeline.client() as another:
            with another.submit(data=b"one more").get(200) as result:
                assert result["data"].tobytes() == b"one more"
            until(lambda: none_is_left(2))
        until(lambda: none_is_left(1))
        assert pipeline.stop() == 0


@pytest.mark.parametrize("kind", ["words", "data", "packets"])
def test_a_process_that_lies_about_its_ring_is_refused_and_the_others_are_answered(
    kind: str, folder: Any, child_of: ChildOf
) -> None:
    rng = random.Random(2611)
    with running(folder.config({}, link="ring")) as pipeline, pipeline.client() as client:
        load = Load(client)
        load.more(20)
        scheduler = child_of(pipeline.pid, "scheduler")
        for _ in range(30):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            connection.connect(str(pipeline.run_dir / "scheduler.ring"))
            fd = sealed.create("trtlab-ring", _SIZE)
            with sealed.map_sealed(fd, _SIZE) as memory:
                socket.send_fds(connection, [b"trtlab ring 1"], [fd])
                for _ in range(20):
                    if kind == "words":
                        memory[rng.choice((0, 128)) + rng.randrange(8)] = rng.randrange(256)
                    elif kind == "data":
                        at = HEADER_BYTES + rng.randrange(2000)
                        memory[at : at + 40] = rng.randbytes(40)
                        memory[0:2] = rng.randrange(2500).to_bytes(2, "little")
                    try:
                        connection.send(b"?" if kind != "packets" else rng.randbytes(rng.randrange(100)))
                    except (BrokenPipeError, ConnectionResetError):
                        break
                    load.step()
            os.close(fd)
            connection.close()
        load.more(20)
        load.finish()
        assert child_of(pipeline.pid, "scheduler") == scheduler
        assert client.status()["counts"].get("worker_deaths", 0) == 0
        assert pipeline.stop() == 0
