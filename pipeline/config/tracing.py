"""Tracing: the part of a pipeline's YAML that says where traces are exported, and which."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from pipeline.config.node import Node, PlainText

__all__ = ["TracingConfig"]


def _endpoint(url: str) -> str:
    """A URL without credentials, which would be shown wherever the config is."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"expected http://HOST:PORT or https://HOST:PORT, found the scheme {parts.scheme!r}")
    if "@" in parts.netloc:
        raise ValueError("expected no user or password in it; write `authorization: Basic ...` into a headers_file")
    return url


class TracingConfig(Node):
    """Traces as OpenTelemetry has them, exported to a collector while the pipeline serves (docs/tracing.md).

    What is not said here is taken from the variables OTEL_EXPORTER_OTLP_..., OTEL_SERVICE_NAME and
    OTEL_RESOURCE_ATTRIBUTES of the environment. Needs `pip install "trtlab[tracing]"`.
    """

    endpoint: Annotated[PlainText, AfterValidator(_endpoint), Field(examples=["http://collector:4318"])] | None = Field(
        default=None,
        description="URL of a collector, to which /v1/traces is appended for HTTP. Default: "
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT, otherwise this host's port 4318, or 4317 "
        "for gRPC.",
    )
    protocol: Literal["http/protobuf", "grpc"] | None = Field(
        default=None,
        description="How spans travel. Default: OTEL_EXPORTER_OTLP_TRACES_PROTOCOL or OTEL_EXPORTER_OTLP_PROTOCOL, "
        "otherwise http/protobuf.",
    )
    sample: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="The part of the requests that is exported, of those that come without a trace context. One that "
        "comes with one is exported if its caller's span is.",
    )
    service: PlainText | None = Field(
        default=None, min_length=1, description="`service.name`. Default: OTEL_SERVICE_NAME, or the pipeline's name."
    )
    headers_file: PlainText | None = Field(
        default=None,
        description="A file, relative to this one, with a header `name: value` in each line, such as a collector's "
        "token; it is read when the exporting process starts. Default: OTEL_EXPORTER_OTLP_HEADERS.",
    )
    queue: int = Field(
        default=8192, ge=512, le=1_000_000, description="Spans that may wait for the collector; later ones are dropped."
    )
