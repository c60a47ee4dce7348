"""Checked: whether a gateway can serve with its settings, before a process is started for it.

What a YAML file says was checked by its schema; here it comes from the arguments of `manager.serve` too, and files are
read: a server that was asked for TLS or a token serves with it, or not at all.
"""

from __future__ import annotations

import re
import ssl

from pipeline.errors import ConfigError
from pipeline.kserve.token import why_no_token
from pipeline.serving.settings import Settings
from pipeline.tls import no_authorities, why_no_pair, why_unreadable

__all__ = ["check_settings"]

_PORTS = ("http_port", "grpc_port", "metrics_port")
_GATEWAYS = 64
_NAMES = ("hosts", "shared_memory")
_PREFIX = re.compile(r"/[A-Za-z0-9_.-]+")
_FILES = ("certificate", "key", "client_ca")


def check_settings(settings: Settings) -> None:
    """That the settings are possible, and that the files of TLS are what they should be.

    Raises:
        ConfigError: one is not; the message says which, and what was expected.
    """
    for name in _PORTS:
        _check_int(name.removeprefix("http_"), getattr(settings, name), 0, 65_535, "0: any that is free")
    ports = [port for name in _PORTS if (port := getattr(settings, name))]
    if len(set(ports)) < len(ports):
        raise ConfigError(f"HTTP, gRPC and metrics need a port each, found {', '.join(map(str, ports))}")
    _check_int("gateways", settings.gateways, 1, _GATEWAYS)
    _check_int("max_body", settings.max_body, 1, (1 << 31) - 1, "bytes")
    if not isinstance(settings.host, str) or not settings.host:
        raise ConfigError(f"host: expected an address of this machine, such as 127.0.0.1, found {settings.host!r}")
    for name in _NAMES:
        _check_names(name, getattr(settings, name))
    if settings.token != "" and (why := why_no_token(settings.token)):
        raise ConfigError(f"token: {why}")
    if settings.edit and not settings.token:
        raise ConfigError("edit lets clients write configs: expected a token beside it (--token-file FILE)")
    _check_tls(settings)


def _check_int(name: str, value: object, least: int, most: int, note: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        more = f" ({note})" if note else ""
        raise ConfigError(f"{name}: expected a whole number from {least} to {most}{more}, found {value!r}")


def _check_names(name: str, values: tuple[object, ...]) -> None:
    for value in values:
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{name}: expected a list of names, found {value!r} in it")
        if name == "shared_memory" and not _PREFIX.fullmatch(value):
            raise ConfigError(
                f"{name}: expected / and at least one character of a-z, A-Z, 0-9, _, . and -, such as /camera_, found "
                f"{value!r}"
            )


def _check_tls(settings: Settings) -> None:
    if bool(settings.certificate) != bool(settings.key):
        given, missing = ("certificate", "key") if settings.certificate else ("key", "certificate")
        raise ConfigError(f"{given} is given and {missing} is not: TLS needs both, and without it nothing is served")
    if not settings.certificate:
        if settings.client_ca:
            raise ConfigError("client_ca needs TLS: expected a certificate and its key beside it")
        return
    for name in _FILES:
        if (path := getattr(settings, name)) and (why := why_unreadable(path)):
            raise ConfigError(f"{name}: {path}: {why}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if why := why_no_pair(context, settings.certificate, settings.key):
        raise ConfigError(f"{settings.certificate}, {settings.key}: {why}")
    if settings.client_ca:
        try:
            context.load_verify_locations(settings.client_ca)
        except (OSError, ValueError) as error:
            raise ConfigError(f"client_ca: {settings.client_ca}: {no_authorities(error)}") from None
