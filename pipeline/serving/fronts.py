"""Fronts: the servers of a gateway's three ports, which other gateways may share with it."""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import grpc
import uvicorn

from pipeline.errors import StartError
from pipeline.serving.doors import bound, shown
from pipeline.serving.grpc_front import GrpcFront
from pipeline.serving.http_front import HttpFront
from pipeline.serving.settings import Settings

__all__ = ["Fronts"]

#: Bytes of all headers of a request, and of its first line.
_HEADERS = 64 << 10
#: Seconds for which a connection may be without a request.
_KEEP_ALIVE_S = 75


class _Server(uvicorn.Server):
    """Without signal handlers: they are the keeper's."""

    def capture_signals(self) -> Any:
        return nullcontext()


class Fronts:
    """The servers of the three ports."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._grpc: Any = None
        self._http: list[tuple[_Server, asyncio.Task[None]]] = []
        self._sockets: list[socket.socket] = []

    async def open(self, http: HttpFront, rpc: GrpcFront) -> None:
        """Bind all ports, and serve.

        Raises:
            StartError: one cannot be had.
        """
        settings = self._settings
        # All ports first: a server that begins and ends again would have taken requests.
        for wanted in (settings.http_port, settings.metrics_port):
            self._sockets.append(bound(settings.host, wanted))
        web, metrics = self._sockets
        self._grpc = rpc.server()
        self._add_port()
        await self._grpc.start()
        for app, door in ((http.app, web), (http.metrics_app, metrics)):
            config = uvicorn.Config(
                app, http=http.protocol, ws="none", lifespan="off", log_level="critical", access_log=False,
                server_header=False, h11_max_incomplete_event_size=_HEADERS, timeout_keep_alive=_KEEP_ALIVE_S,
                **self._tls(),
            )  # fmt: skip
            server = _Server(config)
            self._http.append((server, asyncio.ensure_future(server.serve(sockets=[door]))))
        while not all(server.started for server, _ in self._http):
            await asyncio.sleep(0.005)

    def _add_port(self) -> None:
        settings = self._settings
        address = f"{shown(settings.host)}:{settings.grpc_port}"
        try:
            if settings.certificate:
                self._grpc.add_secure_port(address, _grpc_tls(settings))
            else:
                self._grpc.add_insecure_port(address)
        except RuntimeError as error:
            raise StartError(f"{address} cannot be had: {error}; choose another port, or 0 for any") from None

    def _tls(self) -> dict[str, Any]:
        settings = self._settings
        if not settings.certificate:
            return {}
        tls: dict[str, Any] = {"ssl_certfile": settings.certificate, "ssl_keyfile": settings.key}
        if settings.client_ca:
            tls |= {"ssl_ca_certs": settings.client_ca, "ssl_cert_reqs": ssl.CERT_REQUIRED}
        return tls

    async def close(self, grace_s: float) -> None:
        """Take nothing new, and wait for what is under way. May be called again.

        Args:
            grace_s: seconds after which it is broken off.
        """
        for server, _ in self._http:
            server.config.timeout_graceful_shutdown = max(1, math.ceil(grace_s))
            server.should_exit = True
            server.force_exit = not grace_s
        closing = [task for _, task in self._http]
        if self._grpc is not None:
            closing.append(asyncio.ensure_future(self._grpc.stop(grace_s or None)))
        await asyncio.gather(*closing, return_exceptions=True)
        for door in self._sockets:
            door.close()


def _grpc_tls(settings: Settings) -> Any:
    root = Path(settings.client_ca).read_bytes() if settings.client_ca else None
    pair = (Path(settings.key).read_bytes(), Path(settings.certificate).read_bytes())
    return grpc.ssl_server_credentials([pair], root_certificates=root, require_client_auth=root is not None)
