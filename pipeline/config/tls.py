"""Tls: the part of a pipeline's YAML that says how the gateway's two fronts are encrypted."""

from __future__ import annotations

from pydantic import Field

from pipeline.config.node import Node, PlainText

__all__ = ["TlsConfig"]


class TlsConfig(Node):
    """TLS of the gateway's two fronts. Paths are relative to this file."""

    certificate: PlainText = Field(
        description="The PEM file of the server's certificate, with those that lead to its root."
    )
    key: PlainText = Field(description="The PEM file of its private key.")
    client_ca: PlainText | None = Field(
        default=None,
        description="Mutual TLS: the PEM file of the root whose certificates clients must have. Default: they need "
        "none.",
    )
