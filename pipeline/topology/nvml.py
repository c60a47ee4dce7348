"""What NVIDIA's management library says about GPUs: those that this process may really use, with names and UUIDs.

In a container /sys shows every GPU of the host, and /proc/driver/nvidia may be absent: NVML shows what the
container was given. It comes with the driver; its Python module is nvidia-ml-py, of the extra `gpu`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["NvmlGpu", "read_nvml"]


@dataclass(frozen=True, slots=True)
class NvmlGpu:
    """One GPU as NVML describes it."""

    bus_id: str
    """As the kernel writes it: `0000:3b:00.0`."""
    name: str
    uuid: str
    minor: int


def read_nvml() -> tuple[NvmlGpu, ...] | None:
    """The GPUs, in NVML's order, which is that of the bus; None if NVML, its module or a driver is missing."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return tuple(_gpu(pynvml, handle) for handle in handles)
    except pynvml.NVMLError:  # a GPU that has fallen off the bus, or missing permissions: sysfs still has something
        return None
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, handle: Any) -> NvmlGpu:
    # 00000000:3B:00.0: the domain has eight digits, the kernel's has four.
    domain, _, rest = _text(nvml.nvmlDeviceGetPciInfo(handle).busId).lower().partition(":")
    return NvmlGpu(
        bus_id=f"{int(domain, 16):04x}:{rest}",
        name=_text(nvml.nvmlDeviceGetName(handle)),
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        minor=int(nvml.nvmlDeviceGetMinorNumber(handle)),
    )


def _text(value: str | bytes) -> str:
    """`value` as text: modules before version 11.5 give bytes."""
    return value.decode() if isinstance(value, bytes) else value
