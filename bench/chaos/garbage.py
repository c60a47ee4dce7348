"""Garbage: what a program that does not know our protocol writes into a run's sockets."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

import zmq

from pipeline.wire.codec import encode
from pipeline.wire.messages import AskStatus, Stop

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
    return pieces


def _frames(rng: random.Random) -> list[bytes]:
    """One multipart message: noise, and the beginnings of messages of ours."""
    whole = encode(rng.choice((Stop(), AskStatus(1))))
    torn = whole[: rng.randrange(len(whole))]
    kinds = (b"", b"\xc1", b"\xdf\xff\xff\xff\xff", rng.randbytes(rng.randrange(1, 200)), torn)
    return rng.choices(kinds, k=rng.randrange(1, 4))
