"""A client that speaks the wire itself: for what the real one does not say, and for versions that it is not of."""

from __future__ import annotations

import itertools
import secrets
import time
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zmq
from msgspec.structs import replace

from pipeline.errors import WireError
from pipeline.wire.address import Address
from pipeline.wire.codec import decode, encode
from pipeline.wire.group import hold_lock, socket_mode
from pipeline.wire.messages import Answer, Answers, Hello, Loan, Message, SlotRef, Submission, Submit, Welcome
from shm import segments
from shm.handle import TensorHandle
from shm.permissions import open_to
from shm.view import SegmentTable

__all__ = ["RawClient"]


class RawClient:
    """Its lock and its sockets in the folder of a run."""

    def __init__(self, run_dir: Path) -> None:
        self.number = secrets.randbits(60)
        address = Address.client(self.number)
        self._lock = hold_lock(run_dir, address)
        context = zmq.Context.instance()
        self._inbox = context.socket(zmq.PULL)
        path = run_dir / "clients" / f"{self.number:x}.sock"
        self._inbox.bind(f"ipc://{path}")
        group, mode = socket_mode(run_dir, address)
        open_to(group, path, mode)
        self._scheduler = context.socket(zmq.PUSH)
        self._scheduler.connect(f"ipc://{run_dir}/scheduler.sock")
        self.table = SegmentTable()
        self._seen = 0
        self._tags = itertools.count(1)
        self._grants: list[SlotRef] = []
        self._answers: list[Answer] = []

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._inbox.close(0)
        self._scheduler.close(200)
        self.table.close()
        self._lock.release()

    # -- frames -----------------------------------------------------------------------------------

    def send_frame(self, frame: bytes) -> None:
        self._scheduler.send(frame)

    def send(self, message: Message) -> None:
        self._scheduler.send(encode(message))

    def frame(self, timeout_s: float = 200.0) -> bytes:
        """The next frame that comes."""
        assert self._inbox.poll(int(timeout_s * 1000)), "no frame came"
        return bytes(self._inbox.recv())

    def document(self, timeout_s: float = 200.0) -> Any:
        """The next frame that comes, of whatever version, as plain values."""
        return msgpack.unpackb(self.frame(timeout_s))

    def message(self, kind: type[Any], timeout_s: float = 200.0) -> Any:
        """The next message of a kind; others are taken in."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                found = decode(self.frame(max(0.0, end - time.monotonic())))
            except WireError as error:
                raise AssertionError(f"the scheduler sent {error}") from error
            if isinstance(found, Answers):
                self._seen = found.number
                self._grants += found.grants
                self._answers += found.answers
            if isinstance(found, kind):
                return found

    # -- a session --------------------------------------------------------------------------------

    def join(self) -> None:
        """Say hello, and attach what the welcome names."""
        self.send(Hello(self.number, "raw"))
        welcome = self.message(Welcome)
        self._ingress = []
        for address in (*welcome.ingress, *welcome.answers):
            segment = segments.attach((address.kind, address.name), writable=address in welcome.ingress, foreign=True)
            self.table.add(segment)
            if address in welcome.ingress:
                self._ingress.append(segment)
        self._ingress.sort(key=lambda segment: segment.layout.slot_bytes)

    def slot(self) -> SlotRef:
        """A slot to fill, of the smallest ones."""
        if not self._grants:
            self.send(Loan(self.number, self._ingress[0].number, next(self._tags), True))
        while not self._grants:
            self.message(Answers)
        return self._grants.pop(0)

    def submit(self, data: bytes, **more: Any) -> int:
        """Send one request of one input; its tag."""
        slot, tag = self.slot(), next(self._tags)
        handle = TensorHandle(*slot, 0, "uint8", (len(data),))
        self.table.view(handle, writable=True)[...] = np.frombuffer(data, np.uint8)
        submission = replace(Submission(tag, slot, (handle,), 0, 0, ""), **more)
        self.send(Submit(self.number, self._seen, (submission,), ()))
        return tag

    def answer(self, tag: int, timeout_s: float = 200.0) -> Answer:
        """The next answer to a request, or the next part of it."""
        end = time.monotonic() + timeout_s
        while True:
            for answer in self._answers:
                if answer.tag == tag:
                    self._answers.remove(answer)
                    return answer
            self.message(Answers, max(0.0, end - time.monotonic()))

    def bytes_of(self, answer: Answer) -> bytes:
        """The first output of an answer."""
        (handle,) = answer.outputs
        assert isinstance(handle, TensorHandle)
        return bytes(self.table.view(handle).tobytes())
