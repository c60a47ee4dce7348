"""`pipeline deploy`: what stands in front of several `pipeline serve`. Starts nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.printed import put
from pipeline.config.quantities import parse_bytes
from pipeline.deploying.envoy import EnvoyOptions, envoy_document, envoy_header, parse_replicas
from pipeline.deploying.manifest import to_yaml
from pipeline.errors import ConfigError

__all__ = ["register"]

_app = typer.Typer(help="What stands in front of several `pipeline serve`.", no_args_is_help=True)

_PORT = {"min": 1, "max": 65_535, "metavar": "PORT"}
_MOST_REQUESTS = 1_000_000
_MOST_S = 86_400


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(_app, name="deploy")


@_app.callback()
def _deploy() -> None:
    # With a callback, typer keeps the command a group while it has but one command.
    pass


@_app.command()
def envoy(
    replicas: Annotated[
        str,
        typer.Option(
            "--replicas", metavar="HOST[:PORT[:GRPC_PORT]],...",
            help="Where each `pipeline serve` listens: 10.0.0.1,10.0.0.2:8010. PORT is that of HTTP, 8000 by default, "
            "and that of gRPC the next one.",
            show_default=False,
        ),
    ],
    listen: Annotated[
        str, typer.Option("--listen", metavar="ADDRESS", help="The address on which callers find Envoy.")
    ] = "0.0.0.0",
    http_port: Annotated[int, typer.Option("--http-port", help="Of Envoy, for HTTP.", **_PORT)] = 8000,
    grpc_port: Annotated[int, typer.Option("--grpc-port", help="Of Envoy, for gRPC.", **_PORT)] = 8001,
    admin_port: Annotated[
        int, typer.Option("--admin-port", help="Of Envoy's own statistics, on 127.0.0.1.", **_PORT)
    ] = 9901,
    max_requests: Annotated[
        int,
        typer.Option(
            "--max-requests", min=1, max=_MOST_REQUESTS, metavar="N",
            help="Under way at one time, for each replica; beyond it: 503.",
        ),
    ] = 1024,
    max_body: Annotated[
        str, typer.Option("--max-body", metavar="SIZE", help="Of a request, as `serve: {max_body: ...}` says it.")
    ] = "64MiB",
    timeout_s: Annotated[
        float,
        typer.Option(
            "--timeout-s", min=1, max=_MOST_S, metavar="SECONDS",
            help="For an answer over HTTP; and for any call without a byte in either direction.",
        ),
    ] = 300.0,
    health_s: Annotated[
        float,
        typer.Option(
            "--health-s", min=0.1, max=3600, metavar="SECONDS", help="Between two health checks of a replica."
        ),
    ] = 1.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there instead of to stdout.")
    ] = None,
) -> None:
    """Print the configuration of an Envoy in front of several `pipeline serve`. Nothing is started."""
    try:
        found = parse_replicas(replicas)
    except ValueError as error:
        raise ConfigError(f"--replicas: {error}") from None
    if len({http_port, grpc_port, admin_port}) < 3:
        raise ConfigError(
            f"expected three ports of Envoy, found --http-port {http_port}, --grpc-port {grpc_port} and --admin-port "
            f"{admin_port}; give each another one"
        )
    options = EnvoyOptions(
        listen=listen, http_port=http_port, grpc_port=grpc_port, admin_port=admin_port, max_requests=max_requests,
        max_body=_bytes(max_body), timeout_s=timeout_s, health_s=health_s,
    )  # fmt: skip
    put(to_yaml(envoy_header(found), [envoy_document(found, options)]), output, "--output")


def _bytes(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise ConfigError(f"--max-body {text!r}: {error}") from None
