"""Load: how many CPUs are busy, with whatever."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["busy_seconds"]


def busy_seconds(cpus: Iterable[int], root: Path | str = "/") -> float | None:
    """CPU seconds since the start of the machine in which these CPUs were not idle; None if that is not told.

    Args:
        root: the folder that contains /proc.
    """
    wanted = {f"cpu{cpu}" for cpu in cpus}
    total = 0
    try:
        lines = (Path(root) / "proc/stat").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, *fields = line.split()
        if name in wanted:
            # user, nice, system, idle, iowait, irq, softirq, steal (proc_stat(5)); user includes guest.
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            total += user + nice + system + irq + softirq + steal
    return total / os.sysconf("SC_CLK_TCK")
