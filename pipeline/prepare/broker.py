"""Broker: whether what publishes to an MQTT broker needs is there, before anything starts. The broker need not be."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import ConfigError, StartError
from pipeline.graph.plan import MqttPlan, Plan

__all__ = ["refuse_broker"]


def refuse_broker(plan: Plan) -> None:
    """
    Raises:
        ConfigError: a file that the config names cannot be read, or is of another kind.
        StartError: paho-mqtt is not installed.
    """
    if plan.mqtt is None:
        return
    if find_spec("paho") is None:
        raise StartError("mqtt: paho-mqtt, which publishes, is not installed: pip install 'trtlab[mqtt]'")
    base = Path(plan.base_dir)
    if plan.mqtt.password_file:
        path = base / plan.mqtt.password_file
        try:
            path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"mqtt: password_file: {path} cannot be read ({error.strerror}): write the password into that file"
            ) from None
    if plan.mqtt.tls:
        _refuse_tls(plan.mqtt, base)


def _refuse_tls(mqtt: MqttPlan, base: Path) -> None:
    import ssl  # which loads all of OpenSSL

    from pipeline.tls import no_authorities, why_no_pair, why_unreadable

    for field, file in (("ca", mqtt.ca), ("certificate", mqtt.certificate), ("key", mqtt.key)):
        if file and (why := why_unreadable(str(base / file))):
            raise ConfigError(f"mqtt: tls.{field}: {base / file}: {why}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if mqtt.ca:
        try:
            context.load_verify_locations(str(base / mqtt.ca))
        except (OSError, ValueError) as error:
            raise ConfigError(f"mqtt: tls.ca: {base / mqtt.ca}: {no_authorities(error)}") from None
    if mqtt.certificate:
        certificate, key = str(base / mqtt.certificate), str(base / mqtt.key)
        if why := why_no_pair(context, certificate, key):
            raise ConfigError(f"mqtt: tls.certificate: {certificate}, {key}: {why}")
