"""Inference on GPUs: a worker a GPU, near it, with two cores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from pipeline.config.loader import LoadedConfig
from pipeline.errors import ConfigError
from pipeline.graph.description import StageDescription
from pipeline.graph.placement import place_workers
from pipeline.graph.plan import WorkerPlan
from pipeline.graph.pools import credits_of
from pipeline.topology.cpulist import format_cpu_list
from pipeline.topology.cpus import Cpus
from pipeline.topology.gpus import Gpu
from pipeline.topology.machine import Machine
from pipeline.topology.numa import NumaNode

Place = Callable[..., dict[str, tuple[WorkerPlan, ...]]]


def machine(cpus: int, *gpus: int | None, nodes: int = 1) -> Machine:
    """CPUs on equal nodes; each GPU by its node, None where that is unknown."""
    each = cpus // nodes
    return Machine(
        Cpus(tuple(range(cpus)), None),
        tuple(NumaNode(node, tuple(range(node * each, (node + 1) * each))) for node in range(nodes)),
        gpus=tuple(Gpu(f"0000:0{n}:00.0", "GPU", n, node) for n, node in enumerate(gpus)),
    )


@pytest.fixture
def place(load: Callable[[str], LoadedConfig], describe: Callable[..., StageDescription]) -> Place:
    def place(on: Machine, pre: str = "", infer: str = "") -> dict[str, tuple[WorkerPlan, ...]]:
        loaded = load(f"- {{name: pre, use: 'm:C', {pre}}}\n- {{name: infer, use: 'm:C', {infer}}}\n")
        on_gpu = replace(describe("x int8 1 -> x int8 1", inference=True), device="cuda", concurrency=4)
        descriptions = {"pre": describe("x int8 1 -> x int8 1"), "infer": on_gpu}
        findings = loaded.findings()
        placed = place_workers(loaded.config.stages, descriptions, on, findings)
        findings.refuse()
        return placed

    return place


def seats(workers: tuple[WorkerPlan, ...]) -> list[tuple[str, int | None, str]]:
    return [(format_cpu_list(worker.cpus), worker.numa_node, worker.device) for worker in workers]


def test_a_gpu_worker_has_two_cores_and_the_other_stages_the_rest(place: Place) -> None:
    placed = place(machine(16, None), pre="replicas: 3")
    assert seats(placed["infer"]) == [("0-1", 0, "cuda:0")]
    assert seats(placed["pre"]) == [("2-15", 0, "cpu")] * 3
    assert placed["infer"][0].env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert "CUDA_DEVICE_ORDER" not in placed["pre"][0].env


def test_there_is_a_worker_a_gpu_each_on_the_node_of_its_gpu(place: Place) -> None:
    placed = place(machine(32, 1, 0, 1, nodes=2))
    assert seats(placed["infer"]) == [("16-17", 1, "cuda:0"), ("0-1", 0, "cuda:1"), ("18-19", 1, "cuda:2")]


def test_on_few_cpus_nothing_is_bound(place: Place) -> None:
    assert seats(place(machine(2, 0))["infer"]) == [("", None, "cuda:0")]


def test_gpu_workers_never_take_all_the_cores_of_a_node(place: Place) -> None:
    placed = place(machine(4, 0, 0, 0))
    assert seats(placed["infer"]) == [("0-1", 0, "cuda:0"), ("2", 0, "cuda:1"), ("3", 0, "cuda:2")]
    assert seats(placed["pre"]) == [("3", 0, "cpu")]


def test_more_replicas_than_gpus_share_them(place: Place) -> None:
    assert [worker.device for worker in place(machine(16, 0, 0), infer="replicas: 3")["infer"]] == [
        "cuda:0", "cuda:1", "cuda:0",
    ]  # fmt: skip


def test_given_cpus_win_and_the_device_is_kept(place: Place) -> None:
    assert seats(place(machine(16, 0), infer="cpus: '8-9'")["infer"]) == [("8-9", 0, "cuda:0")]


@pytest.mark.parametrize("why", ["this machine has none", "CUDA_VISIBLE_DEVICES= leaves none of 0, 1"])
def test_without_a_gpu_the_stage_is_refused_with_the_reason(place: Place, why: str) -> None:
    with pytest.raises(ConfigError, match=f"it runs on a GPU with the options given; {why}"):
        place(msgspec.structs.replace(machine(16), why_no_gpu=why))


def test_a_worker_has_orders_for_as_many_batches_again_as_it_computes(load: Callable[[str], LoadedConfig]) -> None:
    (stage,) = load("- {name: infer, use: 'm:C', batch: {max_size: 8}}\n").config.stages
    assert credits_of(stage, 4) == 64
    assert credits_of(stage) == 16


def test_a_host_for_the_cpu_runs_on_the_gpu_that_a_colocated_stage_needs(place: Place) -> None:
    placed = place(machine(16, 0, 0), infer="colocate: true")
    assert seats(placed["pre"]) == [("0-1", 0, "cuda:0"), ("2-3", 0, "cuda:1")]
    assert placed["pre"] == placed["infer"]
    assert placed["pre"][0].env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_a_colocated_stage_that_needs_a_gpu_is_refused_at_its_own_place(place: Place) -> None:
    with pytest.raises(ConfigError, match=r"stages\[1\]\.use: it runs on a GPU"):
        place(machine(16), infer="colocate: true")
