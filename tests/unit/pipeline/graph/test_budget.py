"""What the pools take against what there is, and what the operator is told."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pipeline.errors import StartError
from pipeline.graph.budget import make_budget, short_of_one_more
from pipeline.graph.plan import BatchPlan, Plan, PoolPlan, StagePlan, WorkerPlan
from pipeline.topology.memory import MemoryLimits
from shm.layout import SegmentLayout

MIB = 1 << 20
PLAN = Plan(
    name="demo",
    config_path="demo.yaml",
    base_dir=".",
    inputs=(),
    stages=(),
    outputs=(),
    pools=(PoolPlan("ingress/0", 16 * MIB, 2), PoolPlan("infer", MIB, 40)),
)
TOTAL = SegmentLayout.total_bytes(2, 16 * MIB) + SegmentLayout.total_bytes(40, MIB)
LARGEST = SegmentLayout.total_bytes(40, MIB)
PLENTY = MemoryLimits(shm_free=1 << 40)


def refusal(plan: Plan, memory: MemoryLimits) -> str:
    with pytest.raises(StartError) as caught:
        make_budget(plan, memory).refuse()
    return str(caught.value)


def test_a_budget_sums_whole_segments() -> None:
    budget = make_budget(PLAN, PLENTY)
    assert budget.nbytes == TOTAL == sum(line.nbytes for line in budget.lines)
    assert [(line.pool, line.slots, line.slot_bytes) for line in budget.lines] == [("ingress/0", 2, 16 * MIB), ("infer", 40, MIB)]
    budget.refuse()


def test_exactly_enough_is_enough_and_a_byte_less_is_not() -> None:
    make_budget(PLAN, replace(PLENTY, shm_free=TOTAL)).refuse()
    assert "free in /dev/shm" in refusal(PLAN, replace(PLENTY, shm_free=TOTAL - 1))


def test_the_refusal_has_the_sum_what_is_free_and_what_to_change() -> None:
    assert refusal(PLAN, MemoryLimits(shm_free=60 * MIB)) == (
        "the pipeline's shared memory of 72.0 MiB does not fit:\n"
        "  free in /dev/shm: 72.0 MiB are needed, 60.0 MiB allowed\n"
        "the largest pool is infer: 40 slots of 1.0 MiB; make it smaller with --set infer.credits=N, "
        "--set infer.batch.max_size=N or fewer ingress.slots,\n"
        "or give the container more, such as docker run --shm-size=145m"
    )


def test_a_large_ingress_is_told_apart() -> None:
    plan = replace(PLAN, pools=PLAN.pools[:1])
    assert "make it smaller with --set ingress.slots=N or a smaller max in inputs:" in refusal(plan, MemoryLimits(shm_free=1))


def test_no_dev_shm_at_all_is_too_little() -> None:
    assert "free in /dev/shm: 72.0 MiB are needed, 0 B allowed" in refusal(PLAN, MemoryLimits())


@pytest.mark.parametrize(
    ("memory", "line", "remedy"),
    [
        ({"file_size": LARGEST - 1}, "file size (ulimit -f): 40.0 MiB are needed, 40.0 MiB allowed", "or raise ulimit -f"),
        ({"address_space": 1024}, "address space (ulimit -v): 72.0 MiB are needed, 1.0 KiB allowed", "or raise ulimit -v"),
        ({"available": MIB}, "available memory: 72.0 MiB are needed, 1.0 MiB allowed", "or free memory on this host"),
    ],
)
def test_every_other_limit_refuses_by_its_name(memory: dict[str, int], line: str, remedy: str) -> None:
    message = refusal(PLAN, replace(PLENTY, **memory))
    assert f"\n  {line}\n" in message
    assert message.endswith(remedy)


def test_the_largest_file_need_not_hold_all_of_them() -> None:
    make_budget(PLAN, replace(PLENTY, file_size=LARGEST)).refuse()


def test_system_v_segments_have_limits_of_their_own() -> None:
    plan = replace(PLAN, segment_kind="sysv")
    make_budget(plan, MemoryLimits(shm_free=0, file_size=0)).refuse()
    assert "kernel.shmmax" in refusal(plan, MemoryLimits(sysv_segment=LARGEST - 1, sysv_total=TOTAL))
    assert "kernel.shmall" in refusal(plan, MemoryLimits(sysv_segment=LARGEST, sysv_total=TOTAL - 1))


def test_several_limits_are_told_at_once() -> None:
    message = refusal(PLAN, MemoryLimits(shm_free=1, available=1))
    assert message.count("are needed") == 2
    assert message.count("\nor ") == 2


INFERENCE = StagePlan("infer", "m:C", {}, (), (), (), (), (), BatchPlan(), 4, (WorkerPlan("infer", 0), WorkerPlan("infer", 1)), host="infer")
STAFFED = replace(PLAN, stages=(INFERENCE,))
"""Two workers; with the scheduler, three processes."""


def test_a_cgroup_must_have_room_for_processes_and_weights_beside_the_slots() -> None:
    needed = TOTAL + 3 * 18 * MIB + 2 * 100 * MIB
    weights = {"infer": 100 * MIB}
    make_budget(STAFFED, replace(PLENTY, cgroup_headroom=needed), weights).refuse()
    with pytest.raises(StartError) as caught:
        make_budget(STAFFED, replace(PLENTY, cgroup_headroom=needed - 1), weights).refuse()
    assert str(caught.value) == (
        "cgroup memory left: at least 326.0 MiB are needed (72.0 MiB of slots, 18.0 MiB for each of 3 processes, "
        "200.0 MiB for the weights of models), 326.0 MiB allowed; raise the container's memory limit, "
        "or start fewer replicas"
    )


@pytest.mark.parametrize(
    ("field", "enough", "line"),
    [
        (
            "open_files", 19 + 2 * 3 + 5 * 3,
            "open files (ulimit -n): at least 40 are needed (by the supervisor of 3 processes), 39 allowed; "
            "raise ulimit -n, or start fewer replicas",
        ),
        (
            "threads", 2 + 4 * 4,
            "processes and threads left: at least 18 are needed (for 3 processes, and one that sends requests), 17 allowed; "
            "raise it (ulimit -u, or the pids limit of the container), or start fewer replicas",
        ),
    ],
)  # fmt: skip
def test_too_few_files_or_threads_are_refused_in_one_line(field: str, enough: int, line: str) -> None:
    make_budget(STAFFED, replace(PLENTY, **{field: enough})).refuse()
    assert refusal(STAFFED, replace(PLENTY, **{field: enough - 1})) == line


def test_stages_of_one_process_are_one_process() -> None:
    beside = replace(INFERENCE, name="beside")
    together = replace(STAFFED, stages=(INFERENCE, beside))
    (limit,) = (one for one in make_budget(together, replace(PLENTY, threads=99)).limits if not one.is_memory)
    assert limit.needed == 2 + 4 * 4


def test_slots_that_do_not_fit_are_told_beside_what_else_does_not() -> None:
    message = refusal(STAFFED, MemoryLimits(shm_free=1, threads=1)).splitlines()
    assert message[0] == "the pipeline's shared memory of 72.0 MiB does not fit:"
    assert message[-1].startswith("processes and threads left: at least 18 are needed")


def test_files_of_a_folder_are_held_against_what_that_has() -> None:
    plan = replace(PLAN, segment_kind="file", segment_dir="/run/shm")
    make_budget(plan, MemoryLimits(shm_free=TOTAL)).refuse()
    said = refusal(plan, MemoryLimits(shm_free=60 * MIB))
    assert "  free in /run/shm: 72.0 MiB are needed, 60.0 MiB allowed\n" in said
    assert said.endswith("or give the volume more (emptyDir: sizeLimit: 145Mi; a tmpfs: mount -o remount,size=145m)")


def test_the_rings_between_processes_count_beside_the_slots_and_not_in_dev_shm() -> None:
    after = replace(INFERENCE, name="score", host="score", after=("infer",), workers=(WorkerPlan("score", 0),) * 3)
    plan = replace(STAFFED, stages=(INFERENCE, after), link="ring")
    # A client and back, the scheduler to five workers and back, two of the first stage to three of the second.
    rings = 2 + 5 + 5 + 2 * 3
    assert make_budget(plan, PLENTY).rings == rings
    assert make_budget(replace(plan, link="zmq"), PLENTY).rings == 0
    together = replace(plan, stages=(INFERENCE, replace(after, host="infer", workers=INFERENCE.workers)))
    # Two processes with two workers each: a process hands on to the other one's only.
    assert make_budget(together, PLENTY).rings == 2 + 4 + 2 + 2
    more = rings * 68 * 1024
    make_budget(plan, replace(PLENTY, shm_free=TOTAL, available=TOTAL + more)).refuse()
    assert "available memory" in refusal(plan, replace(PLENTY, available=TOTAL + more - 1))
    needed = TOTAL + 6 * 18 * MIB + more
    make_budget(plan, replace(PLENTY, cgroup_headroom=needed)).refuse()
    assert "1.2 MiB for rings" in refusal(plan, replace(PLENTY, cgroup_headroom=needed - 1))


# -- one more worker ----------------------------------------------------------------------------------


def test_one_more_worker_needs_a_process_and_its_weights_and_no_shared_memory() -> None:
    assert short_of_one_more(0, MemoryLimits()) == ""
    enough = MemoryLimits(shm_free=0, available=118 * MIB, cgroup_headroom=118 * MIB, threads=4)
    assert short_of_one_more(100 * MIB, enough) == ""
    assert short_of_one_more(100 * MIB, replace(enough, available=118 * MIB - 1)) == (
        "available memory: at least 118.0 MiB are needed (18.0 MiB for a process, 100.0 MiB for weights), 118.0 MiB allowed; "
        "free memory on this host"
    )
    assert "raise the container's memory limit" in short_of_one_more(100 * MIB, replace(enough, cgroup_headroom=0))
    assert "processes and threads left: 4 are needed, 3 allowed" in short_of_one_more(0, replace(enough, threads=3))
