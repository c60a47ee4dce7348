"""Machine: the hardware and software of a measurement, as values that name no host, user or path."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

import zmq

__all__ = ["describe_machine"]


def describe_machine() -> dict[str, str]:
    """CPU model, cores, memory, kernel, Python and library versions, in the order in which they are printed."""
    memory_kib = int(_first(r"MemTotal:\s*(\d+)", "/proc/meminfo"))
    return {
        "CPU": _first(r"model name\s*:\s*(.+)", "/proc/cpuinfo") or platform.machine(),
        "cores": f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count()}",
        "memory": f"{memory_kib / 2**20:.0f} GiB",
        "shmem huge pages": _first(r"\[(\w+)\]", "/sys/kernel/mm/transparent_hugepage/shmem_enabled") or "unknown",
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": version("numpy"),
        "pyzmq": f"{version('pyzmq')} (libzmq {zmq.zmq_version()})",
        "msgpack": version("msgpack"),
    }


def _first(pattern: str, path: str) -> str:
    """The first group of the first match in a file of /proc or /sys; empty if there is none."""
    try:
        found = re.search(pattern, Path(path).read_text(encoding="ascii", errors="replace"))
    except OSError:
        return ""
    return found.group(1).strip() if found else ""
