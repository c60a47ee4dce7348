"""What NVIDIA's management library says about GPUs: those that this process may really use, with names and UUIDs.

In a container /sys shows every GPU of the host, and /proc/driver/nvidia may be absent: NVML shows what the
container was given. It comes with the driver; its Python module is nvidia-ml-py, of the extra `gpu`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

__all__ = ["GpuMemory", "GpuUsage", "NvmlGpu", "read_memory", "read_nvml", "read_usage"]


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class NvmlGpu:
    """One GPU as NVML describes it."""

    bus_id: str
    """As the kernel writes it: `0000:3b:00.0`."""
    name: str
    uuid: str
    minor: int


class GpuUsage(NamedTuple):
    """What one GPU is doing. None: this model, or its driver, does not say."""

    uuid: str
    name: str
    busy: float | None
    """The share of the last sampling period, of a second at most, in which something ran on it; 0 to 1."""
    memory_bytes: int | None
    memory_used_bytes: int | None
    """Of all processes that use it, with what the driver reserves for itself."""
    power_w: float | None


class GpuMemory(NamedTuple):
    """What one GPU has left, and who has the rest."""

    uuid: str
    free_bytes: int | None
    """None: this model, or its driver, does not say."""
    by_pid: Mapping[int, int]
    """Bytes of each process on it, as far as the driver says; in a container the pids may be those of the host."""


def read_nvml() -> tuple[NvmlGpu, ...] | None:
    """The GPUs, in NVML's order, which is that of the bus; None if NVML, its module or a driver is missing."""
    return _of_each(_gpu)


def read_usage() -> tuple[GpuUsage, ...]:
    """What the GPUs are doing now, in NVML's order; none if NVML, its module or a driver is missing."""
    return _of_each(_usage) or ()


def read_memory() -> tuple[GpuMemory, ...]:
    """The memory of the GPUs now, in NVML's order; none if NVML, its module or a driver is missing."""
    return _of_each(_memory) or ()


def _of_each(read: Callable[[Any, Any], _T]) -> tuple[_T, ...] | None:
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
        return tuple(read(pynvml, handle) for handle in handles)
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


def _usage(nvml: Any, handle: Any) -> GpuUsage:
    busy = _said(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    memory = _said(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    milliwatts = _said(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    return GpuUsage(
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        name=_text(nvml.nvmlDeviceGetName(handle)),
        busy=None if busy is None else busy / 100,
        memory_bytes=None if memory is None else int(memory.total),
        memory_used_bytes=None if memory is None else int(memory.used),
        power_w=None if milliwatts is None else milliwatts / 1000,
    )


def _memory(nvml: Any, handle: Any) -> GpuMemory:
    memory = _said(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    processes = _said(nvml, lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle)) or ()
    return GpuMemory(
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        free_bytes=None if memory is None else int(memory.free),
        by_pid={process.pid: int(process.usedGpuMemory) for process in processes if process.usedGpuMemory is not None},
    )


def _said(nvml: Any, ask: Callable[[], Any]) -> Any:
    """What NVML answers; None if it does not know it of this GPU, as power of some models, or use of one with MIG."""
    try:
        return ask()
    except nvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    """`value` as text: modules before version 11.5 give bytes."""
    return value.decode() if isinstance(value, bytes) else value
