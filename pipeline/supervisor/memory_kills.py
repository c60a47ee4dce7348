"""Memory kills: whether the kernel's out-of-memory killer has struck just now."""

from __future__ import annotations

from pathlib import Path

from pipeline.topology.cgroups import read_memory_kills

__all__ = ["MemoryKills", "out_of_memory_kills"]


def out_of_memory_kills(root: Path = Path("/")) -> int:
    """How many processes the kernel has killed because memory was short; 0 if it does not say.

    Those of this process's own memory cgroup, if there is one; otherwise those of the whole host since its start, the
    field `oom_kill` of /proc/vmstat.
    """
    kills = read_memory_kills(root)
    if kills is not None:
        return kills
    try:
        for line in (root / "proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


class MemoryKills:
    """Tells a kill of this moment from one of long ago. Pure.

    Args:
        count: `out_of_memory_kills` at the start.
    """

    def __init__(self, count: int) -> None:
        self._before = self._last = count

    def note(self, count: int) -> None:
        """Take the count as it is now. Call it now and then, for example once a second."""
        self._before, self._last = self._last, count

    def struck(self, count: int) -> bool:
        """Whether the killer has struck since the `note` before the last one: a death may be seen just after a
        `note`."""
        return count > self._before
