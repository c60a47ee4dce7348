"""What the operator gives a stage is not for its clients to read."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import zmq

from pipeline.supervisor.run_log import log_path
from pipeline.testing import running
from pipeline.wire.codec import decode, encode
from pipeline.wire.messages import OK, AskStatus, Bye, Hello, Loan, Message, Submission, Submit
from shm import segments
from shm.handle import TensorHandle
from shm.owner import OwnerLock
from shm.view import SegmentTable
from tests.integration.conftest import Folder

SECRET = "api-key-of-the-operator-5f3a"


class Listener:
    """A client that keeps every byte it is sent."""

    def __init__(self, run_dir: Path) -> None:
        self.number = secrets.randbits(63)
        path = run_dir / "clients" / f"{self.number:x}"
        self._lock = OwnerLock.acquire(path.with_suffix(".lock"))
        context = zmq.Context.instance()
        self._inbox = context.socket(zmq.PULL)
        self._inbox.bind(f"ipc://{path.with_suffix('.sock')}")
        self._scheduler = context.socket(zmq.PUSH)
        self._scheduler.connect(f"ipc://{run_dir / 'scheduler.sock'}")

    def ask(self, message: Message) -> tuple[bytes, Any]:
        """The next frame after `message` was sent, and the message that it is."""
        self._scheduler.send(encode(message))
        assert self._inbox.poll(20_000), f"no answer to {message}"
        frame: bytes = self._inbox.recv()
        return frame, decode(frame)

    def close(self) -> None:
        self._scheduler.send(encode(Bye(self.number, ())))
        self._scheduler.close(linger=1000)
        self._inbox.close(linger=0)
        self._lock.release()


def frames_of(listener: Listener) -> list[bytes]:
    """What a client is sent that comes, asks for a slot, has one request answered, and asks for the status."""
    number = listener.number
    frames = []
    frame, welcome = listener.ask(Hello(number, "listener"))
    frames.append(frame)
    address, *_ = welcome.ingress
    table = SegmentTable()
    with closing(table):
        segment = segments.attach((address.kind, address.name))
        table.add(segment)
        frame, answers = listener.ask(Loan(number, segment.number, 1, False))
        frames.append(frame)
        handle = TensorHandle(*answers.grants[0], 0, "uint8", (4,))
        table.view(handle, writable=True)[...] = list(b"data")
        frame, answers = listener.ask(
            Submit(number, answers.number, (Submission(1, answers.grants[0], (handle,), 0, 0, "named"),), ())
        )
        frames.append(frame)
        assert answers.answers[0].code == OK
    frame, _ = listener.ask(AskStatus(number))
    frames.append(frame)
    return frames


def test_a_secret_of_a_stage_reaches_no_client_no_status_and_no_segment(
    folder: Folder, cli: Callable[..., Any]
) -> None:
    config = folder.config({"env": {"API_KEY": SECRET}, "with": {"how": SECRET}}, name="secretive")
    with running(config) as pipeline:
        listener = Listener(pipeline.run_dir)
        try:
            frames = frames_of(listener)
        finally:
            listener.close()
        assert b"secretive" in frames[0]
        assert [frame for frame in frames if SECRET.encode() in frame] == []
        for options in ([], ["--json"], ["--prometheus"], ["--pages"]):
            status = cli("status", "secretive", *options)
            assert status.code == 0, status.err
            assert SECRET not in status.out + status.err
        memory = [path for path in Path("/dev/shm").iterdir() if "secretive" in path.name]
        assert len(memory) >= 3
        assert [path for path in memory if SECRET.encode() in path.read_bytes()] == []
        assert SECRET not in pipeline.log()
        log = log_path(pipeline.run_dir.name)
        assert log is not None
        assert SECRET not in log.read_text()
