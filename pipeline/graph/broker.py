"""Broker: the MQTT broker of a plan, checked. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.config.findings import Findings
from pipeline.config.mqtt import MqttConfig, MqttTlsConfig
from pipeline.config.sources import SourceConfig
from pipeline.graph.plan import MqttPlan

__all__ = ["broker_of"]

_PORT, _TLS_PORT = 1883, 8883
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")


def broker_of(mqtt: MqttConfig | None, sources: Sequence[SourceConfig], findings: Findings) -> MqttPlan | None:
    """The broker of a plan. What is wrong with it is among the findings, and holds no password."""
    if mqtt is None:
        return None
    if not sources:
        findings.add(("mqtt",), "what is published are cameras: add sources, or leave it out", at_key=True)
    # A URL may have a password in it, so what was found is not shown.
    if not _HOST.fullmatch(mqtt.host):
        why = "expected a name or an address alone; port, user and password are fields beside it"
        findings.add(("mqtt", "host"), why)
    _check_login(mqtt, findings)
    tls = mqtt.tls or MqttTlsConfig()
    if (tls.certificate is None) != (tls.key is None):
        findings.add(("mqtt", "tls"), "expected both certificate and key, or neither", at_key=True)
    return MqttPlan(
        host=mqtt.host,
        port=mqtt.port or (_PORT if mqtt.tls is None else _TLS_PORT),
        user=mqtt.user or "",
        password=mqtt.password or "",
        password_file=mqtt.password_file or "",
        tls=mqtt.tls is not None,
        ca=tls.ca or "",
        certificate=tls.certificate or "",
        key=tls.key or "",
        topic=mqtt.topic,
        discovery=mqtt.discovery,
        snapshots=mqtt.snapshots,
    )


def _check_login(mqtt: MqttConfig, findings: Findings) -> None:
    if mqtt.password is not None and not _VARIABLE.fullmatch(mqtt.password):
        why = "write ${NAME} and nothing else, and set that environment variable, or name a password_file"
        findings.add(("mqtt", "password"), f"a password in the file: {why}")
    if mqtt.password is not None and mqtt.password_file is not None:
        findings.add(("mqtt", "password_file"), "there is a password already: leave out one of the two")
    for field in ("password", "password_file"):
        if getattr(mqtt, field) is not None and not mqtt.user:
            findings.add(("mqtt", field), "expected a user as well: it is whose password this is", at_key=True)
