"""Complaints: how many lines of one kind are shown, so that a process that floods another one fills no log. Pure."""

from __future__ import annotations

__all__ = ["COMPLAINTS", "COMPLAINTS_S", "Complaints"]

COMPLAINTS = 3
"""How many are shown within `COMPLAINTS_S` seconds."""

COMPLAINTS_S = 60


class Complaints:
    """Those of one process about the messages that it is sent."""

    def __init__(self) -> None:
        self._since = 0
        self._count = 0

    def shown(self, text: str, now: int) -> str:
        """What to show in place of one; "" if nothing. `now`: monotonic nanoseconds."""
        if now - self._since >= COMPLAINTS_S * 1_000_000_000:
            self._since, self._count = now, 0
        self._count += 1
        if self._count <= COMPLAINTS:
            return text
        if self._count == COMPLAINTS + 1:
            return f"refused more than {COMPLAINTS} messages; for {COMPLAINTS_S} s they are counted and not shown"
        return ""
