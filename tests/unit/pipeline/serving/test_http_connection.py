"""Connections of HTTP in this process, over real sockets: what uvicorn would answer by itself, and time."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn
from starlette.responses import Response

from pipeline.serving.http_connection import HttpConnection, two_lengths

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
WATCHDOG_S = 200


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """By the path: large, never, or at once."""
    if scope["path"] == "/never":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    await Response(bytes(30 << 20) if scope["path"] == "/large" else b"fine")(scope, receive, send)


class Server:
    def __init__(self, port: int, uvicorn_server: Any, told: list[str]) -> None:
        self.port = port
        self.told = told
        self._state = uvicorn_server.server_state

    @property
    def connections(self) -> int:
        return len(self._state.connections)

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def asked(self, raw: bytes) -> bytes:
        """All that comes until the server closes."""
        reader, writer = await self.open()
        writer.write(raw)
        try:
            return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def served(most: int = 100, idle_s: float = 60.0, keep_alive_s: float = 75) -> AsyncIterator[Server]:
    told: list[str] = []
    door = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        answer, http=partial(HttpConnection, most, idle_s, told.append), ws="none", lifespan="off", log_level="critical",
        h11_max_incomplete_event_size=1 << 16, timeout_keep_alive=keep_alive_s, timeout_graceful_shutdown=1,  # type: ignore[arg-type]
    )  # fmt: skip
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[door])
    try:
        yield Server(door.getsockname()[1], server, told)
    finally:
        server.force_exit = True
        await server.shutdown(sockets=[door])


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def checked() -> None:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        await asyncio.wait_for(main(), WATCHDOG_S)
        assert complaints == []

    asyncio.run(checked())


def document_of(raw: bytes) -> tuple[int, Any]:
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower()
    return int(head.split()[1]), json.loads(body)


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("raw", "status", "said"),
    [
        (b"\x00\r\n\r\n", 400, "illegal request line"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "Host"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400, "Content-Length"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000, 400, "long"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "ransfer-"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "both"),
        (b"POST /never HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400, "chunk"),
    ],
)  # fmt: skip
def test_what_is_no_http_is_answered_as_every_error_is(raw: bytes, status: int, said: str) -> None:
    async def main() -> None:
        async with served() as server:
            found, document = document_of(await server.asked(raw))
            assert (found, list(document)) == (status, ["error"])
            assert said in document["error"]
            assert server.told == ["UNIMPLEMENTED" if status == 501 else "INVALID_ARGUMENT"]

    run(main)


def test_an_error_in_answer_to_head_has_no_body() -> None:
    async def main() -> None:
        async with served() as server:
            raw = await server.asked(b"HEAD /never HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")
            assert raw.startswith(b"HTTP/1.1 400")
            assert raw.endswith(b"\r\n\r\n")

    run(main)


def test_what_follows_an_answer_and_is_no_request_is_refused_after_it() -> None:
    async def main() -> None:
        async with served() as server:
            raw = await server.asked(GET + b"\x00\r\n\r\n")
            assert (raw.count(b"HTTP/1.1 200"), raw.count(b"HTTP/1.1 400")) == (1, 1)

    run(main)


def test_requests_that_are_sent_at_once_are_answered_in_their_order() -> None:
    async def main() -> None:
        async with served() as server:
            last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            assert (await server.asked(GET * 20 + last)).count(b"HTTP/1.1 200") == 21

    run(main)


def test_headers_that_trickle_are_given_up_and_told() -> None:
    async def main() -> None:
        async with served(idle_s=0.2) as server:
            reader, writer = await server.open()
            reading = asyncio.ensure_future(reader.read())
            while not reading.done():
                writer.write(b"G")
                await asyncio.sleep(0.02)
            writer.close()
            assert document_of(await reading)[0] == 504

    run(main)


def test_a_connection_without_a_request_ends() -> None:
    async def main() -> None:
        async with served(keep_alive_s=0.1) as server:
            assert await server.asked(b"") == b""

    run(main)


def test_a_caller_that_reads_nothing_loses_its_connection() -> None:
    async def main() -> None:
        async with served(idle_s=0.3) as server:
            _, writer = await server.open()
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: server.connections == 1)
            await until(lambda: server.connections == 0)
            writer.transport.abort()

    run(main)


def test_the_rest_of_a_body_that_is_not_wanted_has_a_time() -> None:
    async def main() -> None:
        async with served(idle_s=0.2) as server:
            reader, writer = await server.open()
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            while server.connections:
                writer.write(b"x")
                await asyncio.sleep(0.02)
            writer.close()

    run(main)


def test_beyond_the_connections_the_one_that_is_idle_for_long_makes_room() -> None:
    async def main() -> None:
        async with served(most=2) as server:
            idle, busy = await server.open(), await server.open()
            busy[1].write(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(1.2)
            third = await server.open()
            third[1].write(GET)
            assert (await third[0].readline()).startswith(b"HTTP/1.1 200")
            assert await idle[0].read() == b""
            for _, writer in (idle, busy, third):
                writer.close()

    run(main)


def test_beyond_the_connections_a_new_one_is_refused_and_the_others_go_on() -> None:
    async def main() -> None:
        async with served(most=2) as server:
            busy = [await server.open() for _ in range(2)]
            for _, writer in busy:
                writer.write(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: server.connections == 2)
            reader, writer = await server.open()
            writer.write(GET)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503")
            assert b"as many connections" in await reader.readuntil(b"}")
            assert server.told == ["UNAVAILABLE"]
            # Once there is room, it is a connection like any other.
            busy[0][1].close()
            await until(lambda: server.connections == 2)
            writer.write(GET)
            assert (await reader.readline()).startswith(b"HTTP/1.1 503")
            await reader.readuntil(b"}")
            writer.write(GET)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            for _, each in (*busy, (reader, writer)):
                each.close()

    run(main)


def test_a_flood_is_refused_before_it_says_anything() -> None:
    async def main() -> None:
        async with served(most=2) as server:
            flood = [await server.open() for _ in range(20)]
            await until(lambda: server.connections <= 5)
            for _, writer in flood:
                writer.close()

    run(main)


def test_two_headers_of_the_length_are_one_too_many() -> None:
    assert two_lengths([b"host", b"transfer-encoding", b"content-length"])
    assert not two_lengths([b"content-length", b"host"])
    assert not two_lengths([b"transfer-encoding"])
