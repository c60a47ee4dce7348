from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from pipeline.serving.grpc_server import LastingServer
from pipeline.serving.journal import Journal


async def echo(frame: bytes, context: Any) -> bytes:
    return frame


def run(servers: list[Any], main: Any) -> None:
    def make() -> Any:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handlers = {"Call": grpc.unary_unary_rpc_method_handler(echo)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo", handlers),))
        servers.append(server)
        return server

    async def begun() -> None:
        await asyncio.wait_for(main(LastingServer(make, Journal())), 30)

    asyncio.run(begun())


async def asked(port: int) -> bytes:
    """The answer of the server that lasts: what reaches the one that ends, before its port is closed, is not answered."""
    while True:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            try:
                found: bytes = await channel.unary_unary("/echo/Call")(b"x", wait_for_ready=True, timeout=20)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            else:
                return found


def test_a_server_that_ends_by_itself_is_replaced_on_its_port(capsys: pytest.CaptureFixture[str]) -> None:
    servers: list[Any] = []

    async def main(server: LastingServer) -> None:
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        for _ in range(2):
            assert await asked(port) == b"x"
            await servers[-1].stop(None)
        assert await asked(port) == b"x"
        await server.stop(None)
        await asyncio.sleep(0.3)

    run(servers, main)
    # The last one was stopped by its owner.
    assert len(servers) == 3
    assert capsys.readouterr().err.count("ended by itself") == 2


def test_it_may_be_stopped_twice() -> None:
    async def main(server: LastingServer) -> None:
        server.add_insecure_port("127.0.0.1:0")
        await server.start()
        await server.stop(None)
        await server.stop(0.1)

    run([], main)
