"""Exporter: the part of a pipeline's YAML that says where the run answers GET /metrics."""

from __future__ import annotations

from pydantic import Field

from pipeline.config.node import Node, PlainText, Port

__all__ = ["MetricsConfig"]


class MetricsConfig(Node):
    """A port on which the run itself answers GET /metrics while it serves, for Prometheus (docs/metrics.md).

    It has neither TLS nor a token; the gateway's has both (`serve`).
    """

    port: Port = Field(description="Its number; 0: any that is free, which the log then has.")
    host: PlainText = Field(default="127.0.0.1", description="The address to listen on; in a pod `0.0.0.0`.")
