"""Notification: what the root of a run tells the service manager, and when (sd_notify(3)). Pure.

                    every stage ready              a new version starts           told to stop, or all has ended
    STATUS=... ───────▶ READY=1 ─────────▶ RELOADING=1 ───────▶ READY=1 ─────────▶ STOPPING=1, EXTEND_TIMEOUT_USEC
                           │                                       it has taken over, or was given up
                           └── WATCHDOG=1, again and again, as long as the run is well

**Well** is a run whose scheduler answers: a `Ping` goes through the supervisor that serves and through its scheduler,
so the `Pong` shows that all their loops turn. It is well too while there is no scheduler to ask: one that has died is
started again by the supervisor, and needs no service manager. So WATCHDOG=1 stops for a scheduler or a supervisor that
hangs. A worker that hangs is the supervisor's to kill (`timeout_ms`).
"""

from __future__ import annotations

import msgspec

from pipeline.supervisor.supervision import Phase

__all__ = ["Notification", "View"]

_PER_WATCHDOG = 4
"""How often the run is looked at, in the time that the service manager grants."""

_EXTEND_S = 10.0
_EXTEND_EACH_S = 2.0
"""While it ends, the service manager is asked again and again for more time: supervisors know the limit themselves."""


class View(msgspec.Struct, frozen=True):
    """How the root is now."""

    phase: Phase
    """Of its own run."""
    ready: int
    """How many of its own children are ready."""
    children: int
    asked: bool
    """There is a scheduler, of the version that serves, that must answer."""
    version: str = ""
    """The run that serves, if that is not the root's own one."""
    reloading: bool = False
    """A new version starts."""
    stopping: bool = False
    """It takes no requests any more, and no version will."""


class Notification:
    """What has been told.

    Args:
        watchdog_s: within how many seconds the service manager wants to hear WATCHDOG=1; None: it does not.
    """

    def __init__(self, watchdog_s: float | None) -> None:
        self._each_s = None if watchdog_s is None else watchdog_s / _PER_WATCHDOG
        self._look_at = 0.0
        self._extend_at = 0.0
        #: Of the last `Ping`, and of the last one that was answered.
        self._asked = self._answered = 0
        self._state = ""
        self._status = ""

    def turn(self, view: View, now: float) -> list[str]:
        """The datagrams that are due.

        Args:
            now: monotonic seconds.
        """
        told: list[str] = []
        state = self._state_of(view)
        if state != self._state:
            # In systemd's own units: microseconds of the monotonic clock.
            told.append(f"RELOADING=1\nMONOTONIC_USEC={int(now * 1e6)}" if state == "RELOADING" else f"{state}=1")
            self._state, self._look_at = state, now
        if (status := _status_of(view)) != self._status:
            told.append(f"STATUS={status}")
            self._status = status
        if state == "STOPPING" and now >= self._extend_at:
            self._extend_at = now + _EXTEND_EACH_S
            told.append(f"EXTEND_TIMEOUT_USEC={int(_EXTEND_S * 1e6)}")
        return told

    def look(self, view: View, now: float) -> int | str | None:
        """The number of a `Ping` that is due; or the datagram, if there is no scheduler to ask; or None."""
        if self._each_s is None or not self._state or now < self._look_at:
            return None
        self._look_at = now + self._each_s
        if not view.asked:
            return "WATCHDOG=1"
        self._asked += 1
        return self._asked

    def answered(self, number: int) -> list[str]:
        """The `Pong` with that number has come."""
        if not self._answered < number <= self._asked:
            return []
        self._answered = number
        return ["WATCHDOG=1"]

    @property
    def wake_at(self) -> float | None:
        """When `look` has something to do: monotonic seconds."""
        return self._look_at if self._each_s is not None and self._state else None

    def _state_of(self, view: View) -> str:
        if view.stopping or self._state == "STOPPING":
            return "STOPPING"
        if not self._state and view.phase is not Phase.RUNNING:
            return ""
        return "RELOADING" if view.reloading else "READY"


def _status_of(view: View) -> str:
    if view.stopping:
        return "stopping" if view.phase is Phase.STOPPING else "finishing what is under way"
    if view.phase is Phase.STARTING:
        return f"starting: {view.ready} of {view.children} processes are ready"
    serves = f"serving, in {view.version}" if view.version else "serving"
    return f"{serves}; a new version starts" if view.reloading else serves
