"""Mqtt: the part of a pipeline's YAML that says to which broker its cameras are published."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.config.node import Node, PlainText

__all__ = ["MqttConfig", "MqttTlsConfig"]


def _prefix(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*", value) or len(value) > 100:
        raise ValueError("expected words of a-z, A-Z, 0-9, _ and - with / between them, up to 100 characters")
    return value


Prefix = Annotated[str, AfterValidator(_prefix)]


class MqttTlsConfig(Node):
    """TLS of the connections to the broker. Paths are relative to this file."""

    ca: PlainText | None = Field(
        default=None,
        description="The PEM file of the root that has signed the broker's certificate. Default: the system's roots.",
    )
    certificate: PlainText | None = Field(
        default=None, description="The PEM file of a certificate by which the broker knows this client. Default: none."
    )
    key: PlainText | None = Field(default=None, description="The PEM file of its private key, which has no password.")


class MqttConfig(Node):
    """The MQTT broker to which each camera is published, as a device of Home Assistant (docs/home-assistant.md)."""

    host: PlainText = Field(min_length=1, description="The broker's name or address.")
    port: Annotated[int, Field(ge=1, le=65_535)] | None = Field(
        default=None, description="The broker's port. Default: 1883, with TLS 8883."
    )
    user: PlainText | None = Field(default=None, description="Who logs in. Default: no login.")
    password: str | None = Field(
        default=None,
        description="`${NAME}`: the environment variable that has the password; a password itself is refused. It is "
        "looked up in the processes of the sources alone.",
    )
    password_file: PlainText | None = Field(
        default=None,
        description="In place of `password`: a file, relative to this one, whose first line is the password. It is "
        "read at each connection.",
    )
    tls: MqttTlsConfig | None = Field(
        default=None, description="TLS; `{}` if the system knows the broker's root. Default: no TLS."
    )
    topic: Prefix = Field(
        default="trtlab",
        description="What all topics begin with: TOPIC/CAMERA/... Hosts that share a broker need one each.",
    )
    discovery: Prefix = Field(
        default="homeassistant", description="What the topics begin with under which Home Assistant looks for devices."
    )
    snapshots: bool = Field(
        default=True, description="Publish the frame that shows a thing best, as a JPEG, each time a better one comes."
    )
