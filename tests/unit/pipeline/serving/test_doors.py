"""The ports of a `pipeline serve`: gateways share them, and no other program does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from pipeline.errors import StartError
from pipeline.serving.doors import bound, reserved, where
from pipeline.serving.settings import Settings


@pytest.fixture
def kept() -> Iterator[socket.socket]:
    with reserved("127.0.0.1", 0) as door:
        yield door


def port_of(door: socket.socket) -> int:
    port: int = door.getsockname()[1]
    return port


def test_answers_do_not_wait_for_the_ack_of_their_first_bytes() -> None:
    async def delays() -> bool:
        found: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.set_result(not writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        server = await asyncio.start_server(accepted, sock=bound("127.0.0.1", 0))
        with socket.create_connection(server.sockets[0].getsockname()):
            delayed = await found
        server.close()
        await server.wait_closed()
        return delayed

    assert not asyncio.run(delays())


def test_gateways_share_a_port_that_is_reserved_and_one_that_comes_later_gets_it_again(kept: socket.socket) -> None:
    port = port_of(kept)
    with bound("127.0.0.1", port) as one, bound("127.0.0.1", port) as other:
        one.listen()
        other.listen()
        with socket.create_connection(("127.0.0.1", port)):
            pass
    with bound("127.0.0.1", port) as later:
        later.listen()
        with socket.create_connection(("127.0.0.1", port)):
            pass


def test_while_no_gateway_listens_connections_are_refused_at_once(kept: socket.socket) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port_of(kept)))


@pytest.mark.parametrize("listens", [True, False])
@pytest.mark.parametrize("option", [None, socket.SO_REUSEADDR])
def test_another_program_does_not_get_a_reserved_port(kept: socket.socket, option: int | None, listens: bool) -> None:
    with bound("127.0.0.1", port_of(kept)) as gateway, socket.socket() as other:
        if listens:
            gateway.listen()
        else:
            gateway.close()
        if option is not None:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port_of(kept)))


@pytest.mark.parametrize("listens", [True, False])
@pytest.mark.parametrize("option", [socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_a_port_that_another_program_has_is_named_even_if_that_would_share_it(option: int, listens: bool) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, option, 1)
        taken.bind(("127.0.0.1", 0))
        if listens or option == socket.SO_REUSEADDR:
            taken.listen()
        port = port_of(taken)
        with pytest.raises(StartError, match=f"127.0.0.1:{port} cannot be had"):
            reserved("127.0.0.1", port)


def test_two_keepers_do_not_share_a_port(kept: socket.socket) -> None:
    with pytest.raises(StartError, match="cannot be had"):
        reserved("127.0.0.1", port_of(kept))
    # Nor while gateways of the first one listen.
    with bound("127.0.0.1", port_of(kept)) as gateway:
        gateway.listen()
        with pytest.raises(StartError, match="cannot be had"):
            reserved("127.0.0.1", port_of(kept))


def test_the_next_keeper_gets_a_port_whose_connections_the_kernel_remembers() -> None:
    with reserved("127.0.0.1", 0) as kept, bound("127.0.0.1", port_of(kept)) as gateway:
        port = port_of(kept)
        gateway.listen()
        with socket.create_connection(("127.0.0.1", port)):
            # The end that closes first is the one that is remembered.
            gateway.accept()[0].close()
    reserved("127.0.0.1", port).close()


def test_a_host_that_is_no_address_of_this_machine_is_named() -> None:
    with pytest.raises(StartError, match=r"192\.0\.2\.1:0 cannot be had"):
        reserved("192.0.2.1", 0)


def test_the_line_for_people_is_made_of_urls() -> None:
    assert where(Settings("::1", 1, 2, 3)) == "http://[::1]:1, gRPC [::1]:2, metrics http://[::1]:3/metrics"
    assert where(Settings(certificate="x")).startswith("https://127.0.0.1:8000, gRPC 127.0.0.1:8001, metrics https://")


@pytest.mark.parametrize("host", ["host.invalid", "203.0.113.1"])
def test_a_host_that_is_not_this_machine_is_not_called_a_port_that_is_taken(host: str) -> None:
    with pytest.raises(StartError, match="the host is an address of this machine"):
        reserved(host, 0)
