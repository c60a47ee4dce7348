"""Address: what the URL of a server says. Pure.

    grpc://host:8001     grpcs://host:8001     gRPC, without and with TLS
    http://host:8000     https://host:8000     HTTP, without and with TLS; a path in front of /v2 is kept
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipeline.errors import InvalidRequest
from stages.hints import did_you_mean

__all__ = ["Address", "address_of"]

_PORTS = {"grpc": 8001, "grpcs": 8001, "http": 8000, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is."""

    scheme: str
    host: str
    port: int
    path: str = ""
    """In front of /v2, for HTTP."""

    @property
    def is_grpc(self) -> bool:
        """Whether it speaks gRPC; otherwise it speaks HTTP."""
        return self.scheme.startswith("grpc")

    @property
    def has_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("grpcs", "https")

    @property
    def target(self) -> str:
        """Host and port, as URLs have them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_here(self) -> bool:
        """Whether it can only be this host. A server in a container of this host may have the same address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"{self.scheme}://{self.target}{self.path}"


def address_of(url: str) -> Address:
    """The address that a URL names; without a port it is the usual one.

    Raises:
        InvalidRequest: it is no such URL.
    """
    form = "expected grpc://HOST:PORT, grpcs://HOST:PORT, http://HOST:PORT or https://HOST:PORT"
    if not isinstance(url, str):
        raise InvalidRequest(f"{form}, found {type(url).__name__}")
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in _PORTS:
        hint = did_you_mean(scheme, _PORTS) if separator else ""
        raise InvalidRequest(f"{form}, found {url!r}{hint}")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise InvalidRequest(f"{form}, found {url!r}, which has white space in it")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidRequest(f"{form}, found {url!r}: {error}") from None
    if not parts.hostname:
        raise InvalidRequest(f"{form}, found {url!r}, which names no host")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidRequest(f"{form}, found more than that in the URL; a token is given by token=")
    if port == 0:
        raise InvalidRequest(f"{form}, found {url!r}: 0 is no port that a server listens on")
    scheme, path = scheme.lower(), parts.path.rstrip("/")
    if path and scheme.startswith("grpc"):
        raise InvalidRequest(f"{form}, found {url!r}: gRPC has no path")
    return Address(scheme, parts.hostname, port or _PORTS[scheme], path.removesuffix("/v2"))
