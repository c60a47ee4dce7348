"""NVIDIA GPUs and where they are plugged in, without any NVIDIA library.

A GPU is a PCI function of vendor 0x10de and class 0x0300 (VGA) or 0x0302 (3D controller). Its name
and number come from the driver's /proc/driver/nvidia/gpus, where the driver is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.topology.cpulist import parse_cpu_list

__all__ = ["Gpu", "read_gpus"]

_VENDOR = "0x10de"
_CLASSES = ("0x0300", "0x0302")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU on the PCI bus."""

    bus_id: str
    """As the kernel writes it: `0000:3b:00.0`."""
    name: str | None = None
    """None where the driver is not loaded."""
    minor: int | None = None
    """The N of /dev/nvidiaN; None where the driver is not loaded."""
    numa_node: int | None = None
    """None where the firmware does not say, which the kernel writes as -1."""
    cpus: tuple[int, ...] = ()
    """The CPUs near it."""


def read_gpus(root: Path) -> tuple[Gpu, ...]:
    """The GPUs below `root`, in the order of their bus ids."""
    gpus = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        if _text(device / "vendor") != _VENDOR or not _text(device / "class").startswith(_CLASSES):
            continue
        information = {
            key.strip(): value.strip()
            for line in _text(root / "proc/driver/nvidia/gpus" / device.name / "information").splitlines()
            for key, _, value in [line.partition(":")]
        }
        node, minor = _text(device / "numa_node"), information.get("Device Minor", "")
        gpus.append(
            Gpu(
                bus_id=device.name,
                name=information.get("Model"),
                minor=int(minor) if minor.isdecimal() else None,
                numa_node=int(node) if node.isdecimal() else None,
                cpus=parse_cpu_list(_text(device / "local_cpulist")),
            )
        )
    return tuple(gpus)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
