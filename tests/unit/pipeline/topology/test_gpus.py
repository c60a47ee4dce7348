"""NVIDIA GPUs on the PCI bus, with and without their driver."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from pipeline.topology.gpus import Gpu, read_gpus, visible_gpus
from pipeline.topology.machine import read_machine
from pipeline.topology.nvml import GpuMemory, GpuUsage, NvmlGpu, read_memory, read_nvml, read_usage

Tree = Callable[[Mapping[str, str]], Path]


def device(bus_id: str, vendor: str, kind: str, node: str = "-1", cpus: str = "") -> dict[str, str]:
    folder = f"sys/bus/pci/devices/{bus_id}"
    return {
        f"{folder}/vendor": vendor,
        f"{folder}/class": kind,
        f"{folder}/numa_node": node,
        f"{folder}/local_cpulist": cpus,
    }


def test_a_machine_without_gpus_has_none(tree: Tree) -> None:
    assert read_gpus(tree(device("0000:00:02.0", "0x8086", "0x030000"))) == ()


def test_gpus_are_found_in_the_order_of_the_bus(tree: Tree) -> None:
    files = {
        **device("0000:d8:00.0", "0x10de", "0x030200", node="1", cpus="32-63,96-127"),
        **device("0000:3b:00.0", "0x10de", "0x030200", node="0", cpus="0-3"),
        **device("0000:3b:00.1", "0x10de", "0x040300", node="0"),  # its audio function
        "proc/driver/nvidia/gpus/0000:3b:00.0/information": (
            "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 90\nGPU UUID: \t GPU-8932f937-d72c\nDevice Minor: \t 3\n"
        ),
    }
    first, second = read_gpus(tree(files))
    assert first == Gpu("0000:3b:00.0", "NVIDIA H100 80GB HBM3", 3, 0, (0, 1, 2, 3), "GPU-8932f937-d72c")
    assert (second.bus_id, second.name, second.minor, second.numa_node) == ("0000:d8:00.0", None, None, 1)
    assert len(second.cpus) == 64


def test_a_node_that_the_firmware_does_not_say_is_none(tree: Tree) -> None:
    (gpu,) = read_gpus(tree(device("0000:00:04.0", "0x10de", "0x030000", node="-1", cpus="0-1")))
    assert (gpu.numa_node, gpu.cpus) == (None, (0, 1))


def test_what_nvml_says_goes_before_the_bus_which_still_tells_the_place(tree: Tree) -> None:
    files = {
        **device("0000:d8:00.0", "0x10de", "0x030200", node="1", cpus="2-3"),
        **device("0000:3b:00.0", "0x10de", "0x030200", node="0", cpus="0-1"),  # another container's
    }
    nvml = [NvmlGpu("0000:d8:00.0", "NVIDIA L4", "GPU-1", 5)]
    assert read_gpus(tree(files), nvml) == (Gpu("0000:d8:00.0", "NVIDIA L4", 5, 1, (2, 3), "GPU-1"),)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module pynvml, as far as it is used, of a machine with two GPUs."""
    module = ModuleType("pynvml")
    module.NVMLError = type("NVMLError", (Exception,), {})
    module.calls = []
    module.nvmlInit = lambda: module.calls.append("init")
    module.nvmlShutdown = lambda: module.calls.append("shutdown")
    module.nvmlDeviceGetCount = lambda: 2
    module.nvmlDeviceGetHandleByIndex = lambda index: index
    module.nvmlDeviceGetPciInfo = lambda handle: SimpleNamespace(busId=["00000000:3B:00.0", b"00000001:D8:00.0"][handle])
    module.nvmlDeviceGetName = lambda handle: ["NVIDIA L4", b"NVIDIA L4"][handle]
    module.nvmlDeviceGetUUID = lambda handle: f"GPU-{handle}"
    module.nvmlDeviceGetMinorNumber = lambda handle: 7 - handle
    module.nvmlDeviceGetUtilizationRates = lambda handle: SimpleNamespace(gpu=25 * handle, memory=99)
    module.nvmlDeviceGetMemoryInfo = lambda handle: SimpleNamespace(total=1 << 34, used=3 << 30, free=13 << 30)
    module.nvmlDeviceGetPowerUsage = lambda handle: 70_500
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


