"""Doors: the ports of a `pipeline serve`, which all of its gateways share, and keep when one of them dies.

    keeper     reserved: bound, not listening: no connection comes here, and no other program gets the port
    gateway    bound, shared (SO_REUSEPORT), and listening: the kernel gives each connection to one of them

SO_REUSEPORT lets any program of the same user share a port, without a word. So the keeper takes the port for itself
alone first, which the kernel refuses if any other socket has it, and shares it only once it has it. What the keeper
holds never has SO_REUSEADDR, so that programs that set it, as servers do, are refused also while no gateway listens.
"""

from __future__ import annotations

import errno
import socket

from pipeline.errors import StartError
from pipeline.serving.settings import Settings

__all__ = ["bound", "reserved", "shown", "where"]


def reserved(host: str, port: int) -> socket.socket:
    """A socket that keeps a port for this user's sockets with SO_REUSEPORT.

    Args:
        port: 0: any that is free.

    Raises:
        StartError: another program has it, or it cannot be had.
    """
    alone = _socket(host)
    keeping = _socket(host)
    try:
        # With it, a keeper that is started again gets its port, whose last connections the kernel still remembers; a
        # socket that listens is in the way all the same.
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        alone.bind((host, port))
        # From here on the port is ours. The kernel asks what is set now, not what was set then.
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keeping.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keeping.bind(alone.getsockname())
    except OSError as error:
        keeping.close()
        raise _refusal(host, port, error) from None
    finally:
        alone.close()
    return keeping


def bound(host: str, port: int) -> socket.socket:
    """A socket of a gateway for a port that the keeper has reserved.

    Raises:
        StartError: it cannot be had.
    """
    made = _socket(host)
    try:
        # The first, so that what the kernel remembers of its connections is not in the way of the next keeper.
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            made.setsockopt(socket.SOL_SOCKET, option, 1)
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise _refusal(host, port, error) from None
    return made


def _socket(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol: only then asyncio sets TCP_NODELAY, without which each answer waits 40 ms for the ACK of its
    # headers.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)


def _refusal(host: str, port: int, error: OSError) -> StartError:
    why = error.strerror or error
    instead = "choose another port, or 0 for any"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        instead = "the host is an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them"
    elif error.errno == errno.EACCES:
        instead = "ports below 1024 may need rights: choose another port, or 0 for any"
    return StartError(f"{shown(host)}:{port} cannot be had: {why}; {instead}")


def shown(host: str) -> str:
    """As URLs have it."""
    return f"[{host}]" if ":" in host else host


def where(settings: Settings) -> str:
    """The ports, for people."""
    scheme, host = "https" if settings.certificate else "http", shown(settings.host)
    return (
        f"{scheme}://{host}:{settings.http_port}, gRPC {host}:{settings.grpc_port}, "
        f"metrics {scheme}://{host}:{settings.metrics_port}/metrics"
    )
