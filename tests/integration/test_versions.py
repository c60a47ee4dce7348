"""A client of this version, and a scheduler that is of another one: who it is, and what to do, is said within a second."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest
import zmq

from pipeline.client import Client
from pipeline.errors import Unavailable
from pipeline.wire.messages import PROTOCOL
from shm.owner import OwnerLock

Answering = Callable[[list[object]], list[object] | None]
"""From a frame to what the scheduler sends the client of it, or to nothing."""


class Scheduler:
    """What is in a run's folder of a scheduler that is of another version."""

    def __init__(self, run_dir: Path, answer: Answering) -> None:
        (run_dir / "clients").mkdir(parents=True)
        self._locks = [OwnerLock.acquire(run_dir / name) for name in ("owner.lock", "scheduler.lock")]
        self._answer = answer
        self._run_dir = run_dir
        self._stop = threading.Event()
        self.frames: list[list[object]] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        context = zmq.Context.instance()
        inbox = context.socket(zmq.PULL)
        inbox.bind(f"ipc://{self._run_dir}/scheduler.sock")
        while not self._stop.is_set():
            if not inbox.poll(20):
                continue
            frame = msgpack.unpackb(inbox.recv())
            self.frames.append(frame)
            if (answer := self._answer(frame)) is not None:
                client = context.socket(zmq.PUSH)
                client.connect(f"ipc://{self._run_dir}/clients/{frame[2]:x}.sock")
                client.send(msgpack.packb(answer))
                client.close(500)
        inbox.close(0)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for lock in self._locks:
            lock.release()


@pytest.fixture
def other() -> Iterator[Callable[[Answering], Path]]:
    """Starts a scheduler that answers as it is told; its folder."""
    made: list[Scheduler] = []
    # The path of a socket is short.
    with tempfile.TemporaryDirectory() as home:

        def start(answer: Answering) -> Path:
            folder = Path(home) / f"demo-{os.getpid()}"
            made.append(Scheduler(folder, answer))
            return folder

        yield start
        for scheduler in made:
            scheduler.close()


def test_a_later_scheduler_refuses_and_its_client_says_that_it_must_be_upgraded(other: Callable[[Answering], Path]) -> None:
    later = PROTOCOL + 1
    run = other(lambda frame: [later, 11, later, "the reason", {"more": 1}] if frame[:2] == [PROTOCOL, 1] else None)
    with pytest.raises(Unavailable) as refused:
        Client.connect(run, timeout_s=30)
    why = f"the client speaks protocol {PROTOCOL}, the pipeline speaks protocol {later}: upgrade the client"
    assert why in str(refused.value)


@pytest.mark.parametrize("old", [4, 5])
def test_an_old_scheduler_drops_a_new_hello_and_its_client_finds_out_all_the_same(
    other: Callable[[Answering], Path], old: int
) -> None:
    def answer(frame: list[object]) -> list[object] | None:
        # As versions 4 and 5 did: of another version nothing is read; a hello is answered with a welcome.
        return [old, 2, 0, "{}", []] if frame[:2] == [old, 1] else None

    run = other(answer)
    with pytest.raises(Unavailable) as refused:
        Client.connect(run, timeout_s=30)
    why = f"the client speaks protocol {PROTOCOL}, the pipeline speaks protocol {old}: upgrade the pipeline"
    assert why in str(refused.value)