def test_nvml_is_asked_and_let_go(nvml: ModuleType) -> None:
    assert read_nvml() == (
        NvmlGpu("0000:3b:00.0", "NVIDIA L4", "GPU-0", 7),
        NvmlGpu("0001:d8:00.0", "NVIDIA L4", "GPU-1", 6),
    )
    assert nvml.calls == ["init", "shutdown"]


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetName"])
def test_where_nvml_fails_it_says_nothing(nvml: ModuleType, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def refuse(*_: object) -> None:
        raise nvml.NVMLError("driver not loaded")

    monkeypatch.setattr(nvml, call, refuse)
    assert read_nvml() is None
    assert nvml.calls == ([] if call == "nvmlInit" else ["init", "shutdown"])


def test_what_gpus_do_is_told_in_base_units(nvml: ModuleType) -> None:
    first, second = read_usage()
    assert first == GpuUsage("GPU-0", "NVIDIA L4", 0.0, 1 << 34, 3 << 30, 70.5)
    assert (second.uuid, second.busy) == ("GPU-1", 0.25)
    assert nvml.calls == ["init", "shutdown"]


def test_who_has_the_memory_of_a_gpu_is_told_as_far_as_the_driver_says(
    nvml: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = [SimpleNamespace(pid=7, usedGpuMemory=2 << 30), SimpleNamespace(pid=8, usedGpuMemory=None)]
    nvml.nvmlDeviceGetComputeRunningProcesses = lambda handle: processes if handle else []
    assert read_memory() == (GpuMemory("GPU-0", 13 << 30, {}), GpuMemory("GPU-1", 13 << 30, {7: 2 << 30}))

    def refuse(*_: object) -> None:
        raise nvml.NVMLError("not supported")

    for call in ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetComputeRunningProcesses"):
        monkeypatch.setattr(nvml, call, refuse)
    assert read_memory() == (GpuMemory("GPU-0", None, {}), GpuMemory("GPU-1", None, {}))
    monkeypatch.setattr(nvml, "nvmlInit", refuse)
    assert read_memory() == ()


@pytest.mark.parametrize(
    ("call", "unknown"),
    [
        ("nvmlDeviceGetUtilizationRates", {"busy"}),
        ("nvmlDeviceGetMemoryInfo", {"memory_bytes", "memory_used_bytes"}),
        ("nvmlDeviceGetPowerUsage", {"power_w"}),
    ],
)
def test_what_a_gpu_does_not_say_is_missing_and_the_rest_is_told(
    nvml: ModuleType, monkeypatch: pytest.MonkeyPatch, call: str, unknown: set[str]
) -> None:
    def refuse(*_: object) -> None:
        raise nvml.NVMLError("not supported")

    monkeypatch.setattr(nvml, call, refuse)
    for gpu in read_usage():
        assert {name for name, value in gpu._asdict().items() if value is None} == unknown


def test_without_nvml_no_gpu_tells_what_it_does(nvml: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise nvml.NVMLError("driver not loaded")

    monkeypatch.setattr(nvml, "nvmlInit", refuse)
    assert read_usage() == ()


def test_without_its_module_nvml_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert read_nvml() is None
    assert read_usage() == ()


GPUS = tuple(Gpu(f"0000:0{n}:00.0", "GPU", n, uuid=f"GPU-{uuid}-1") for n, uuid in enumerate(("aa", "ab", "b0")))


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [0, 1, 2]),
        ("2,0", [2, 0]),
        (" 1 ", [1]),
        ("GPU-b0-1,GPU-aa", [2, 0]),
        ("0,GPU-b", [0, 2]),
        # As in CUDA, what is no GPU ends the list.
        ("1,-1,0", [1]),
        ("0,7,1", [0]),
        ("2,GPU-a,0", [2]),  # two begin so
        ("1,1,0", [1]),
    ],
)
def test_cuda_visible_devices_chooses_and_orders(visible: str | None, expected: list[int]) -> None:
    assert visible_gpus(GPUS, visible) == (tuple(GPUS[number] for number in expected), "")


@pytest.mark.parametrize("visible", ["", "-1", "NoDevFiles", "GPU-cc"])
def test_where_cuda_visible_devices_leaves_none_it_is_said(visible: str) -> None:
    gpus, why = visible_gpus(GPUS, visible)
    assert gpus == ()
    assert why == f"CUDA_VISIBLE_DEVICES={visible} leaves none of 0 (GPU-aa-1), 1 (GPU-ab-1), 2 (GPU-b0-1)"


@pytest.mark.parametrize("visible", ["MIG-GPU-aa-1/0/0", "0,MIG-7cf1"])
def test_a_part_of_a_gpu_is_refused(visible: str) -> None:
    assert visible_gpus(GPUS, visible) == (
        (), f"CUDA_VISIBLE_DEVICES={visible} names a part of a GPU (MIG), which is not supported: name GPUs"
    )  # fmt: skip


def test_a_gpu_without_its_driver_does_not_count() -> None:
    assert visible_gpus([Gpu("0000:01:00.0"), GPUS[0]], "0") == ((GPUS[0],), "")
    assert visible_gpus([Gpu("0000:01:00.0")], None) == ((), "this machine has none that a driver is loaded for")


def test_a_machine_has_the_gpus_that_are_visible(tree: Tree) -> None:
    information = "proc/driver/nvidia/gpus/{}/information"
    files = {
        **device("0000:3b:00.0", "0x10de", "0x030200"),
        **device("0000:d8:00.0", "0x10de", "0x030200"),
        information.format("0000:3b:00.0"): "Device Minor: 0",
        information.format("0000:d8:00.0"): "Device Minor: 1",
    }
    root = tree(files)
    assert [gpu.minor for gpu in read_machine(root, affinity=[0]).gpus] == [0, 1]
    assert [gpu.minor for gpu in read_machine(root, affinity=[0], visible="1").gpus] == [1]
    none = read_machine(root, affinity=[0], visible="")
    assert (none.gpus, none.why_no_gpu) == ((), "CUDA_VISIBLE_DEVICES= leaves none of 0, 1")
