"""Reconnection: when a camera is opened again that has failed, ended or stopped to give frames. Pure.

                 opened                    failed, ended, or no frame for `timeout_s`
    connecting ─────────▶ connected ─────────────────────────────▶ reconnecting ──▶ opened: connected
        └── failed ──────────────────────────────────────────────▶    │  ▲ after 0.5 s, twice as long each time up to
                                                                      └──┘ 30 s, and up to a third less by chance

A camera that has given frames for 10 s is as good as new: then the waits begin at 0.5 s again. The chance is for many
cameras behind one switch that comes back.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.wire.camera import State

__all__ = ["FIRST_WAIT_S", "LONGEST_WAIT_S", "Reconnection"]

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
_SPREAD = 1 / 3
_SOUND_S = 10.0


class Reconnection:
    """One camera's connection. `now` is monotonic seconds in every call.

    Args:
        timeout_s: a camera that gives no frame for so long is frozen.
        chance: a number from 0 up to 1.
    """

    def __init__(self, timeout_s: float, chance: Callable[[], float], now: float) -> None:
        self._timeout_s = timeout_s
        self._chance = chance
        self.state = State.CONNECTING
        #: When the state began.
        self.since = now
        #: Why it is not connected; empty: it is, or it was not tried yet.
        self.why = ""
        #: How often it was connected again.
        self.reconnects = 0
        self._wait_s = FIRST_WAIT_S
        self._opened_at = 0.0
        self._frame_at = 0.0
        self._was_connected = False

    def opened(self, now: float) -> None:
        """The camera was opened; frames are to come."""
        self.reconnects += self._was_connected
        self._was_connected = True
        self._enter(State.CONNECTED, "", now)
        self._opened_at = self._frame_at = now

    def frame(self, now: float) -> None:
        """A frame has come."""
        self._frame_at = now
        if now - self._opened_at >= _SOUND_S:
            self._wait_s = FIRST_WAIT_S

    def frozen(self, now: float) -> bool:
        """Whether it is connected and has given no frame for too long."""
        return self.state == State.CONNECTED and now - self._frame_at >= self._timeout_s

    def failed(self, why: str, now: float) -> float:
        """It could not be opened, or has failed or ended since; in how many seconds to try again."""
        if self.state != State.RECONNECTING:
            self._enter(State.RECONNECTING, why, now)
        self.why = why
        wait_s, self._wait_s = self._wait_s, min(2 * self._wait_s, LONGEST_WAIT_S)
        return wait_s * (1 - _SPREAD * self._chance())

    def paused(self, now: float) -> None:
        """It is not connected, since it must not be looked at."""
        self._enter(State.PAUSED, "", now)

    def resumed(self, now: float, *, held: bool = False) -> None:
        """It may be looked at again.

        Args:
            held: it has been open all the time, as a file.
        """
        self._enter(State.CONNECTED if held else State.CONNECTING, "", now)
        self._opened_at = self._frame_at = now
        # What comes is neither a failure's end nor a sign of one.
        self._was_connected = held
        self._wait_s = FIRST_WAIT_S

    def ended(self, now: float) -> None:
        """It has come to its end, and is not opened again."""
        self._enter(State.ENDED, "", now)

    def _enter(self, state: str, why: str, now: float) -> None:
        self.state, self.why, self.since = state, why, now
