"""ZmqRing, the ZeroMQ floor: handles over PUSH/PULL on ipc, with as few messages and copies as Python allows.

    P --PUSH/PULL--> relay 1 --PUSH/PULL--> ... --PUSH/PULL--> P

A message is one MessagePack array of handles [slot, seq]. Every process drains its socket before it
acts, so handles that wait for a slow process travel on together, as one message. `python -m
bench.floors.zmq_ring` is a relay process.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise

import msgpack
import zmq

from bench.floors.child import become_relay, spawn
from bench.floors.producer import SILENCE_S, Handle, RingFloor
from bench.floors.slots import Slots

__all__ = ["ZmqRing"]

class ZmqRing(RingFloor):
    """P of the ZeroMQ floor; `relays` = 2 is the classic floor of three processes."""

    def __init__(self, relays: int = 2) -> None:
        super().__init__(relays)
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None

    @property
    def name(self) -> str:
        return f"zmq-{self.relays}"

    def _handles_per_message(self, window: int) -> int:
        return max(8, window // 2)  # half travels while P fills the other half; measured in NOTES.md

    def _connect(self, fd: int, nbytes: int, window: int) -> list[subprocess.Popen[bytes]]:
        # Abstract addresses (@): no file that a killed run could leave behind.
        hops = [f"ipc://@trtlab-bench-{secrets.token_hex(8)}" for _ in range(self.relays + 1)]
        self._context = context = zmq.Context()
        pull = context.socket(zmq.PULL)
        pull.setsockopt(zmq.RCVTIMEO, int(SILENCE_S * 1e3))
        pull.bind(hops[-1])
        children = [
            spawn("bench.floors.zmq_ring", [fd, nbytes, window, hop, after], [fd]) for hop, after in pairwise(hops)
        ]
        push = context.socket(zmq.PUSH)
        _connect_soon(push, hops[0])
        self._pull, self._push = pull, push
        self._pack = msgpack.Packer().pack
        return children

    def _send(self, handles: Sequence[Handle]) -> None:
        self._push.send(self._pack(handles))

    def _receive(self) -> Sequence[Handle]:
        since = 0.0
        while True:
            try:
                message = self._pull.recv()
                break
            except zmq.Again:
                since = since or time.monotonic()
                self._silence(since)
        return _drain(self._pull, msgpack.unpackb(message))

    def _disconnect(self) -> None:
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = None


def _connect_soon(socket: zmq.Socket[bytes], address: str) -> None:
    socket.setsockopt(zmq.RECONNECT_IVL, 5)  # ms; the other end is still starting
    socket.connect(address)


def _drain(pull: zmq.Socket[bytes], handles: list[Handle]) -> list[Handle]:
    """`handles` and all that the socket has already; asking costs less than an exception for EAGAIN."""
    while int(pull.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
        handles += msgpack.unpackb(pull.recv(zmq.NOBLOCK))
    return handles


def relay(slots: Slots, hop: str, after: str) -> None:
    """Take handles from `hop`, look up their views as a stage would, touch nothing, send them on to `after`."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    pull = context.socket(zmq.PULL)
    pull.bind(hop)
    push = context.socket(zmq.PUSH)
    _connect_soon(push, after)
    pack, unpack, views = msgpack.Packer().pack, msgpack.unpackb, slots.views
    while True:
        handles = _drain(pull, unpack(pull.recv()))
        for slot, _ in handles:
            views[slot]
        push.send(pack(handles))


def main() -> None:
    """Entry point of a relay process: PARENT FD NBYTES SLOTS ADDRESS NEXT_ADDRESS."""
    parent, fd, nbytes, count = map(int, sys.argv[1:5])
    become_relay(parent)
    slots = Slots(fd, nbytes, count)
    os.close(fd)
    relay(slots, sys.argv[5], sys.argv[6])


if __name__ == "__main__":
    main()
