"""Restarts: when the pipelines of a keeper are started again whose supervisor has died. Pure.

    serves ──died──▶ waits ──due──▶ starts ──started──▶ serves
                       ▲               │
                       └────failed─────┘

The first time at once, and after several deaths in a row later each time, as a supervisor does with its workers. It is
never given up: what a death of the whole pipeline has taken, such as memory, may be there again later.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Restarts"]

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 10.0
#: One that has served for so long is started again without delay when it dies.
_SOUND_S = 60.0


@dataclass
class _Life:
    deaths: int = 0
    """One after the other, none of them long after it was started."""
    since: float = 0.0
    """When it was started again."""
    due: float | None = None
    """When it is started again; None: it serves, or starts."""
    down: bool = False


class Restarts:
    """The pipelines by name. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._lives: dict[str, _Life] = {}

    def died(self, name: str, now: float) -> float | None:
        """A pipeline is dead; the seconds until it is started again, or None: that it died is known already."""
        life = self._lives.setdefault(name, _Life())
        if life.down:
            return None
        if now - life.since >= _SOUND_S:
            life.deaths = 0
        life.down = True
        return self._later(life, now)

    def failed(self, name: str, now: float) -> float:
        """It was not started; the seconds until that is tried again."""
        return self._later(self._lives.setdefault(name, _Life(down=True)), now)

    def _later(self, life: _Life, now: float) -> float:
        delay = min(_FIRST_DELAY_S * 2 ** (min(life.deaths, 10) - 1), _LONGEST_DELAY_S) if life.deaths else 0.0
        life.deaths += 1
        life.due = now + delay
        return delay

    def due(self, now: float) -> list[str]:
        """Those to start now; each is named once, until `failed` or `died` is called for it."""
        found = [name for name, life in self._lives.items() if life.due is not None and now >= life.due]
        for name in found:
            self._lives[name].due = None
        return found

    def started(self, name: str, now: float) -> None:
        """It serves again, whatever has started it."""
        if (life := self._lives.get(name)) is not None:
            life.down, life.due, life.since = False, None, now

    def forget(self, name: str) -> None:
        """It was unloaded."""
        self._lives.pop(name, None)
