"""What workers say again, shown to people once. Pure.

A request that ends its worker is tried again, so the next worker says the same; later requests may have it said again.
And each replica, and each worker that takes a dead one's place, tells the traceback of a failure that others have told.
"""

from __future__ import annotations

from pipeline.logs.entry import Entry

__all__ = ["LastWords"]

_MOST = 256
"""Tracebacks that are known again, of all stages; those that were told longest ago are forgotten."""


class LastWords:
    """Which last words were shown last, for each process's stages; and which tracebacks were."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}
        self._tracebacks: dict[tuple[str, ...], None] = {}

    def shown(self, stages: str, entry: Entry) -> Entry:
        """What to show of an entry: it is without its traceback if that is known.

        Args:
            stages: those of the process, as its title has them; replicas have the same.
            entry: what it has said.
        """
        if entry.last:
            # It has the exception, its message and the place.
            again = self._said.get(stages) == entry.text
            self._said[stages] = entry.text
        elif entry.traceback and not entry.logger:
            again = self._is_known(stages, entry.traceback)
        else:
            return entry
        return entry._replace(text=f"{entry.text} (as before)", traceback="") if again else entry

    def _is_known(self, stages: str, traceback: str) -> bool:
        """Whether one from the same lines was shown; what the exception says may differ."""
        key = (stages, *[line for line in traceback.split("\n") if line.startswith('  File "')])
        known = key in self._tracebacks
        self._tracebacks.pop(key, None)
        self._tracebacks[key] = None
        if len(self._tracebacks) > _MOST:
            del self._tracebacks[next(iter(self._tracebacks))]
        return known
