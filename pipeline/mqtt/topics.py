"""Topics: what a camera's topics are called, and what goes to one. Pure.

    trtlab/door/status              online or offline: whether the source of the camera is there (its last will)
    trtlab/door/watching            online or offline: whether its frames are being looked at
    trtlab/door/things              {"all": {"person": 1}, "zones": {"porch": {"person": 0}}}
    trtlab/door/diagnostics         {"state": "connected", "fps": 5.0, ...}
    trtlab/door/snapshot            a JPEG
    trtlab/door/paused              ON or OFF; trtlab/door/paused/set takes either
    trtlab/door/events              an event: not retained, as are all others
    homeassistant/device/trtlab/door/config     what Home Assistant makes a device of
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, unquote

__all__ = ["OFF", "OFFLINE", "ON", "ONLINE", "Publication", "Topics", "unworded", "worded"]

ONLINE, OFFLINE = "online", "offline"
ON, OFF = "ON", "OFF"


class Publication(NamedTuple):
    """One message to the broker."""

    topic: str
    payload: str | bytes
    """Empty and retained: the topic has no state any more."""
    retain: bool = True


class Topics(NamedTuple):
    """The topics of one camera."""

    prefix: str
    discovery: str
    camera: str

    @property
    def node(self) -> str:
        """What all cameras of this prefix have in common in Home Assistant's ids, which have no slash."""
        return self.prefix.replace("/", "_")

    @property
    def status(self) -> str:
        """Whether the source is there."""
        return self._of("status")

    @property
    def watching(self) -> str:
        """Whether the camera's frames are being looked at."""
        return self._of("watching")

    @property
    def things(self) -> str:
        """How many things of each kind there are."""
        return self._of("things")

    @property
    def diagnostics(self) -> str:
        """How the camera is."""
        return self._of("diagnostics")

    @property
    def snapshot(self) -> str:
        """The last frame that showed a thing best."""
        return self._of("snapshot")

    @property
    def paused(self) -> str:
        """Whether the camera is paused."""
        return self._of("paused")

    @property
    def pause(self) -> str:
        """Takes commands: ON and OFF."""
        return self._of("paused/set")

    @property
    def events(self) -> str:
        """What happens."""
        return self._of("events")

    @property
    def config(self) -> str:
        """The announcement of the device."""
        return f"{self.discovery}/device/{self.node}/{self.camera}/config"

    @property
    def retained(self) -> tuple[str, ...]:
        """All of this camera that a broker keeps, the announcement first."""
        return (
            self.config, self.status, self.watching, self.things, self.diagnostics, self.snapshot, self.paused,
        )  # fmt: skip

    @property
    def all_configs(self) -> str:
        """The announcements of all cameras of this prefix, as a subscription."""
        return self._replace(camera="+").config

    @property
    def all_statuses(self) -> str:
        """Whether their sources are there, as a subscription."""
        return self._replace(camera="+").status

    def other(self, camera: str) -> Topics:
        """Those of another camera of this prefix."""
        return self._replace(camera=camera)

    def camera_of_config(self, topic: str) -> str | None:
        """Whose announcement a topic is; None: it is none."""
        front, back = self.all_configs.split("+")
        return topic[len(front) : -len(back)] if topic.startswith(front) and topic.endswith(back) else None

    def camera_of_status(self, topic: str) -> str | None:
        """Whose status a topic is; None: it is none."""
        front, back = self.all_statuses.split("+")
        return topic[len(front) : -len(back)] if topic.startswith(front) and topic.endswith(back) else None

    def _of(self, name: str) -> str:
        return f"{self.prefix}/{self.camera}/{name}"


def worded(name: str) -> str:
    """A label or a zone, which may be any text, as a part of an id: two of them are never alike."""
    return quote(name, safe=" ").replace(".", "%2E").replace(" ", ".")


def unworded(word: str) -> str:
    """The reverse of `worded`."""
    return unquote(word.replace(".", " "))
