"""Handler: the floor of gRPC in Python: an empty handler of grpc.aio, in a process of its own. Ours is one, and more.

    /floor/Ends    the last eight bytes of what came

    python -m bench.versus.handler      serves, and prints where
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from bench.versus.leash import leashed

__all__ = ["METHOD", "Handler"]

METHOD = "/floor/Ends"
_END_S = 10.0


class Handler:
    """The process."""

    http = metrics = ""

    def __init__(self) -> None:
        command = leashed([sys.executable, "-m", "bench.versus.handler"])
        self.process = subprocess.Popen(
            command, cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.grpc = self.process.stdout.readline().strip()

    def pids(self) -> dict[str, list[int]]:
        """Its processes."""
        return {"server": [self.process.pid]}

    def close(self) -> None:
        """End it. A second call does nothing."""
        self.process.kill()
        self.process.wait(_END_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


async def _serve() -> None:
    async def ends(frame: bytes, context: Any) -> bytes:
        return frame[-8:]

    # As those of ours.
    options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
    server = grpc.aio.server(options=options)
    handlers = {"Ends": grpc.unary_unary_rpc_method_handler(ends)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("floor", handlers),))
    print(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve())
