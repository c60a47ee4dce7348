"""NVIDIA GPUs, the NUMA nodes near them, and the ones that CUDA_VISIBLE_DEVICES allows.

A GPU is a PCI function of vendor 0x10de and class 0x0300 (VGA) or 0x0302 (3D controller). Its name, number and
UUID come from NVML if it is available (`pipeline.topology.nvml`); otherwise from the driver's
/proc/driver/nvidia/gpus, if the driver is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from pipeline.topology.cpulist import parse_cpu_list
from pipeline.topology.nvml import NvmlGpu

__all__ = ["Gpu", "read_gpus", "visible_gpus"]

_VENDOR = "0x10de"
_CLASSES = ("0x0300", "0x0302")


class Gpu(msgspec.Struct, frozen=True):
    """One GPU on the PCI bus."""

    bus_id: str
    """As the kernel writes it: `0000:3b:00.0`."""
    name: str | None = None
    """None if the driver is not loaded."""
    minor: int | None = None
    """The N of /dev/nvidiaN; None if the driver is not loaded."""
    numa_node: int | None = None
    """None if the firmware does not say, which the kernel writes as -1."""
    cpus: tuple[int, ...] = ()
    """The CPUs near it."""
    uuid: str | None = None
    """`GPU-...`; None if the driver is not loaded."""


def read_gpus(root: Path, nvml: Sequence[NvmlGpu] | None = None) -> tuple[Gpu, ...]:
    """The GPUs below `root`, in the order of their bus ids.

    Args:
        nvml: the GPUs that NVML lists: if given, only these; the NUMA nodes still come from /sys.
    """
    if nvml is not None:
        return tuple(
            Gpu(gpu.bus_id, gpu.name, gpu.minor, *_place(root, gpu.bus_id), gpu.uuid)
            for gpu in sorted(nvml, key=lambda gpu: gpu.bus_id)
        )
    gpus = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        if _text(device / "vendor") != _VENDOR or not _text(device / "class").startswith(_CLASSES):
            continue
        information = {
            key.strip(): value.strip()
            for line in _text(root / "proc/driver/nvidia/gpus" / device.name / "information").splitlines()
            for key, _, value in [line.partition(":")]
        }
        minor = information.get("Device Minor", "")
        gpus.append(
            Gpu(
                device.name,
                information.get("Model"),
                int(minor) if minor.isdecimal() else None,
                *_place(root, device.name),
                information.get("GPU UUID"),
            )
        )
    return tuple(gpus)


def visible_gpus(gpus: Sequence[Gpu], visible: str | None) -> tuple[tuple[Gpu, ...], str]:
    """The GPUs that CUDA shows to a process, in CUDA's order; and the reason if there are none, otherwise "".

    Args:
        gpus: in the order of their bus ids: numbers refer to that order, since workers have
            CUDA_DEVICE_ORDER=PCI_BUS_ID.
        visible: CUDA_VISIBLE_DEVICES: numbers, UUIDs, or beginnings of UUIDs. As in CUDA, the first entry that is
            not a GPU ends the list. None: all.
    """
    # A GPU that the driver does not know cannot be used, and CUDA does not count it.
    usable = [gpu for gpu in gpus if gpu.minor is not None]
    if not usable:
        return (), "this machine has none" + (" that a driver is loaded for" if gpus else "")
    if visible is None:
        return tuple(usable), ""
    chosen: list[Gpu] = []
    for entry in visible.split(","):
        entry = entry.strip()
        if entry.startswith("MIG-"):
            return (), f"CUDA_VISIBLE_DEVICES={visible} names a part of a GPU (MIG), which is not supported: name GPUs"
        found = [
            gpu
            for number, gpu in enumerate(usable)
            if entry == str(number) or (entry.startswith("GPU-") and (gpu.uuid or "").startswith(entry))
        ]
        if len(found) != 1 or found[0] in chosen:
            break
        chosen += found
    known = ", ".join(f"{number} ({gpu.uuid})" if gpu.uuid else str(number) for number, gpu in enumerate(usable))
    return tuple(chosen), "" if chosen else f"CUDA_VISIBLE_DEVICES={visible} leaves none of {known}"


def _place(root: Path, bus_id: str) -> tuple[int | None, tuple[int, ...]]:
    """The NUMA node and the CPUs near a device."""
    device = root / "sys/bus/pci/devices" / bus_id
    node = _text(device / "numa_node")
    return int(node) if node.isdecimal() else None, parse_cpu_list(_text(device / "local_cpulist"))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
