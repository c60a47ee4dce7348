"""Garbage on a run's sockets is refused and counted; the processes live, and requests are answered."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import Any

import pytest
import zmq

from pipeline.testing import running

#: Kinds of socket that fit one of ours, and one that does not.
KINDS = {"push": zmq.PUSH, "dealer": zmq.DEALER, "router": zmq.ROUTER}


def frames(rng: random.Random) -> list[bytes]:
    """One multipart message of garbage."""
    nonsense = [b"", b"\xc1", b"\x93\x01", b"\xdf\xff\xff\xff\xff", bytes(rng.randrange(256) for _ in range(rng.randrange(200)))]
    return rng.choices(nonsense, k=rng.randrange(1, 4))


def test_garbage_on_every_socket_harms_no_process(folder: Any) -> None:
    rng = random.Random(7)
    context = zmq.Context.instance()
    with running(folder.config({"replicas": 2}, {})) as pipeline, pipeline.client() as client:
        sockets = sorted(pipeline.run_dir.rglob("*.sock"))
        names = {path.name for path in sockets}
        assert {"supervisor.sock", "scheduler.sock", "w0.sock", "w1.sock", "w2.sock"} <= names
        assert "refused_frames" not in pipeline.status()["counts"]
        pids = pipeline.worker_pids("s0")
        for path in sockets:
            for kind in ("push", "dealer"):
                raw = context.socket(KINDS[kind])
                raw.setsockopt(zmq.LINGER, 500)
                raw.setsockopt(zmq.SNDTIMEO, 200)
                raw.connect(f"ipc://{path}")
                for _ in range(20):
                    with contextlib.suppress(zmq.Again):  # the other side refuses the kind of socket
                        raw.send_multipart(frames(rng))
                raw.close()
            # And bytes that are not ZeroMQ at all.
            for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, rng.randbytes(4096), b""):
                with socket.socket(socket.AF_UNIX) as plain, contextlib.suppress(OSError):
                    plain.settimeout(2)
                    plain.connect(str(path))
                    plain.sendall(junk)
        for number in range(20):
            with client.submit(data=bytes([number])).get(200) as result:
                assert result["data"].tobytes() == bytes([number])
        status = pipeline.status()
        assert status["counts"]["refused_frames"] > 0
        assert pipeline.worker_pids("s0") == pids
        log = pipeline.log()
        assert "refused a message" in log
        assert "Traceback" not in log
        assert pipeline.stop() == 0


@pytest.mark.parametrize("size", [65 * 2**20])
def test_an_oversized_frame_closes_its_connection_and_nothing_else(folder: Any, size: int) -> None:
    with running(folder.config({})) as pipeline, pipeline.client() as client:
        raw = zmq.Context.instance().socket(zmq.PUSH)
        raw.setsockopt(zmq.LINGER, 1000)
        raw.connect(f"ipc://{pipeline.run_dir}/scheduler.sock")
        raw.send(bytes(size))
        raw.close()
        with client.submit(data=b"x").get(200) as result:
            assert result["data"].tobytes() == b"x"
        assert pipeline.stop() == 0
