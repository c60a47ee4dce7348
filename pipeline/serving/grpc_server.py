"""A server of gRPC that lasts: if grpcio's own ends by itself, another one takes its place at once, on the same port.

grpcio 1.84 and 1.85 end the whole server at a call whose path is not UTF-8, which any caller can send. `pyproject.toml`
asks for older ones; where another one is installed, what is under way is lost, and the next call is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pipeline.serving.journal import Journal

__all__ = ["LastingServer"]

#: Seconds between two servers: one that ends at its start does not take all of a processor.
_PAUSE_S = 0.1


class LastingServer:
    """As `grpc.aio.Server`, as far as the gateway needs it.

    Args:
        make: a server with its handlers, and without a port.
    """

    def __init__(self, make: Callable[[], Any], journal: Journal) -> None:
        self._make = make
        self._journal = journal
        self._server = make()
        self._port: Callable[[Any], int] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._stopping = False

    def add_insecure_port(self, address: str) -> int:
        """See `grpc.aio.Server`. There is one port."""
        return self._added(address, lambda server, place: int(server.add_insecure_port(place)))

    def add_secure_port(self, address: str, credentials: Any) -> int:
        """See `grpc.aio.Server`. There is one port."""
        return self._added(address, lambda server, place: int(server.add_secure_port(place, credentials)))

    def _added(self, address: str, add: Callable[[Any, str], int]) -> int:
        port = add(self._server, address)
        chosen = f"{address.rpartition(':')[0]}:{port}"
        self._port = lambda server: add(server, chosen)
        return port

    async def start(self) -> None:
        """Serve."""
        await self._server.start()
        self._keeping = asyncio.ensure_future(self._keep())

    async def _keep(self) -> None:
        while True:
            # Whatever it ends with has been told already.
            with suppress(Exception):
                await self._server.wait_for_termination()
            if self._stopping:
                return
            self._journal.fault("gRPC", RuntimeError("grpcio's server has ended by itself; another takes its place"))
            await asyncio.sleep(_PAUSE_S)
            assert self._port is not None
            try:
                server = self._make()
                self._port(server)
                self._server = server
                await server.start()
            except Exception as error:
                self._journal.fault("gRPC", error)

    async def stop(self, grace_s: float | None) -> None:
        """See `grpc.aio.Server`. May be called again."""
        # Not by cancelling the task: what waits for grpcio's server would cancel what all others wait for.
        self._stopping = True
        await self._server.stop(grace_s)
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            # In the middle of another one.
            await self._server.stop(None)
