"""Garbage: what a program that does not know our protocol writes into a run's sockets."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from pathlib import Path

import zmq

from pipeline.wire.codec import encode
from pipeline.wire.handover import CAPACITY
from pipeline.wire.messages import AskStatus, Stop
from shm import sealed
from shm.ring import HEADER_BYTES, framed

__all__ = ["throw"]


def throw(run_dir: Path, rng: random.Random) -> int:
    """Write garbage into every socket of a run; the number of pieces."""
    pieces = 0
    for path in sorted(run_dir.rglob("*.sock")):
        raw: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        raw.setsockopt(zmq.LINGER, 200)
        raw.connect(f"ipc://{path}")
        for _ in range(5):
            raw.send_multipart(_frames(rng))
            pieces += 1
        raw.close()
        with socket.socket(socket.AF_UNIX) as plain, contextlib.suppress(OSError):
            plain.settimeout(0.2)
            plain.connect(str(path))
            plain.sendall(rng.choice((b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, rng.randbytes(4096))))
            pieces += 1
    for path in sorted(run_dir.rglob("*.ring")):
        for _ in range(5):
            with contextlib.suppress(OSError):
                _hand_over(path, rng)
                pieces += 1
    return pieces


def _hand_over(path: Path, rng: random.Random) -> None:
    """Hand over a ring of noise, or something that is no ring."""
    size = HEADER_BYTES + CAPACITY
    fd = sealed.create("noise", size)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection, sealed.map_sealed(fd, size) as memory:
            connection.settimeout(0.2)
            connection.connect(str(path))
            said = b"trtlab ring 1" if rng.random() < 0.8 else rng.randbytes(rng.randrange(64))
            noise = b"".join(framed(frame) for frame in _frames(rng)) + rng.randbytes(rng.randrange(200))
            memory[HEADER_BYTES : HEADER_BYTES + len(noise)] = noise
            memory[:8] = rng.choice((len(noise).to_bytes(8, "little"), rng.randbytes(8)))
            socket.send_fds(connection, [said], [fd])
            for _ in range(rng.randrange(4)):
                connection.send(rng.choice((b"?", b"!", rng.randbytes(rng.randrange(1, 90)))))
    finally:
        os.close(fd)


def _frames(rng: random.Random) -> list[bytes]:
    """One multipart message: noise, and the beginnings of messages of ours."""
    whole = encode(rng.choice((Stop(), AskStatus(1))))
    torn = whole[: rng.randrange(len(whole))]
    kinds = (b"", b"\xc1", b"\xdf\xff\xff\xff\xff", rng.randbytes(rng.randrange(1, 200)), torn)
    return rng.choices(kinds, k=rng.randrange(1, 4))
