"""Settings: what the configs and the command line say of the gateway, as one value. Pure."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from pipeline.errors import ConfigError, KserveError
from pipeline.kserve.values import DEFAULT

__all__ = ["Settings", "check_browser", "check_page", "check_token", "merged"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How the gateway serves."""

    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    gateways: int = 1
    """Processes that share the ports."""
    repository: bool = False
    """Whether models are the files of a folder, in which others may appear."""
    control: bool = False
    """Whether clients may load and unload models."""
    edit: bool = False
    """Whether clients may write zones into the configs."""
    shared_memory: tuple[str, ...] = ()
    """What the keys of regions begin with; empty: clients may register none."""
    token: str = field(default="", repr=False)
    """That requests need; empty: they need none."""
    certificate: str = ""
    """Path of a PEM file; empty: no TLS."""
    key: str = ""
    client_ca: str = ""
    """Path of a PEM file; empty: clients need no certificate."""
    hosts: tuple[str, ...] = ()
    """Names by which clients may call the server, beside localhost and addresses."""
    max_body: int = DEFAULT.body
    """Bytes of a request."""
    connections: int = 1024
    """Of HTTP, and requests of gRPC, at one time; more are refused."""
    idle_s: float = 60.0
    """How long the next bytes of a body may take."""

    def opens(self, key: str) -> bool:
        """Whether an endpoint that this key opens may be called; "": it is always open."""
        return not key or bool(getattr(self, key))


def merged(said: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """What several configs say, as one.

    Args:
        said: the name of each config, and its settings by field; None: it does not say.

    Raises:
        ConfigError: two say different things.
    """
    known = {each.name for each in fields(Settings)}
    found: dict[str, Any] = {}
    by: dict[str, str] = {}
    for config, values in said:
        for name, value in values.items():
            if name not in known or value is None:
                continue
            if name in found and found[name] != value:
                raise ConfigError(
                    f"{config}: serve.{name} is {value!r}, but {by[name]} says {found[name]!r}; one gateway serves "
                    f"both: let one of them say it, or serve them by two gateways"
                )
            found[name], by[name] = value, config
    return found


def check_token(expected: str, authorization: str) -> None:
    """That a request has the token.

    Args:
        expected: empty: none is needed.
        authorization: the header.

    Raises:
        KserveError: it has not (UNAUTHENTICATED).
    """
    if not expected:
        return
    scheme, _, given = authorization.partition(" ")
    # Both in the same time, however much of it is right.
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), expected.encode()):
        raise KserveError(
            "expected the header Authorization: Bearer TOKEN, with the token of this server", "UNAUTHENTICATED"
        )


def check_browser(host: str, origin: str, hosts: Iterable[str]) -> None:
    """That a request is no web page's from elsewhere, which the user of this machine has open.

    A page can have a browser send requests to any address, and names that page in `Origin`. And the owner of
    a page's name can let that lead to this machine afterwards; then it is in `Host`.

    Args:
        host: the header Host.
        origin: the header Origin; empty: there is none, as of all clients but browsers.
        hosts: names that are meant, beside localhost and addresses.

    Raises:
        KserveError: it may be one (PERMISSION_DENIED).
    """
    name = _name_of(host)
    if not (name == "localhost" or name in {each.lower() for each in hosts} or _is_address(name)):
        raise KserveError(
            f"expected localhost, an address, or a name that serve.hosts has in the header Host, found {host[:100]!r}",
            "PERMISSION_DENIED",
        )
    if origin and origin.partition("://")[2].lower() != host.lower():
        raise KserveError(
            f"requests of web pages from elsewhere are refused: Origin is {origin[:100]!r}", "PERMISSION_DENIED"
        )


def check_page(origin: str, hosts: Iterable[str]) -> None:
    """That a call over gRPC is no web page's from elsewhere.

    grpcio does not tell by which name it was called (`:authority`), so a page is let in by its own name alone: browsers
    send it with every call, and no other client does, unless a proxy for pages passes it on.

    Args:
        origin: the metadata `origin`; empty: there is none.
        hosts: as of `check_browser`.

    Raises:
        KserveError: it may be one (PERMISSION_DENIED).
    """
    name = _name_of(origin.partition("://")[2])
    if origin and name != "localhost" and name not in {each.lower() for each in hosts}:
        raise KserveError(
            f"calls of web pages are refused, but of localhost and of serve.hosts: origin is {origin[:100]!r}",
            "PERMISSION_DENIED",
        )


def _name_of(host: str) -> str:
    """Without its port."""
    text = host.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
