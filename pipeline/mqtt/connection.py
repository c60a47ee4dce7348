"""Connection: one connection to an MQTT broker, from its login until it is lost. A thin shell around paho-mqtt.

Not paho's own thread, queue and reconnection: its queue of what was not acknowledged is sent again after what is newer,
and grows without a bound while a broker takes nothing. Here one thread sends, receives and waits, and what is on its
way is counted by the outbox.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from pipeline.config.expansion import expand_text
from pipeline.graph.plan import MqttPlan
from pipeline.mqtt.topics import Publication

__all__ = ["Connection", "Lost", "Received", "password_of"]

_KEEPALIVE_S = 15
"""A source whose host has died is offline to others after one and a half times as long (MQTT 3.1.1, 3.1.2.10)."""
_CONNECT_S = 10.0
_QOS = 1

Received = Callable[[str, bytes, bool], None]
"""(topic, payload, whether the broker had kept it)."""


class Lost(Exception):
    """There is no connection, or no more; the text says why, and what to do if something can be done."""


def password_of(mqtt: MqttPlan, base_dir: Path, environment: Mapping[str, str]) -> str | None:
    """The password with which to log in; None: none.

    Raises:
        Lost: it is not there.
    """
    if mqtt.password_file:
        path = base_dir / mqtt.password_file
        try:
            return next(iter(path.read_text(encoding="utf-8").splitlines()), "")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise Lost(f"mqtt.password_file {path} cannot be read: {why}") from None
    try:
        return expand_text(mqtt.password, environment) if mqtt.password else None
    except KeyError as error:
        raise Lost(f"the environment variable {error.args[0]} of mqtt.password is not set") from None


class Connection:
    """A connection that the broker has accepted.

    Args:
        name: of the client; no two have the same at one time.
        will: what the broker publishes if this process is gone without a word.
        topics: those that are subscribed to.
        received: called in `turn`, with each message.
        told: called in `turn` with each publication that the broker has.
        wake: a file descriptor that ends `turn` once it can be read.

    Raises:
        Lost: the broker is not there, or does not accept us.
    """

    def __init__(
        self,
        mqtt: MqttPlan,
        base_dir: Path,
        environment: Mapping[str, str],
        name: str,
        will: Publication,
        topics: Sequence[str],
        received: Received,
        told: Callable[[Publication], None],
        wake: int,
    ) -> None:
        self._where = f"{mqtt.host}:{mqtt.port}"
        self._user = mqtt.user
        self._received, self._told, self._wake = received, told, wake
        self._on_the_way: dict[int, Publication] = {}
        self._refused: str | None = None
        self._accepted = False
        # Another name each time: a broker that does not know yet that an old connection is dead need not end it first.
        client_id = f"{name}-{secrets.token_hex(4)}"
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv311)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.will_set(will.topic, will.payload, _QOS, will.retain)
        if mqtt.user:
            self._client.username_pw_set(mqtt.user, password_of(mqtt, base_dir, environment))
        try:
            if mqtt.tls:
                self._client.tls_set_context(_context(mqtt, base_dir))
            self._connect(mqtt)
            self._client.subscribe([(topic, _QOS) for topic in topics])
        except BaseException:
            self._drop()
            raise

    def send(self, publication: Publication) -> None:
        """Have it published; `told` is called once the broker has it. Never waits.

        Raises:
            Lost: the connection is gone.
        """
        made = self._client.publish(publication.topic, publication.payload, _QOS, publication.retain)
        self._on_the_way[made.mid] = publication
        self._check(made.rc)

    def turn(self, timeout_s: float) -> None:
        """Send, receive and wait, for so long at most, or until the descriptor can be read.

        Raises:
            Lost: the connection is gone.
        """
        connected = self._socket()
        poll = select.poll()
        poll.register(connected, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        poll.register(self._wake, select.POLLIN)
        # Of TLS, what was decrypted already does not show.
        pending = isinstance(connected, ssl.SSLSocket) and connected.pending()
        ready = dict(poll.poll(0 if pending else timeout_s * 1000))
        if self._wake in ready:
            os.eventfd_read(self._wake)
        if pending or ready.get(connected.fileno(), 0) & ~select.POLLOUT:
            self._check(self._client.loop_read())
        if self._client.want_write():
            self._check(self._client.loop_write())
        self._check(self._client.loop_misc())

    def close(self) -> None:
        """End it; the will is not published then."""
        self._client.disconnect()
        self._drop()

    def drop(self) -> None:
        """Let go of a connection that is lost."""
        self._drop()

    # -- inside ---------------------------------------------------------------------------------

    def _connect(self, mqtt: MqttPlan) -> None:
        try:
            self._client.connect_timeout = _CONNECT_S
            self._client.connect(mqtt.host, mqtt.port, _KEEPALIVE_S)
        except ssl.SSLError as error:
            said = getattr(error, "verify_message", "") or error.reason or "the broker speaks no TLS"
            raise Lost(f"the broker {self._where} and we cannot agree on TLS: {said}; check mqtt.tls") from None
        except (socket.gaierror, UnicodeError):
            # The latter of a name that can be none, as one with two dots side by side.
            raise Lost(f"the broker's name {mqtt.host} is unknown; check mqtt.host") from None
        except OSError as error:
            raise Lost(f"the broker {self._where} is not there: {error.strerror or error}") from None
        deadline = time.monotonic() + _CONNECT_S
        while not self._accepted:
            self.turn(0.2)
            if time.monotonic() > deadline:
                raise Lost(f"{self._where} does not answer as a broker of MQTT does; check mqtt.port and mqtt.tls")

    def _check(self, code: int) -> None:
        if self._refused is not None:
            raise Lost(self._refused)
        if code not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN):
            raise Lost(f"the broker {self._where} has closed the connection")

    def _socket(self) -> socket.socket:
        found: Any = self._client.socket()
        if found is None:
            raise Lost(self._refused or f"the broker {self._where} has closed the connection")
        connected: socket.socket = found
        return connected

    def _drop(self) -> None:
        # Of a client that was never connected there is none.
        if (found := self._client.socket()) is not None:
            found.close()

    def _on_connect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        self._accepted = not code.is_failure
        if code.is_failure:
            login = f"user {self._user}" if self._user else "a client without a user"
            self._refused = (
                f"the broker {self._where} refuses {login}: {str(code).lower()}; "
                "check mqtt.user, its password, and the broker's own access rules"
            )

    def _on_message(self, client: Any, data: Any, message: Any) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            # None of ours; and what is raised here ends the thread that publishes.
            return
        self._received(topic, bytes(message.payload), bool(message.retain))

    def _on_publish(self, client: Any, data: Any, mid: int, code: Any, properties: Any) -> None:
        if (publication := self._on_the_way.pop(mid, None)) is not None:
            self._told(publication)


def _context(mqtt: MqttPlan, base_dir: Path) -> ssl.SSLContext:
    """
    Raises:
        Lost: a file of it cannot be used any more.
    """
    try:
        context = ssl.create_default_context(cafile=str(base_dir / mqtt.ca) if mqtt.ca else None)
        if mqtt.certificate:
            context.load_cert_chain(str(base_dir / mqtt.certificate), str(base_dir / mqtt.key), password="")
    except OSError as error:
        raise Lost(f"the files of mqtt.tls cannot be used: {error.strerror or error}") from None
    return context
