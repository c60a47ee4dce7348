"""Publisher: publishes one camera to an MQTT broker, as what is told of its answers: an observer of its source.

    the source's thread ──answered, failed, reported──▶ States ──▶ Outbox ──▶ this one's thread ──▶ Connection

The source only leaves what it has to tell, and never waits for the broker: whether it is away, slow, or refuses us.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from random import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RequestError
from pipeline.graph.plan import MqttPlan, Plan
from pipeline.mqtt.connection import Connection, Lost
from pipeline.mqtt.leftovers import Leftovers
from pipeline.mqtt.outbox import Outbox
from pipeline.mqtt.states import States
from pipeline.mqtt.topics import OFF, OFFLINE, ON, ONLINE, Publication, Topics
from pipeline.mqtt.watched import Watched, watched_in
from pipeline.video.frame import Frame
from pipeline.video.jpeg import jpeg_of
from pipeline.video.pausing import Pause
from pipeline.video.reconnection import Reconnection
from pipeline.video.tracks import Told
from pipeline.wire.camera import CameraCounts
from stages import catalogue

__all__ = ["Publisher", "publisher_of"]

_TURN_S = 1.0
_CLOSE_S = 2.0
"""For so long the end waits for the broker to take what is left."""
_DROPS_S = 60.0
"""How often it is said that events were dropped."""


class Publisher:
    """Publishes one camera.

    Args:
        camera: its name.
        cameras: those of the config.
        pipeline, version: what the announcement says of them.
        pause: the camera's switch.
        say: for people: a level and a line, at each change.
    """

    def __init__(
        self,
        mqtt: MqttPlan,
        camera: str,
        cameras: Collection[str],
        pipeline: str,
        version: str,
        base_dir: Path,
        watched: Watched,
        pause: Pause,
        say: Callable[[str, str], None],
    ) -> None:
        self._mqtt = mqtt
        self._base_dir = base_dir
        self._pause = pause
        self._say = say
        self._topics = Topics(mqtt.topic, mqtt.discovery, camera)
        #: Held for what follows: the source's thread and this one's use it.
        self._lock = threading.Lock()
        self._states = States(self._topics, watched, pipeline, version, snapshots=mqtt.snapshots)
        self._outbox = Outbox(self._topics.status)
        self._picture: NDArray[Any] | None = None
        self._leftovers = Leftovers(self._topics, cameras, pipeline)
        self._retrying = Reconnection(math.inf, random, time.monotonic())
        self._said_drops: tuple[float, int] = (-_DROPS_S, 0)
        self._stop = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        with self._lock:
            self._put(self._states.begin(paused=pause.on))
            self._put([Publication(self._topics.status, ONLINE)])
        self._thread = threading.Thread(target=self._run, name=f"mqtt {camera}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> tuple[int, int]:
        """Events that wait for the broker, and those that were dropped since too many did."""
        with self._lock:
            return self._outbox.events, self._outbox.dropped

    # -- in the source's thread -------------------------------------------------------------------

    def answered(self, camera: str, frame: Frame, outputs: Mapping[str, Any], told: Told) -> None:
        """See `Observer`."""
        if told.wrong:
            # Nothing is known of its things: that it is looked at would not be true.
            return
        age_ms = (time.monotonic_ns() - frame.arrived) / 1e6
        with self._lock:
            try:
                publications, best = self._states.answered(told, age_ms, time.monotonic())
            except (KeyError, TypeError) as error:
                # Of a stage of the user's, in the place of Track.
                why = f"its tracks have not the fields of docs/edge-events.md: {error!r}"
                raise ValueError(why) from None
            self._put(publications)
        if best:
            width, height = frame.picture.size
            # Copied here, where no other thread uses the frame; it becomes a JPEG in the other thread.
            pixels = np.empty((height, width, 3), np.uint8)
            frame.picture.write(pixels)
            with self._lock:
                self._picture = pixels
        if publications or best:
            self._awake()

    def failed(self, camera: str, frame: Frame, error: RequestError) -> None:
        """See `Observer`."""
        self._tell(self._states.failed, time.monotonic())

    def reported(self, counts: CameraCounts) -> None:
        """See `Observer`."""
        self._tell(self._states.reported, counts, time.monotonic(), time.time())
        self._tell(self._states.paused, self._pause.on)

    def close(self) -> None:
        """See `Observer`. Waits for the broker, if it is there, for two seconds at most."""
        with self._lock:
            self._put([Publication(self._topics.status, OFFLINE)])
        self._stop.set()
        self._awake()
        self._thread.join(2 * _CLOSE_S)
        if not self._thread.is_alive():
            # Otherwise it waits for a broker that answers nothing, and ends with the process.
            os.close(self._wake)

    def _tell(self, decide: Callable[..., list[Publication]], *args: Any) -> None:
        with self._lock:
            told = decide(*args)
            self._put(told)
        if told:
            self._awake()

    def _put(self, publications: list[Publication]) -> None:
        for publication in publications:
            self._outbox.put(publication)

    def _awake(self) -> None:
        os.eventfd_write(self._wake, 1)

    # -- in its own thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                connection = self._connected()
            except Lost as error:
                self._wait(str(error))
                continue
            try:
                self._converse(connection)
            except Lost as error:
                connection.drop()
                with self._lock:
                    self._outbox.lost()
                self._wait(str(error))
            else:
                # If the broker has not taken all, its last will says that the source is gone.
                (connection.close if self._outbox.empty else connection.drop)()

    def _connected(self) -> Connection:
        topics = self._topics
        connection = Connection(
            self._mqtt, self._base_dir, os.environ, f"trtlab-{topics.camera}",
            Publication(topics.status, OFFLINE), (topics.all_statuses, topics.all_configs, topics.pause),
            self._received, self._told, self._wake,
        )  # fmt: skip
        self._retrying.opened(time.monotonic())
        self._say("info", f"publishes to the MQTT broker {self._mqtt.host}:{self._mqtt.port}")
        return connection

    def _converse(self, connection: Connection) -> None:
        """Tell and listen, until the end.

        Raises:
            Lost: the connection is gone.
        """
        until = math.inf
        while time.monotonic() < until:
            if self._stop.is_set():
                until = min(until, time.monotonic() + _CLOSE_S)
                if self._outbox.empty:
                    return
            self._show_picture()
            while (publication := self._next()) is not None:
                connection.send(publication)
            connection.turn(min(_TURN_S, _CLOSE_S / 4) if self._stop.is_set() else _TURN_S)
            now = time.monotonic()
            self._retrying.frame(now)
            self._tell(self._states.tick, now)
            self._say_drops(now)

    def _next(self) -> Publication | None:
        with self._lock:
            return self._outbox.take()

    def _told(self, publication: Publication) -> None:
        with self._lock:
            self._outbox.told(publication)

    def _show_picture(self) -> None:
        with self._lock:
            pixels, self._picture = self._picture, None
        if pixels is not None:
            picture = jpeg_of(pixels)
            with self._lock:
                self._outbox.put(Publication(self._topics.snapshot, picture))

    def _received(self, topic: str, payload: bytes, kept: bool) -> None:
        if topic == self._topics.pause:
            self._switch(payload.decode(errors="replace").strip().upper(), kept)
        elif (camera := self._topics.camera_of_status(topic)) is not None:
            if camera != self._topics.camera:
                self._tell(self._leftovers.status, camera, payload.decode(errors="replace"))
            elif payload.decode(errors="replace") != ONLINE and not self._stop.is_set():
                # The will of an earlier source, whose death the broker has seen only now, or its last word.
                with self._lock:
                    self._outbox.again(topic)
        elif kept and payload and (camera := self._topics.camera_of_config(topic)) is not None:
            with suppress(ValueError, RecursionError):
                document = json.loads(payload)
                if camera == self._topics.camera:
                    self._tell(self._states.kept, document)
                else:
                    self._tell(self._leftovers.announced, camera, document)

    def _switch(self, command: str, kept: bool) -> None:
        """Pause the camera, or go on. A command that the broker has kept is of another day."""
        if kept or command not in (ON, OFF):
            return
        try:
            self._pause.set(command == ON)
        except OSError as error:
            self._say("warning", f"the camera cannot be paused: {error.strerror}")
        self._tell(self._states.paused, self._pause.on)

    def _wait(self, why: str) -> None:
        """Until it is tried again."""
        was = self._retrying.state, self._retrying.why
        wait_s = self._retrying.failed(why, time.monotonic())
        if was != (self._retrying.state, why):
            # Once for each reason: a broker that is away for a night must not fill the log.
            self._say("warning", f"nothing is published: {why}; it is tried again")
        self._stop.wait(wait_s)
        self._say_drops(time.monotonic())

    def _say_drops(self, now: float) -> None:
        at, said = self._said_drops
        _, dropped = self.waiting
        if dropped > said and now - at >= _DROPS_S:
            self._said_drops = now, dropped
            self._say("warning", f"{dropped} events were dropped, the eldest: the MQTT broker has not taken them")


def publisher_of(plan: Plan, mqtt: MqttPlan, camera: str, run_dir: Path, say: Callable[[str, str], None]) -> Publisher:
    """The publisher of one camera of a plan, which has begun.

    Args:
        run_dir: the run's folder, where the camera's switch is.
    """
    cameras = {each.name for each in plan.cameras}
    watched = watched_in(plan, camera, catalogue.labels)
    return Publisher(
        mqtt, camera, cameras, plan.name, version("trtlab"), Path(plan.base_dir), watched, Pause(run_dir, camera), say
    )
