"""Serving: the part of a pipeline's YAML about `pipeline serve`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.config.node import ByteCount, Node, PlainText, Port
from pipeline.config.tls import TlsConfig

__all__ = ["ServeConfig"]


def _region_prefix(value: str) -> str:
    if not re.fullmatch(r"/[A-Za-z0-9_.-]+", value):
        raise ValueError("expected / and at least one character of a-z, A-Z, 0-9, _, . and -, such as /camera_")
    return value


RegionPrefix = Annotated[str, AfterValidator(_region_prefix), Field(examples=["/camera_"])]


class ServeConfig(Node):
    """What `pipeline serve` says of this pipeline, and how it serves (docs/serving.md).

    `batched` and `max_batch_size` are the pipeline's own. The others are the gateway's: if it serves several configs,
    two of them must not say different things.
    """

    batched: bool = Field(
        default=False,
        description="Whether clients of the gateway see a batch axis in front. See `ingress.rows`.",
    )
    max_batch_size: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="With `batched`: rows of the largest request. Default: the largest `batch.max_size` of a stage.",
    )
    host: PlainText | None = Field(default=None, description="The address to listen on. Default: 127.0.0.1.")
    http_port: Port | None = Field(default=None, description="Of HTTP; 0: any that is free. Default: 8000.")
    grpc_port: Port | None = Field(default=None, description="Of gRPC; 0: any that is free. Default: 8001.")
    metrics_port: Port | None = Field(default=None, description="Of /metrics; 0: any that is free. Default: 8002.")
    gateways: int | None = Field(
        default=None, ge=1, le=64, description="Processes that share the ports. Default: 1."
    )
    control: bool | None = Field(
        default=None,
        description="Whether clients may load and unload models, those of the configs that the gateway was started "
        "with, and those of its repository, of which only those that --load names are loaded at the start then. "
        "Default: they may not.",
    )
    edit: bool | None = Field(
        default=None,
        description="Whether clients may write the zones of cameras into this file, on the page of the cameras. It "
        "needs a token. Default: they may not.",
    )
    shared_memory: Annotated[tuple[RegionPrefix, ...], Field(strict=False)] | None = Field(
        default=None,
        description="What the keys of system shared memory that clients register begin with, such as [/camera_]. "
        "Default: they may register none.",
    )
    token_file: PlainText | None = Field(
        default=None,
        description="A file, relative to this one, whose text is the bearer token that requests need, except those "
        "that docs/serving.md names. Default: they need none.",
    )
    tls: TlsConfig | None = Field(default=None, description="TLS. Default: none.")
    hosts: Annotated[tuple[PlainText, ...], Field(strict=False)] | None = Field(
        default=None,
        description="Names, beside localhost and addresses of IP, by which clients may call the server (the header "
        "Host). Default: none.",
    )
    max_body: ByteCount | None = Field(
        default=None, description="Bytes of the largest request, and of the largest message of gRPC. Default: 64 MiB."
    )
