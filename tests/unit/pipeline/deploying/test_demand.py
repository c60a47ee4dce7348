"""What the pipeline's container needs for a plan."""

from __future__ import annotations

from msgspec.structs import replace

from pipeline.deploying.demand import Demand, demand_of
from pipeline.graph.budget import make_budget
from pipeline.graph.plan import BatchPlan, Plan, PoolPlan, StagePlan, WorkerPlan
from pipeline.topology.memory import MemoryLimits
from shm.layout import SegmentLayout
from stages.spec import TensorSpec

MIB = 1 << 20
IMAGE = TensorSpec("image", "float32", (3, 512, 512))
"""3 MiB."""


def stage(name: str, *workers: WorkerPlan, host: str = "", inputs: tuple[TensorSpec, ...] = (), batch: int = 1) -> StagePlan:
    return StagePlan(name, "m:C", {}, inputs, (), (), (), (), BatchPlan(batch), 4, workers, host=host or name)


LIGHT = stage("light", WorkerPlan("light", 0))
MODEL = stage("model", WorkerPlan("model", 0, threads=3), WorkerPlan("model", 1, threads=3), inputs=(IMAGE,), batch=4)
PLAN = Plan("demo", "demo.yaml", ".", (), (LIGHT, MODEL), (), (PoolPlan("ingress/0", MIB, 2), PoolPlan("light", MIB, 40)))
WEIGHTS = {"model": 100 * MIB}


def demand(plan: Plan = PLAN, cpus: float = 64, weights: dict[str, int] = WEIGHTS) -> Demand:
    return demand_of(plan, make_budget(plan, MemoryLimits(), weights), cpus)


def test_the_segments_are_those_of_the_budget_and_that_of_the_flight_records() -> None:
    pools = SegmentLayout.total_bytes(2, MIB) + SegmentLayout.total_bytes(40, MIB)
    # A record for each of three workers, and one for a worker that replaces another.
    assert demand().segments == pools + SegmentLayout.total_bytes(4, 4096)


def test_the_segments_of_a_dead_scheduler_and_of_the_next_one_are_there_at_once() -> None:
    assert demand().shared == 2 * demand().segments


def test_supervisor_scheduler_and_two_probes_count_beside_the_workers() -> None:
    assert demand().processes == 3 + 2 + 2


def test_stages_that_share_a_process_are_one() -> None:
    together = replace(PLAN, stages=(LIGHT, replace(LIGHT, name="beside"), MODEL))
    assert demand(together).processes == demand().processes


def test_a_process_has_64_mib_and_each_worker_its_model_with_what_lies_between_the_layers() -> None:
    # Two workers: the weights twice, 32 times the inputs of a batch of four.
    assert demand().process_bytes == 7 * 64 * MIB + 2 * (2 * 100 + 32 * 4 * 3) * MIB
    assert demand(weights={}).process_bytes == 7 * 64 * MIB


def test_the_cpus_are_the_threads_of_all_workers_and_the_scheduler() -> None:
    assert demand().cpus == 1 + 2 * 3 + 1


def test_there_are_no_more_cpus_than_the_plan_was_made_for() -> None:
    assert demand(cpus=2.5).cpus == 2.5


def on_gpus(*devices: str) -> Plan:
    workers = tuple(WorkerPlan("model", number, device=device) for number, device in enumerate(devices))
    return replace(PLAN, stages=(LIGHT, replace(MODEL, workers=workers)))


def test_a_plan_on_two_gpus_needs_two_however_many_workers_share_them() -> None:
    assert demand().gpus == 0
    assert demand(on_gpus("cuda:0")).gpus == 1
    assert demand(on_gpus("cuda:0", "cuda:1", "cuda:0")).gpus == 2


def test_a_worker_on_a_gpu_has_two_cores_and_memory_of_the_host() -> None:
    found = demand(on_gpus("cuda:0", "cuda:1"), weights={})
    assert found.cpus == 1 + 2 * 2 + 1
    assert found.process_bytes == 7 * 64 * MIB + 2 * (1 << 30)
