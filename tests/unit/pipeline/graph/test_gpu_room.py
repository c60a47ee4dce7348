"""Whether the memory that is free on GPUs is enough for workers beside those that run already."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.graph.gpu_room import gpu_shortage
from pipeline.graph.plan import WorkerPlan
from pipeline.topology.nvml import GpuMemory

GIB = 1 << 30


def worker(title: str, device: str = "cuda:0") -> WorkerPlan:
    process, _, replica = title.rpartition("/")
    return WorkerPlan(process, int(replica), device=device)


def gpu(free: float | None, by_pid: Mapping[int, float]) -> GpuMemory:
    return GpuMemory("GPU-0", None if free is None else int(free * GIB), {pid: int(size * GIB) for pid, size in by_pid.items()})


RUNNING = {"infer/0": [100], "infer/1": [101], "post/0": [102], "scheduler": [99]}
BOTH = [worker("infer/0"), worker("infer/1")]


def test_a_new_version_needs_room_for_all_of_its_workers_of_a_gpu_at_once() -> None:
    short = gpu_shortage(BOTH, RUNNING, {"cuda:0": gpu(5.5, {100: 3, 101: 3})}, at_once=True)
    assert short == (
        "cuda:0 has 5.5 GiB of memory free, and 2 new workers take about 6.0 GiB there beside the old ones, by what those "
        "have now"
    )
    assert gpu_shortage(BOTH, RUNNING, {"cuda:0": gpu(6, {100: 3, 101: 3})}, at_once=True) == ""


def test_a_stage_needs_room_for_the_largest_of_its_workers() -> None:
    memory = {"cuda:0": gpu(3.5, {100: 3, 101: 4})}
    assert "and a new worker takes about 4.0 GiB there" in gpu_shortage(BOTH, RUNNING, memory, at_once=False)
    assert gpu_shortage(BOTH, RUNNING, {"cuda:0": gpu(4, {100: 3, 101: 4})}, at_once=False) == ""


def test_each_gpu_is_looked_at_for_itself_and_a_worker_that_moves_is_counted_where_it_comes() -> None:
    apart = [worker("infer/0"), worker("infer/1", "cuda:1")]
    memory = {"cuda:0": gpu(3, {100: 3}), "cuda:1": gpu(2, {101: 3})}
    (short,) = gpu_shortage(apart, RUNNING, memory, at_once=True).split("; ")
    assert short.startswith("cuda:1 has 2.0 GiB")
    moved = gpu_shortage([worker("infer/0", "cuda:1")], RUNNING, memory, at_once=True)
    assert moved.startswith("cuda:1 has 2.0 GiB")


def test_a_replica_that_is_new_is_taken_to_need_what_the_largest_of_the_others_has() -> None:
    more = [*BOTH, worker("infer/2")]
    memory = {"cuda:0": gpu(9, {100: 3, 101: 4, 102: 50})}
    assert "3 new workers take about 11.0 GiB" in gpu_shortage(more, RUNNING, memory, at_once=True)


def test_what_is_not_known_refuses_nothing() -> None:
    # Another stage, a CPU, a GPU of which NVML says nothing, pids of the host seen from a container, no free memory told.
    for workers, memory in (
        ([worker("other/0")], {"cuda:0": gpu(0, {100: 3})}),
        ([worker("infer/0", "cpu")], {"cuda:0": gpu(0, {100: 3})}),
        (BOTH, {}),
        (BOTH, {"cuda:0": gpu(0, {90_100: 3})}),
        (BOTH, {"cuda:0": gpu(None, {100: 3})}),
    ):
        assert gpu_shortage(workers, RUNNING, memory, at_once=True) == ""
