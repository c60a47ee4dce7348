"""Mosquitto for tests, which can be killed and started again; what it is told; and a pipeline of cameras with tracks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from bench.versus.environments import MOSQUITTO

__all__ = ["Mosquitto", "Told", "config_of", "free_port", "listening"]

STAGES = '''
import numpy as np

from stages.spec import TensorSpec


class Found:
    """A person for the first 12 frames of each 24, who goes from left to right; and a car that stands, if the camera is yard."""

    def __init__(self):
        self.inputs = (TensorSpec("frame", "uint8", (48, 64, 3)),)
        self.outputs = (TensorSpec("detections", "float32", (20, 6)), TensorSpec("count", "int32", ()))

    def process(self, batch):
        for row, request in enumerate(batch.requests):
            number = request.sequence % 24
            left = 0.05 + 0.05 * min(number, 12)
            found = [(0, 0.8, 0.3, left, 0.8, left + 0.2)] if number < 12 else []
            if request.name.startswith("yard"):
                found.append((2, 0.9, 0.7, 0.7, 0.9, 0.95))
            detections = np.zeros((20, 6), np.float32)
            detections[: len(found)] = found or np.zeros((0, 6))
            batch.write(row, "detections", detections)
            batch.write(row, "count", np.int32(len(found)))
'''


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Mosquitto:
    """A broker on a port of 127.0.0.1. What it keeps is gone with it, if it is killed.

    Args:
        folder: of its files.
        user, password: with which clients must log in; empty: all may.
        tls: a certificate and its key.
    """

    def __init__(self, folder: Path, user: str = "", password: str = "", tls: tuple[Path, Path] | None = None) -> None:
        self.port = free_port()
        self._folder = folder
        lines = [f"listener {self.port} 127.0.0.1", f"allow_anonymous {'false' if user else 'true'}"]
        if os.geteuid() == 0:
            # Otherwise it becomes a user that may be missing, and that cannot read our folders.
            lines.append("user root")
        if user:
            passwords = folder / "passwords"
            passwords.touch(mode=0o600)
            self._call("usr/bin/mosquitto_passwd", "-b", passwords, user, password).wait(200)
            lines.append(f"password_file {passwords}")
        if tls:
            lines += [f"certfile {tls[0]}", f"keyfile {tls[1]}"]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = self._call("usr/sbin/mosquitto", "-c", self._folder / "mosquitto.conf", log=log)
        until = time.monotonic() + 200
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self._process.poll() is None, (self._folder / "mosquitto.log").read_text()
            assert time.monotonic() < until
            time.sleep(0.05)

    def kill(self) -> None:
        """As the kernel does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(200)
        self._process = None

    def stop_taking(self) -> None:
        """It is there, and takes nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()

    def _call(self, program: str, *args: object, log: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        own = MOSQUITTO / program
        libraries = ":".join(str(MOSQUITTO / part) for part in ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu"))
        found = str(own) if own.exists() else shutil.which(Path(program).name) or f"/{program}"
        environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
        return subprocess.Popen([found, *map(str, args)], stdout=log, stderr=log, env=environment)


class Told:
    """What a broker tells those who listen: the newest of each topic, and all in their order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: dict[str, bytes] = {}
        self._all: list[tuple[str, bytes, bool]] = []
        self.client = paho.Client(CallbackAPIVersion.VERSION2)

    def text(self, topic: str) -> str:
        """The newest on a topic; empty: nothing, or it was removed."""
        with self._lock:
            return self._newest.get(topic, b"").decode(errors="replace")

    def json(self, topic: str) -> Any:
        """The same, as JSON; an empty mapping if there is nothing."""
        return json.loads(self.text(topic) or "{}")

    def raw(self, topic: str) -> bytes:
        with self._lock:
            return self._newest.get(topic, b"")

    def all(self, topic: str) -> list[bytes]:
        """All that has come on a topic, in its order."""
        with self._lock:
            return [payload for name, payload, _ in self._all if name == topic]

    def topics(self) -> set[str]:
        """Those that have a state, or had something that was not kept."""
        with self._lock:
            return {topic for topic, payload in self._newest.items() if payload}

    def say(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        """Publish something ourselves."""
        self.client.publish(topic, payload, 1, retain)

    def take(self, client: Any, data: Any, message: Any) -> None:
        with self._lock:
            self._newest[message.topic] = bytes(message.payload)
            self._all.append((message.topic, bytes(message.payload), bool(message.retain)))


@contextmanager
def listening(port: int, user: str = "", password: str = "", ca: Path | None = None) -> Iterator[Told]:
    """Listen to all topics of a broker, over its deaths."""
    told = Told()
    client = told.client
    client.on_message = told.take
    client.on_connect = lambda client, *_: client.subscribe("#", 1)
    client.reconnect_delay_set(1, 1)
    if user:
        client.username_pw_set(user, password)
    if ca:
        client.tls_set(str(ca))
    client.connect("127.0.0.1", port, 10)
    client.loop_start()
    try:
        yield told
    finally:
        client.disconnect()
        client.loop_stop()


def config_of(folder: Path, mqtt: dict[str, Any], names: tuple[str, ...] = ("door", "yard"), **track: Any) -> Path:
    """A pipeline that finds things in the frames of cameras, and publishes them."""
    folder.joinpath("found_stages.py").write_text(STAGES)
    options = {
        "labels": ["person", "bicycle", "car", "traffic light"],
        "confirm": 1,
        "patience_s": 0.5,
        "default": {
            "labels": ["person", "car"],
            "zones": {"front porch": [[0.4, 0], [1, 0], [1, 1], [0.4, 1]]},
            "rules": [{"rule": "enter", "zone": "front porch"}],
        },
        **track,
    }
    document = {
        "name": "house",
        "inputs": [{"name": "frame", "dtype": "uint8", "shape": [48, 64, 3]}],
        "sources": [{"name": name, "url": "synthetic:?fps=10&size=64x48"} for name in names],
        "mqtt": {"host": "127.0.0.1", **mqtt},
        "stages": [
            {"name": "found", "use": "./found_stages.py:Found"},
            {"name": "track", "use": "stages.video.track:Track", "with": options},
        ],
        "outputs": ["track.tracks"],
    }
    path = folder / "house.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path
