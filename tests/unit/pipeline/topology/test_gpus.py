"""NVIDIA GPUs on the PCI bus, with and without their driver."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.topology.gpus import Gpu, read_gpus

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
            "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 90\nDevice Minor: \t 3\nGPU Excluded:\t No"
        ),
    }
    first, second = read_gpus(tree(files))
    assert first == Gpu("0000:3b:00.0", "NVIDIA H100 80GB HBM3", 3, 0, (0, 1, 2, 3))
    assert (second.bus_id, second.name, second.minor, second.numa_node) == ("0000:d8:00.0", None, None, 1)
    assert len(second.cpus) == 64


def test_a_node_that_the_firmware_does_not_say_is_none(tree: Tree) -> None:
    (gpu,) = read_gpus(tree(device("0000:00:04.0", "0x10de", "0x030000", node="-1", cpus="0-1")))
    assert (gpu.numa_node, gpu.cpus) == (None, (0, 1))
