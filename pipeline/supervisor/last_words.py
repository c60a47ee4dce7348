"""What workers say as they end, shown to people once. Pure.

A request that ends its worker is tried again, so the next worker prints the same; later requests may have it printed
again.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.worker.failures import LAST_WORDS

__all__ = ["LastWords"]


class _Said(NamedTuple):
    process: object
    first: str
    again: bool


class LastWords:
    """Which last words were shown, for each process's stages."""

    def __init__(self) -> None:
        self._said: dict[str, _Said] = {}

    def shown(self, stages: str, process: object, line: str) -> str | None:
        """What to show of a line.

        Args:
            stages: those of the process, as its title has them; replicas have the same.
            process: tells a process from its successor.
            line: as it was printed; last words begin with LAST_WORDS.

        Returns:
            The line; None if the process before it with these stages began its last words with the same line.
        """
        if not line.startswith(LAST_WORDS):
            return line
        line = line.removeprefix(LAST_WORDS)
        before = self._said.get(stages)
        if before is not None and before.process == process:
            return None if before.again else line
        # The first line has the exception, its message and the place.
        again = before is not None and before.first == line
        self._said[stages] = _Said(process, line, again)
        return f"{line} (as before)" if again else line
